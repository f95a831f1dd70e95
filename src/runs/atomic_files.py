"""Files are written completely or not at all, and an error says how much room was needed and free."""

import errno
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.errors import UserError


def nearest_existing(path: Path) -> Path:
    """The path itself if it exists; otherwise the nearest folder above it that does."""
    path = path.expanduser().absolute()
    return next(place for place in (path, *path.parents) if place.exists())


class CannotWriteError(UserError, OSError):
    """A file of a run could not be written; an earlier file of that name is unchanged.

    It is also an OSError, for callers that can continue without the file.
    """


def write_bytes(path: Path, data: bytes | memoryview, durable: bool = False) -> None:
    """Write a file completely or not at all: first under another name in its folder, then renamed.

    The folder has to exist.

    Raises CannotWriteError that says how much room is needed and how much there is.

    Args:
        durable: wait until the data is on the disk; otherwise a power failure may leave a file of zeros.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with suppress(
                OSError
            ):  # the folder may have become read-only; the first error is the one to report
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWriteError(f"{path}: cannot be written, {_reason(error, path, len(data))}.") from error


def _reason(error: OSError, path: Path, needed: int) -> str:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return str(error.strerror or error)
    free = shutil.disk_usage(nearest_existing(path)).free
    return f"{error.strerror}: it takes {needed / 1e6:.3g} MB, {free / 1e6:.3g} MB are free"


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any, *, durable: bool = False) -> None:
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode(), durable=durable)


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used, so that nothing of it is lost; returns its new path."""
    number = 1
    while (place := path.with_name(f"{path.name}.damaged{number if number > 1 else ''}")).exists():
        number += 1
    return path.rename(place)
