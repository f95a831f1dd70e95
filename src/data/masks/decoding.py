"""Reads a mask: the ids as stored, or the ids that a table gives to its colours."""

from functools import lru_cache
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from src.class_checks import MOST_COLORS
from src.data.files import (
    Header,
    Source,
    check_complete,
    damaged,
    decode_image,
    decode_label,
    read_bytes,
)
from src.data.masks.formats import check_mask_header, header_in
from src.errors import UserError
from src.label_tables import OWN, with_keys_of
from src.labels import Color, LabelTable

_SHOWN = 4  # colours that a message names
_SMOOTH = 16  # so many unknown colours come from smoothed edges or lossy compression
_ROWS = 64  # looked up at once, so that their keys stay in the CPU's cache


class UnknownColorsError(UserError):
    """A mask has colours that the table does not list."""


def read_mask(path: Source, table: LabelTable) -> np.ndarray:
    """(H, W) uint8 label ids. Raises UserError."""
    return decode_mask(path, read_bytes(path), table)


def decode_mask(path: Source, data: bytes, table: LabelTable) -> np.ndarray:
    """As `read_mask`, for the bytes of a file that is already read."""
    if table.name != OWN:
        return decode_label(path, data)
    header = header_in(path, data)
    check_mask_header(path, header, table)
    if table.mask_colors:
        return _ids_of_colors(path, decode_image(path, data), table)
    return decode_ids(path, data, header)


def decode_ids(path: Source, data: bytes, header: Header) -> np.ndarray:
    """(H, W) uint8 of a grey or palette file; the ids of a palette file are its indices."""
    if header.mode == "grey" and header.bits == 8:
        return decode_label(path, data)
    check_complete(path, data)
    try:  # OpenCV would return the palette's colours, and stretch fewer than 8 bits to 0-255
        ids = np.array(Image.open(BytesIO(data)), np.uint8)
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        raise damaged(path) from error
    return ids // (255 // (2**header.bits - 1)) if header.mode == "grey" and header.bits > 1 else ids


def _ids_of_colors(path: Source, image: np.ndarray, table: LabelTable) -> np.ndarray:
    lookup, ids = color_lookup(table.mask_colors), np.empty(image.shape[:2], np.uint8)
    for start in range(0, len(image), _ROWS):
        strip = slice(start, start + _ROWS)
        np.take(lookup, color_keys(image[strip]), out=ids[strip], mode="clip")
    if (ids == MOST_COLORS).any():
        raise _unknown_colors(path, image[ids == MOST_COLORS], ids.size, table)
    return ids


def color_keys(image: np.ndarray) -> np.ndarray:
    """(H, W) int32: red + 256 * green + 65536 * blue of an image (H, W, 3) uint8 RGB."""
    keys = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA).view("<i4")[..., 0]
    return np.bitwise_and(keys, 0xFFFFFF, out=keys)


@lru_cache(maxsize=4)
def color_lookup(colors: tuple[Color, ...]) -> np.ndarray:
    """(2^24,) uint8, from a key to the place of its colour in the list; MOST_COLORS for any other colour."""
    table = np.full(2**24, MOST_COLORS, np.uint8)
    for number, (red, green, blue) in enumerate(colors):
        table[red + 256 * green + 65536 * blue] = number
    return table


def rgb(key: int) -> Color:
    return key & 255, key >> 8 & 255, key >> 16


def _unknown_colors(path: Source, pixels: np.ndarray, total: int, table: LabelTable) -> UserError:
    listed = table.mask_colors
    keys, counts = np.unique(color_keys(pixels[None])[0], return_counts=True)
    order = np.argsort(-counts)
    known = np.array(listed, np.int64)
    lines = []
    for key, count in zip(keys[order][:_SHOWN].tolist(), counts[order].tolist(), strict=False):
        color = rgb(key)
        nearest = listed[int(((known - color) ** 2).sum(1).argmin())]
        lines.append(
            f"{list(color)} on {100 * count / total:.3g}% (the nearest one listed is {list(nearest)})"
        )
    more = f" and {len(keys) - _SHOWN} more colours" if len(keys) > _SHOWN else ""
    if len(keys) >= _SMOOTH:
        fix = (
            "So many colours come from smoothed edges (anti-aliasing), resizing with interpolation, or a "
            "copy as JPEG. Write the masks again without these: nearest neighbour, PNG."
        )
    else:
        fix = "List them under a class (colors), or under data.ignored.colors."
    text = f"colours that data.classes does not list: {', '.join(lines)}{more}. {fix}"
    return UnknownColorsError(f"{path}: {with_keys_of(table.part, text)}")
