"""Text on pictures, in the font that comes with matplotlib: it has many alphabets and smooth edges."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

INK = (0.13, 0.13, 0.13)
PAPER = 255


class Words(NamedTuple):
    x: float  # left edge in pixels
    y: float  # vertical centre in pixels, from the top
    text: str
    bold: bool = False


def text_width(text: str, size: int, bold: bool = False) -> float:
    """Width in pixels of letters that are `size` pixels high (the font's em)."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def shorten(text: str, width: float, size: int, bold: bool = False) -> str:
    """The text; if it is wider than `width` pixels, an ellipsis replaces its middle."""
    if text_width(text, size, bold) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        candidate = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if text_width(candidate, size, bold) <= width:
            return candidate
    return "…"


def strip(height: int, width: int, words: Sequence[Words], size: int) -> np.ndarray:
    """White uint8 (height, width, 3) with words on it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dpi = 72  # so that a point is a pixel
    canvas = FigureCanvasAgg(Figure(figsize=(width / dpi, height / dpi), dpi=dpi))
    for x, y, text, bold in words:
        canvas.figure.text(
            x / width,
            1 - y / height,
            text,
            fontsize=size,
            weight="bold" if bold else "normal",
            color=INK,
            va="center_baseline",
            parse_math=False,
        )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
