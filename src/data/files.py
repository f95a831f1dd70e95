"""Reading PNG files: what a header says without decoding, and decoding with errors that name the file."""

import struct
from pathlib import Path

import cv2
import numpy as np

from src.data.zips import ZipPath
from src.errors import UserError

Source = Path | ZipPath
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_IEND = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def png_size(path: Source) -> tuple[int, int]:
    """(height, width) from the header, after a look at the file's end: 0.1 ms instead of 50 for decoding.

    Raises UserError where the file is missing, is no PNG, or does not end as a PNG does (half downloaded).
    """
    head, tail = _ends(path)
    if len(head) < 24 or not head.startswith(_SIGNATURE):
        raise UserError(f"{path}: not a PNG file. Download or extract it again.")
    if tail != _IEND:
        raise UserError(f"{path}: truncated (the PNG's end is missing). Download or extract it again.")
    width, height = struct.unpack(">II", head[16:24])
    return height, width


def _ends(path: Source) -> tuple[bytes, bytes]:
    if isinstance(path, ZipPath):  # has checksums, and its end takes inflating it all
        return path.read_bytes(24), _IEND
    try:
        with path.open("rb") as file:
            head = file.read(24)
            file.seek(0, 2)
            file.seek(max(0, file.tell() - len(_IEND)))
            return head, file.read()
    except OSError as error:
        raise _unreadable(path, error) from error


def stamp(path: Source) -> tuple[int, int]:
    """Two numbers of which one changes when the file does: its size and time of change, or its checksum."""
    if isinstance(path, ZipPath):
        return path.stamp()
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return status.st_size, status.st_mtime_ns


def read_image(path: Source) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    image = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)  # its label has none
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def read_label(path: Source) -> np.ndarray:
    """(H, W) uint8, the ids as stored."""
    label = _decode(path, cv2.IMREAD_UNCHANGED)
    if label.ndim != 2 or label.dtype != np.uint8:
        raise UserError(
            f"{path}: a label must be an 8-bit PNG of one channel, this one is {label.dtype} of shape "
            f"{label.shape}. Is it a colour image, or an instanceIds file?"
        )
    return label


def read_bytes(path: Source) -> np.ndarray:
    """The file as it is, uint8."""
    try:
        return (
            np.fromfile(path, np.uint8)
            if isinstance(path, Path)
            else np.frombuffer(path.read_bytes(), np.uint8)
        )
    except OSError as error:
        raise _unreadable(path, error) from error


def _decode(path: Source, mode: int) -> np.ndarray:
    data = read_bytes(path)
    image = cv2.imdecode(data, mode) if data.size else None
    if image is None:
        raise UserError(f"{path}: damaged or truncated, it cannot be decoded. Download or extract it again.")
    return image


def _unreadable(path: Source, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be read ({error.strerror}). Check the path and its permissions.")


def absolute(path: Source) -> str:
    """One name for one file, wherever the command is run."""
    return str(path.resolve()) if isinstance(path, Path) else f"{path.archive.resolve()}/{path.inside}"
