"""Class maps as pictures for people. Images are uint8 (H, W, 3) RGB, class maps uint8 (H, W) train ids.

Text and figures are drawn without pyplot: its global state keeps every figure and may require a display.
"""

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from src.errors import UserError
from src.labels import IGNORE, LabelTable
from src.report.lettering import PAPER, Words, shorten, strip, text_width
from src.runs.atomic_files import write_bytes

Row = tuple[str, np.ndarray, np.ndarray | None, np.ndarray]
"""name, image, ground truth, prediction; the ground truth is None in all rows of a split without labels"""

Sample = tuple[np.ndarray, np.ndarray]
"""image, train ids"""


class TooLargeError(UserError):
    """An image has more pixels than the format of its file allows."""


def colorize(train_ids: np.ndarray, table: LabelTable) -> np.ndarray:
    """RGB; IGNORE and ids that are no class are black."""
    # As table.colors[train_ids], in a twentieth of its time, and without an index of 8 bytes per pixel.
    return cv2.applyColorMap(train_ids, table.colors[:, None])


def overlay(image: np.ndarray, train_ids: np.ndarray, table: LabelTable, opacity: float = 0.5) -> np.ndarray:
    """The classes' colours over the image, from 0 (image alone) to 1; IGNORE pixels show the image."""
    mixed = colorize(train_ids, table)
    cv2.addWeighted(image, 1 - opacity, mixed, opacity, 0, dst=mixed)
    return cv2.copyTo(image, (train_ids == IGNORE).view(np.uint8), mixed)


def panel(rows: Sequence[Row], table: LabelTable, max_width: int = 640) -> np.ndarray:
    """One row per sample: image, ground truth, prediction; below, a legend of the classes that occur.

    All pictures get the same width: that of the widest, but at least 256, so that the text has room (smaller
    ones are enlarged by nearest neighbour), and at most `max_width`. Ignored ground truth is black; the
    prediction is shown there, too. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("a panel needs at least one row")
    column, gap, size = _measures([image for _, image, _, _ in rows], max_width)
    parts: list[np.ndarray] = []
    maps: list[np.ndarray] = []
    for name, image, target, prediction in rows:
        both = {"ground truth": target, "prediction": prediction}
        of_row = {title: ids for title, ids in both.items() if ids is not None}
        pictures = [_resize(image, column, is_image=True)]
        pictures += [colorize(_resize(ids, column, is_image=False), table) for ids in of_row.values()]
        parts.append(_row((name, *of_row), pictures, column, gap, size))
        maps += of_row.values()
    parts.append(_legend(maps, table, parts[0].shape[1], gap, size))
    return np.concatenate(parts)


def samples_panel(
    rows: Sequence[tuple[str, Sample, Sequence[Sample]]], table: LabelTable, max_width: int = 400
) -> np.ndarray:
    """One row per training frame: name, the frame, the frame overlaid with its label, then each of its
    crops overlaid with its label; below, a legend. Ignored pixels show the image. Raises ValueError without
    rows.
    """
    if not rows:
        raise ValueError("a panel needs at least one row")
    column, gap, size = _measures([frame[0] for _, frame, _ in rows], max_width)
    parts = []
    for name, frame, crops in rows:
        pictures = [_resize(frame[0], column, is_image=True)]
        pictures += [_overlaid(sample, column, table) for sample in (frame, *crops)]
        titles = (name, "with its label", *(f"training crop {i + 1}" for i in range(len(crops))))
        parts.append(_row(titles, pictures, column, gap, size))
    maps = [ids for _, frame, crops in rows for _, ids in (frame, *crops)]
    parts.append(_legend(maps, table, parts[0].shape[1], gap, size, ignored=False))
    return np.concatenate(parts)


def legend(table: LabelTable, width: int = 800, size: int = 22) -> np.ndarray:
    """A patch of colour and a name for each class of the table, on white.

    Args:
        width: in pixels.
        size: height of the letters, in pixels.
    """
    return _legend([np.arange(table.num_classes, dtype=np.uint8)], table, width, round(0.7 * size), size)


def write_image(path: str | Path, rgb: np.ndarray) -> None:
    """RGB (H, W, 3) or a plain class map (H, W), uint8, as PNG or JPEG by the suffix; never a partial file.

    The folder has to exist. Raises ValueError for another suffix, and TooLargeError for a JPEG of more than
    65,500 pixels a side.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use .png or .jpg")
    pixels = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR) if rgb.ndim == 3 else np.ascontiguousarray(rgb)
    done, encoded = cv2.imencode(path.suffix.lower(), pixels)
    if not done:
        kind = path.suffix.upper().removeprefix(".")
        raise TooLargeError(f"{path}: {rgb.shape[1]}x{rgb.shape[0]} pixels are too large for a {kind}.")
    write_bytes(path, encoded.data)


