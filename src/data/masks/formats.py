"""Headers of images and masks in every format: size, channels and bits, without decoding a pixel."""

from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from src.data.files import (
    HEADER_LENGTH,
    MOST_PIXELS,
    Header,
    Source,
    check_label_header,
    open_file,
    parse_header,
    png_header,
    unreadable,
)
from src.errors import UserError
from src.label_tables import ASK_FOR_CLASSES, OWN, with_keys_of
from src.labels import LabelTable

Image.MAX_IMAGE_PIXELS = None  # Pillow's limit is lower than MOST_PIXELS, and its errors tell less
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
_TIFF_BITS, _TIFF_ORIENTATION = 258, 274  # tags
_MODES = {"1": "grey", "L": "grey", "I": "grey", "F": "grey", "P": "palette", "CMYK": "CMYK"}
_BITS = {"1": 1, "I": 32, "F": 32}


def header_of(path: Source) -> Header:
    """The header of an image or a mask. Only a file whose name ends in .png has to be a PNG.

    Raises UserError where the file is missing, or is no image. Whether it is complete shows in decoding,
    except for PNGs.
    """
    if _is_png(path):
        return png_header(path)
    assert isinstance(path, Path)
    try:
        with open_file(path) as file, BufferedReader(file) as buffered:
            return _parse(path, buffered)
    except OSError as error:
        raise unreadable(path, error) from error


def header_in(path: Source, data: bytes) -> Header:
    """As `header_of`, for the bytes of a file that is already read."""
    return (
        parse_header(path, data[:HEADER_LENGTH], data[-12:]) if _is_png(path) else _parse(path, BytesIO(data))
    )


def _is_png(path: Source) -> bool:
    return path.name.lower().endswith(".png")


def _parse(path: Source, file: BinaryIO) -> Header:
    turned = False
    try:
        image = Image.open(file, formats=_FORMATS)
        width, height = image.size
        mode, kind = image.mode, image.format
        bits = _BITS.get(mode, 16 if mode.startswith("I;16") else 8)
        if kind == "TIFF":
            tag = image.tag_v2.get(_TIFF_BITS, bits)  # type: ignore[attr-defined]
            bits = max(tag) if isinstance(tag, tuple) else tag
            turned = image.tag_v2.get(_TIFF_ORIENTATION, 1) != 1  # type: ignore[attr-defined]
        if kind == "WEBP" and not _is_lossless(file):
            kind = "lossy WEBP"
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        raise UserError(
            f"{path}: not an image, or damaged ({type(error).__name__}). Images are PNG, JPEG, WebP or TIFF "
            f"files. Copy the file again."
        ) from error
    if width * height > MOST_PIXELS:
        raise UserError(f"{path}: {width}x{height} pixels, more than any camera's image; it is not decoded.")
    if turned:  # OpenCV and Pillow obey it, whatever one asks for
        raise UserError(
            f"{path}: its orientation tag would turn the image without the mask, or the mask alone. "
            f"Write both without such tags, turned alike."
        )
    name = _MODES.get(mode[:1] if mode.startswith("I") else mode, mode.replace("RGBA", "RGB and alpha"))
    return Header(height, width, bits, name, str(kind))


def _is_lossless(file: BinaryIO) -> bool:
    """Whether a WebP's pixels are lossless: https://developers.google.com/speed/webp/docs/riff_container"""
    file.seek(0)
    return b"VP8L" in file.read(2**16)


def check_image_header(path: Source, header: Header, table: LabelTable) -> None:
    """Raises UserError for more than 8 bits in a dataset of the user's own. A published dataset has none."""
    if table.name == OWN and header.bits > 8:
        raise UserError(
            f"{path}: {header}, but images must have 8 bits per channel. Convert it, in a way that suits its "
            f"range of values, such as cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)."
        )


def check_mask_header(path: Source, header: Header, table: LabelTable) -> None:
    """Raises UserError for a file that cannot be a mask of this table."""
    if table.name != OWN:
        check_label_header(path, header)
        return
    check_mask_format(path, header)
    if not table.mask_colors and header.mode not in ("grey", "palette"):
        problem = (
            f"the mask has colours ({header}), but data.classes lists ids. List colors instead, such as "
            f"colors: [[128, 64, 128]]."
        )
    elif table.mask_colors and header.mode == "grey":
        problem = (
            f"the mask has ids ({header}), but data.classes lists colors. List ids instead, such as ids: [7]."
        )
    else:
        return
    raise UserError(f"{path}: {with_keys_of(table.part, problem)} {ASK_FOR_CLASSES}")


def check_mask_format(path: Source, header: Header) -> None:
    """Raises UserError for a file that cannot be a mask of any table: lossy, or with more than 8 bits."""
    if header.format in ("JPEG", "MPO", "lossy WEBP"):
        raise UserError(
            f"{path}: a mask must not be a {header.format.replace('MPO', 'JPEG')}: its compression is lossy "
            f"and changes ids and colours. Write the masks as PNG, from the original ones."
        )
    if header.bits > 8:
        raise UserError(f"{path}: {header}, but a mask has 8 bits per channel. Write ids from 0 to 255.")
