"""Reads image files: headers of PNGs without decoding, and pixels with errors that name the file."""

import errno
import os
import stat
import struct
import threading
import zlib
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import cv2
import numpy as np
from kornia_rs.io import decode_image_png_u8

from src.data.zips import ZipPath
from src.errors import UserError

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # else OpenCV prints messages of its own about damaged files

Source = Path | ZipPath
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB, _GREY = (8, 2), (8, 0)  # bit depth and colour type in the header
_IEND = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_FOREIGN = {  # first bytes, in lower case, of other files that are named .png
    b"\xff\xd8\xff": "a JPEG",
    b"version https://git-lfs": "a pointer of Git LFS: run git lfs pull",
    b"<": "a web page",
    b"pk\x03\x04": "a zip archive",
    b"\x00\x05\x16\x07": "macOS's notes on a file",
}


_MODES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGB and alpha"}
MOST_PIXELS = 2**28
"""The largest image that is decoded: a PNG of a few kilobytes can unpack to gigabytes."""
HEADER_LENGTH = 26
"""The first bytes of a PNG, which contain all fields of a Header."""


@dataclass(frozen=True)
class Header:
    """What the first bytes of a file tell."""

    height: int
    width: int
    bits: int  # per channel
    mode: str
    format: str = "PNG"

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def __str__(self) -> str:
        return f"{self.bits}-bit {self.mode}" + (f" {self.format}" if self.format != "PNG" else "")


def png_size(path: Source) -> tuple[int, int]:
    """(height, width), see `png_header`."""
    return png_header(path).size


def png_header(path: Source) -> Header:
    """From the file's first and last bytes, which takes 0.1 ms; decoding takes 50 ms.

    Raises UserError where the file is missing, is no PNG, or does not end as a PNG does (half downloaded).
    """
    return parse_header(path, *_ends(path))


def parse_header(path: Source, head: bytes, tail: bytes) -> Header:
    """The header of a file with these first and last bytes; `path` is for the messages."""
    if len(head) < HEADER_LENGTH or not head.startswith(_SIGNATURE):
        found = next((name for start, name in _FOREIGN.items() if head.lower().startswith(start)), "")
        found = "empty" if not head else found
        raise UserError(
            f"{path}: not a PNG file{f' ({found})' if found else ''}. Download or extract it again."
        )
    if not tail.endswith(_IEND):
        raise UserError(f"{path}: truncated (the PNG's end is missing). Download or extract it again.")
    width, height, bits, color = struct.unpack(">IIBB", head[16:26])
    if width * height > MOST_PIXELS:
        raise UserError(
            f"{path}: {width}x{height} pixels, more than any camera's image; it is not decoded. Download or "
            f"extract it again."
        )
    return Header(height, width, bits, _MODES.get(color, f"mode {color}"))


def check_label_header(path: Source, header: Header) -> None:
    """Raises UserError for a PNG that is no class map: with colours, with 16 bits, or with fewer than 8 bits,
    whose ids OpenCV would stretch to 0-255."""
    if (header.bits, header.mode) != (8, "grey"):
        raise UserError(
            f"{path}: a label must be an 8-bit PNG of one channel, this one is {header}. Is it a colour "
            f"image, or an instanceIds file? Use the label files as downloaded."
        )


def _ends(path: Source) -> tuple[bytes, bytes]:
    if isinstance(path, ZipPath):  # has checksums; reading the end means unpacking all
        return path.read_bytes(HEADER_LENGTH), _IEND
    try:
        with open_file(path) as file:
            head = file.read(HEADER_LENGTH)
            file.seek(0, 2)
            file.seek(max(0, file.tell() - len(_IEND)))
            return head, file.read()
    except OSError as error:
        raise unreadable(path, error) from error


def stamp(path: Source) -> tuple[int, int]:
    """(size, modification time), or (checksum, size) in an archive. It changes when the file is replaced,
    unless the new file has the same size and its modification time was set to that of the old one."""
    if isinstance(path, ZipPath):
        return path.stamp()
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return status.st_size, status.st_mtime_ns