def confusion_png(matrix: np.ndarray, class_names: Sequence[str]) -> bytes:
    """Heat map of a (C, C) matrix in percent of each row: the diagonal is the recall.

    The colour scales with the square root, so that 1 % is visible. A class without pixels has a grey row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    counts = np.asarray(matrix, np.float64)
    total = counts.sum(1, keepdims=True)
    percent = 100 * np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    number = len(class_names)
    side = max(4.0, 0.46 * number)  # inches
    figure = Figure(figsize=(side + 2.2, side + 1.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    heat = axes.imshow(percent, cmap="Blues", norm=PowerNorm(0.5, 0, 100))
    for row, column in zip(*np.nonzero(percent >= 0.05), strict=True):
        value = percent[row, column]
        text = f"{value:.1f}" if value < 99.95 else "100"
        color = "white" if value > 28 else "#333333"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    for row in np.flatnonzero(total == 0):
        axes.axhspan(row - 0.5, row + 0.5, color="#eeeeee")
    axes.set_xticks(range(number), class_names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(number), class_names)
    axes.set_xticks(np.arange(number - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(number - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("prediction", fontsize=11)
    axes.set_ylabel("ground truth", fontsize=11)
    bar = figure.colorbar(heat, ax=axes, shrink=0.6, pad=0.02, ticks=[0, 1, 5, 10, 25, 50, 75, 100])
    bar.set_label("% of the ground truth's pixels")
    bar.outline.set_visible(False)
    data = io.BytesIO()
    figure.savefig(data, format="png", bbox_inches="tight", pad_inches=0.15)
    return data.getvalue()


def _measures(images: Sequence[np.ndarray], max_width: int) -> tuple[int, int, int]:
    """The width of a picture, the width of a margin and the height of the letters, in pixels."""
    column = min(max(256, *(image.shape[1] for image in images)), max_width)
    size = round(min(max(column / 36, 11), 44))
    return column, round(0.7 * size), size


def _row(
    titles: Sequence[str], pictures: Sequence[np.ndarray], column: int, gap: int, size: int
) -> np.ndarray:
    """Header line and pictures, each `column` wide, with margins; the first title is bold."""
    height, step = max(len(picture) for picture in pictures), column + gap
    titles = (shorten(titles[0], column - size, size, bold=True), *titles[1:])
    words = [Words(gap + i * step, 0.55 * 2 * size, title, bold=i == 0) for i, title in enumerate(titles)]
    header = strip(2 * size, len(pictures) * step + gap, words, size)
    body = np.full((height, header.shape[1], 3), PAPER, np.uint8)
    for i, picture in enumerate(pictures):
        body[: len(picture), gap + i * step : gap + i * step + column] = picture
    return np.concatenate((header, body))


def _overlaid(sample: Sample, column: int, table: LabelTable) -> np.ndarray:
    image, ids = sample
    return overlay(_resize(image, column, is_image=True), _resize(ids, column, is_image=False), table)


def _resize(picture: np.ndarray, width: int, is_image: bool) -> np.ndarray:
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    shrink = width < picture.shape[1]
    return cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA if is_image and shrink else cv2.INTER_NEAREST
    )


def _legend(
    maps: Iterable[np.ndarray], table: LabelTable, width: int, gap: int, size: int, ignored: bool = True
) -> np.ndarray:
    """A patch of colour and a name for each class in the class maps, in as many lines as needed."""
    present = np.zeros(256, bool)
    for ids in maps:
        present[np.unique(ids)] = True
    entries = [(e.name, e.color) for e in table.train_labels if present[e.train_id]]
    if present[IGNORE] and ignored:
        entries.append(("ignored", (0, 0, 0)))

    patch, line = round(1.6 * size), 2 * size
    words, patches, x, y = [], [], gap, size
    for name, color in entries:
        length = patch + gap + math.ceil(text_width(name, size))
        if x > gap and x + length + gap > width:
            x, y = gap, y + line
        patches.append((x, y, color))
        words.append(Words(x + patch + gap, y + line / 2, name))
        x += length + 2 * size
    result = strip(y + line + gap, width, words, size)
    for x, y, color in patches:
        result[y + line // 2 - size // 2 : y + line // 2 + size // 2 + 1, x : x + patch] = color
    return result
