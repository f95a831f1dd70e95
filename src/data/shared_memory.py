"""A folder in shared memory for as long as a process uses it."""

import atexit
import fcntl
import os
import shutil
from pathlib import Path

from src.errors import UserError

SHARED_MEMORY = Path("/dev/shm")
"""Linux only."""


def shared_folder(name: str) -> Path:
    """A folder of that name in memory, the same for all processes of this user.

    The last process that asked for it removes it at its end. One that is killed leaves it to the next: to
    one that asks for the same name as it is, to one that asks for another to remove.
    """
    if not SHARED_MEMORY.is_dir():
        raise UserError(
            f"data.cache=ram: this system has no {SHARED_MEMORY}. data.cache=disk is as fast where the "
            f"frames fit into the memory that is free."
        )
    ours = f"cgnet-frames-{os.getuid()}"
    folder = SHARED_MEMORY / f"{ours}-{name}"
    for other in SHARED_MEMORY.glob(f"{ours}-*"):
        if other != folder:
            _remove_unused(other)
    users = _join(folder)
    atexit.register(_leave, folder, users, os.getpid())
    return folder


def _join(folder: Path) -> int:
    """A lock that is shared by all users of the folder."""
    while True:
        folder.mkdir(exist_ok=True, mode=0o700)
        try:
            users = os.open(folder / ".users", os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue
        fcntl.lockf(users, fcntl.LOCK_SH)
        try:
            if os.fstat(users).st_ino == (folder / ".users").stat().st_ino:
                return users
        except FileNotFoundError:  # the last user removed the folder in between, as above
            pass
        os.close(users)


def _leave(folder: Path, users: int, pid: int) -> None:
    if os.getpid() == pid:  # not a forked worker
        _remove_if_alone(folder, users)


def _remove_unused(folder: Path) -> None:
    try:
        users = os.open(folder / ".users", os.O_RDWR)
    except OSError:
        return
    _remove_if_alone(folder, users)


def _remove_if_alone(folder: Path, users: int) -> None:
    try:
        fcntl.lockf(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass  # others use it
    finally:
        os.close(users)
