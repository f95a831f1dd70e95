"""A folder in shared memory for as long as a process uses it."""

import atexit
import fcntl
import os
import shutil
from pathlib import Path

from src.errors import UserError

SHARED_MEMORY = Path("/dev/shm")
"""Linux only."""


# Locks do not conflict within a process: each folder is joined and left once.
_joined: dict[Path, int] = {}


def shared_folder(name: str) -> Path:
    """A folder of that name in memory, the same for all processes of this user.

    The last process that asked for it removes it at its end. One that is killed leaves it to the next: to
    one that asks for the same name as it is, to one that asks for another to remove.
    """
    folder = place_of(name)
    if folder not in _joined:
        for other in folder.parent.glob(f"{_ours()}-*"):
            if other != folder and other not in _joined:
                _remove_unused(other)
        _joined[folder] = _join(folder)
        atexit.register(_leave, folder, os.getpid())
    return folder


def place_of(name: str) -> Path:
    """Where `shared_folder` has the folder. Raises UserError where there is no file system in memory."""
    if not SHARED_MEMORY.is_dir():
        raise UserError(
            f"data.cache=ram: this system has no {SHARED_MEMORY}. data.cache=disk is as fast where the "
            f"frames fit into the memory that is free."
        )
    return SHARED_MEMORY / f"{_ours()}-{name}"


def _ours() -> str:
    return f"cgnet-frames-{os.getuid()}"


def _join(folder: Path) -> int:
    """A lock that is shared by all users of the folder."""
    while True:
        folder.mkdir(exist_ok=True, mode=0o700)
        try:
            users = os.open(folder / ".users", os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # the last user removed the folder in between, and below
            continue
        fcntl.lockf(users, fcntl.LOCK_SH)
        if _is_lock_of(folder, users):
            return users
        os.close(users)


def _leave(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # not a forked worker
        _remove_if_alone(folder, _joined.pop(folder))


def leave_shared_folders() -> None:
    """For a process that is about to end without the interpreter's own end."""
    for folder in list(_joined):
        _remove_if_alone(folder, _joined.pop(folder))


def _remove_unused(folder: Path) -> None:
    try:
        users = os.open(folder / ".users", os.O_RDWR)
    except OSError:
        return
    _remove_if_alone(folder, users)


def _remove_if_alone(folder: Path, users: int) -> None:
    try:
        fcntl.lockf(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_lock_of(folder, users):  # not of one that others have removed and made anew
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass  # others use it
    finally:
        os.close(users)


def _is_lock_of(folder: Path, users: int) -> bool:
    try:
        return os.fstat(users).st_ino == (folder / ".users").stat().st_ino
    except FileNotFoundError:
        return False