def read_image(path: Source, upright: bool = False, few: bool = False) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Args:
        upright: turned as its EXIF orientation says, as viewers show it. A label has no orientation, so the
            images of a dataset stay as they are stored.
        few: not many threads read at the same time (see `_decode_fast`).
    """
    return decode_image(path, read_bytes(path), upright, few)


def read_label(path: Source) -> np.ndarray:
    """(H, W) uint8, the ids as stored."""
    return decode_label(path, read_bytes(path))


def read_grey16(path: Source) -> np.ndarray:
    """(H, W) uint16, the values as stored. Raises UserError for any other kind of PNG."""
    pixels = _decode(path, read_bytes(path), cv2.IMREAD_UNCHANGED)
    if pixels.ndim != 2 or pixels.dtype != np.uint16:
        raise UserError(f"{path}: {pixels.dtype} of shape {pixels.shape}, not a 16-bit PNG of one channel.")
    return pixels


def decode_image(path: Source, data: bytes, upright: bool = False, few: bool = False) -> np.ndarray:
    """As `read_image`, for the bytes of a file that is already read."""
    image = None if upright and b"eXIf" in data else _decode_fast(data, _RGB, few)
    if image is None:
        image = _decode(path, data, cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION))
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return image


def decode_label(path: Source, data: bytes) -> np.ndarray:
    """As `read_label`, for the bytes of a file that is already read."""
    label = _decode_fast(data, _GREY)
    if label is None:
        label = _decode(path, data, cv2.IMREAD_UNCHANGED)
    if label.ndim != 2 or label.dtype != np.uint8:
        raise UserError(
            f"{path}: a label must be an 8-bit PNG of one channel, this one is {label.dtype} of shape "
            f"{label.shape}. Is it a colour image, or an instanceIds file?"
        )
    return label


def read_bytes(path: Source) -> bytes:
    try:
        if isinstance(path, ZipPath):
            return path.read_bytes()
        with open_file(path) as file:
            return file.read()
    except OSError as error:
        raise unreadable(path, error) from error


def open_file(path: Path) -> FileIO:
    """Open for reading. Raises OSError for anything but a regular file: a pipe or a device could block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'something else')}, not a file")
    return FileIO(descriptor, "rb")


_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def _decode_fast(data: bytes, kind: tuple[int, int], few: bool = False) -> np.ndarray | None:
    """Decode a PNG of this kind with kornia-rs; None for any other kind, and where kornia-rs fails.

    It gives the same pixels in half of OpenCV's time, but holds the GIL: threads that decode images are
    faster with OpenCV. A label takes a third to a tenth of OpenCV's time, so other threads wait only briefly.
    """
    if kind == _RGB and not few and threading.current_thread() is not threading.main_thread():
        return None
    if not (data.startswith(_SIGNATURE) and data.endswith(_IEND)) or tuple(data[24:26]) != kind:
        return None
    width, height = struct.unpack(">II", data[16:24])
    try:
        pixels = decode_image_png_u8(data, (height, width), "rgb" if kind == _RGB else "mono")
    except Exception:  # it raises nothing narrower; `_decode` says what is wrong
        return None
    return pixels if kind == _RGB else pixels.reshape(height, width)


def _decode(path: Source, data: bytes, flags: int) -> np.ndarray:
    """Decode a file with OpenCV. Damage is found before that, by the PNG's checksums, in a thirtieth of the
    time: libpng, which OpenCV uses, would print messages of its own."""
    check_complete(path, data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # a header that asks for more than a gigapixel
        image = None
    if image is None:
        tiff = data.startswith((b"II*\0", b"MM\0*"))
        raise damaged(path, ", or a TIFF with other channels than 1, 3 or 4 of integers" if tiff else "")
    return image


def check_complete(path: Source, data: bytes) -> None:
    """Raises UserError for damage that shows without decoding."""
    if fault := _fault(path, data):
        raise damaged(path, f" ({fault})")


def damaged(path: Source, why: str = "") -> UserError:
    return UserError(
        f"{path}: damaged or truncated, it cannot be decoded{why}. Download or extract it again."
    )


def _fault(path: Source, data: bytes) -> str:
    """What is wrong with a file, as far as its format tells without decoding it; "" if nothing."""
    if data.startswith(_SIGNATURE):
        return broken_chunk(memoryview(data))
    if path.name.lower().endswith(".png"):
        return "no PNG"
    if data.startswith(b"\xff\xd8") and data.find(b"\xff\xd9", _first_scan(data)) < 0:
        return "its end is missing"  # libjpeg fills it with grey
    if data.startswith(b"RIFF") and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        return "its end is missing"
    return ""


def _first_scan(data: bytes) -> int:
    """Where a JPEG's pixels begin, behind all thumbnails; its length if it ends before that. What follows the
    pixels, such as the film of a motion photo, may contain any mark."""
    position = 2
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        kind = data[position + 1]
        if kind == 0xDA:
            return position
        alone = kind in (0x00, 0x01, 0xFF) or 0xD0 <= kind <= 0xD8  # fill bytes, and marks without a length
        position += 1 if alone else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return len(data)


def broken_chunk(data: memoryview) -> str:
    """What is wrong with a PNG, by the lengths and checksums of its chunks; "" if nothing."""
    position, kind = 8, b""
    while kind != b"IEND":
        if position + 12 > len(data):
            return "its end is missing"
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            return f"the chunk at byte {position} extends beyond the file's end"
        if zlib.crc32(data[position + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return f"wrong checksum in the chunk at byte {position}"
        position = end
    return ""


def unreadable(path: Source, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(
        f"{path}: cannot be read ({reason}). Check the path and its permissions, and those of the folders "
        f"above it."
    )


def absolute(path: Source) -> str:
    """The absolute path, which is the same whatever folder the command is run in."""
    return str(path.resolve()) if isinstance(path, Path) else f"{path.archive.resolve()}/{path.inside}"
