"""Locks that a process holds on a file. POSIX locks end with the process, however it ends."""

import fcntl
import logging
from pathlib import Path
from typing import TextIO

log = logging.getLogger(__name__)


def hold(path: Path) -> TextIO:
    """Lock a file, which is made if necessary, until the handle is closed or the process ends.

    Raises BlockingIOError if another process holds it, OSError if the file cannot be written. Not flock:
    data workers inherit such a lock, and would hold it for some seconds after their run was killed.
    """
    file = path.open("a")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # POSIX allows either
        file.close()
        raise BlockingIOError(f"{path}: held by another process") from error
    except OSError as error:  # some network file systems have no locks
        log.warning("%s: cannot be locked (%s). Let only one process write here.", path, error)
    return file


def is_held(path: Path) -> bool:
    """Whether another process holds the lock. Called by the holder, it would release the lock and say no."""
    try:
        if path.exists():
            hold(path).close()
    except BlockingIOError:
        return True
    return False
