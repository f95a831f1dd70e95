"""One decoded pair as a file: a header, the image (H, W, 3) uint8 RGB, the target (H, W) uint8 train ids.

A file is written completely or not at all, and its header identifies what it was made of: no index is needed.
"""

import mmap
import os
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np

from src.data.files import stamp
from src.data.layouts import Pair
from src.errors import UserError
from src.labels import LabelTable

_MAGIC = b"CGNFRM01"  # has to change with the format and with the way of decoding
_HEADER = struct.Struct("<8s 5q q 3I")
_HEADER_BYTES = 128


class StaleFrameError(Exception):
    """A frame has to be made again, for this reason. `damaged`: the file is broken, not just out of date."""

    def __init__(self, reason: str, damaged: bool = False):
        super().__init__(reason)
        self.damaged = damaged


def table_key(table: LabelTable) -> bytes:
    """Identifies the label table and this format: frames with different keys are not interchangeable."""
    return _MAGIC + table.fingerprint


@dataclass(frozen=True)
class Origin:
    """Identifies what a frame is made of; changes when the image, the label or the label table does."""

    numbers: tuple[int, ...]

    @classmethod
    def of(cls, pair: Pair, table: LabelTable) -> "Origin":
        label = (0, 0) if pair.label is None else stamp(pair.label)
        return cls((*stamp(pair.image), *label, zlib.crc32((pair.table or table).fingerprint)))


@dataclass(frozen=True)
class _Header:
    origin: Origin
    written: int  # the file's modification time, in nanoseconds
    height: int
    width: int
    checksum: int

    def pack(self) -> bytes:
        fields = (*self.origin.numbers, self.written, self.height, self.width, self.checksum)
        return _HEADER.pack(_MAGIC, *fields).ljust(_HEADER_BYTES, b"\0")

    @classmethod
    def parse(cls, data: bytes) -> "_Header | None":
        if len(data) < _HEADER_BYTES or not data.startswith(_MAGIC):
            return None
        _, *origin, written, height, width, checksum = _HEADER.unpack_from(data)
        return cls(Origin(tuple(origin)), written, height, width, checksum)


def frame_bytes(size: Sequence[int]) -> int:
    """Size of the file for a frame of (height, width)."""
    return _HEADER_BYTES + 4 * size[0] * size[1]


def write_frame(path: Path, image: np.ndarray, target: np.ndarray, origin: Origin) -> None:
    """Write a frame; atomic, even if the power fails. Several processes may write the same frame at once."""
    # Whole even seconds, which every file system can store: a file with another modification time has been
    # modified since.
    written = time.time_ns() // 2_000_000_000 * 2_000_000_000
    height, width = target.shape
    header = _Header(origin, written, height, width, _checksum(image, target)).pack()
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb", buffering=0) as file:
            for part in (header, image, target):
                _write_all(file, part)
            os.fsync(file.fileno())  # else a power failure can leave zeros under the final name
        os.utime(temporary, ns=(written, written))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_all(file: FileIO, data: bytes | np.ndarray) -> None:
    left = memoryview(data if isinstance(data, bytes) else data.data).cast("B")
    while left:  # a single write takes 2 GB at most, sometimes less
        left = left[file.write(left) :]


def read_frame(path: Path, origin: Origin | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Image and target as read-only views of the file: a page is read from disk when it is first used.

    Raises UserError where the frame is damaged, or has another origin than `origin`.
    """
    try:
        with path.open("rb", buffering=0) as file:
            header = _Header.parse(file.read(_HEADER_BYTES))
            expected = header and frame_bytes((header.height, header.width))
            if header is None or os.fstat(file.fileno()).st_size != expected:
                raise UserError(
                    f"{path}: this cached frame is damaged. The same command makes it again (and all frames, "
                    f"if you delete {path.parent} first); data.cache=none needs no cached frames."
                )
            if origin is not None and header.origin != origin:
                raise UserError(
                    f"{path}: another process has made this cached frame again, because its image or label "
                    f"has changed. Has the dataset been replaced? The same command uses the new frames."
                )
            pixels = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except OSError as error:
        raise UserError(
            f"{path}: this cached frame cannot be read ({error.strerror}). Has the cache been deleted while "
            f"it was in use? The same command makes it again; data.cache=none needs no cached frames."
        ) from error
    split = _HEADER_BYTES + 3 * header.height * header.width
    size = (header.height, header.width)
    return pixels[_HEADER_BYTES:split].reshape(*size, 3), pixels[split:].reshape(size)


def check_frame(path: Path, origin: Origin, thorough: bool = False) -> None:
    """Raises StaleFrameError unless the file is the complete, undamaged frame of `origin`.

    Pixels are compared with their checksum only if the file has been modified since it was written, or in a
    `thorough` check.
    """
    try:
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            header = _Header.parse(file.read(_HEADER_BYTES))
    except FileNotFoundError:
        raise StaleFrameError("missing") from None
    except OSError as error:
        raise StaleFrameError(f"cannot be read ({error.strerror})", damaged=True) from error
    if header is None or status.st_size != frame_bytes((header.height, header.width)):
        raise StaleFrameError("damaged: not a complete frame", damaged=True)
    if header.origin != origin:
        raise StaleFrameError("its image, its label or the label table has changed")
    if thorough or status.st_mtime_ns != header.written:
        image, target = read_frame(path)
        if _checksum(image, target) != header.checksum:
            raise StaleFrameError("damaged: wrong checksum", damaged=True)
        with suppress(OSError):  # another user's file, or read-only: it is compared again next time
            os.utime(path, ns=(header.written, header.written))


def _checksum(image: np.ndarray, target: np.ndarray) -> int:
    return zlib.crc32(target.data, zlib.crc32(image.data))
