"""Locks that a process holds on a file. They are POSIX's: they end with the process, however it ends."""

import fcntl
import logging
from pathlib import Path
from typing import TextIO

log = logging.getLogger(__name__)


def hold(path: Path) -> TextIO:
    """Lock a file, which is made if need be, until the handle is closed or the process ends.

    Raises BlockingIOError where another process holds it, OSError where the file cannot be written. Not
    flock, which data workers inherit: for seconds they would outlive a killed run and hold it.
    """
    file = path.open("a")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # POSIX leaves the choice
        file.close()
        raise BlockingIOError(f"{path}: held by another process") from error
    except OSError as error:  # some network file systems have no locks
        log.warning("%s: cannot be locked (%s). Let one process write here.", path, error)
    return file


def is_held(path: Path) -> bool:
    """Whether another process holds it. Asked by the holder itself it would end the lock, and say no."""
    try:
        if path.exists():
            hold(path).close()
    except BlockingIOError:
        return True
    return False
