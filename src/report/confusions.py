"""Which classes are confused: the confusion matrix as a heat map, and its largest mistakes as lists."""

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

from src.report.classes import Colors, bar, class_label
from src.report.html import Html, h, join, pixels, share

Matrix = Sequence[Sequence[int]]
"""Rows are the ground truth, columns the prediction."""

_CELL, _LARGE_CELL = 34, 44  # for many and for few classes; the page is 1070 units wide
_FEW = 12  # classes at most for the large cells
_LETTER = 6.1  # width of a letter in a label, in the drawing's units
_NUMBERED = 25  # classes up to which the cells show numbers
_TITLED = 40  # classes up to which each cell has a <title>, for readers without the script
_DARK = 0.82  # from this opacity on, white letters have a contrast above 4.5
_LONGEST = 18  # letters of a label, at most


class Confusion(NamedTuple):
    truth: int
    prediction: int
    pixels: int
    share: float  # of the truth's pixels


def most_confused(matrix: Matrix, count: int = 10) -> tuple[list[Confusion], list[Confusion]]:
    """The largest confusions by share of the true class, and by pixels."""
    found = []
    for truth, row in enumerate(matrix):
        total = sum(row)
        found += [
            Confusion(truth, prediction, hits, hits / total)
            for prediction, hits in enumerate(row)
            if hits and prediction != truth
        ]
    by_share = sorted(found, key=lambda e: (-e.share, -e.pixels, e.truth, e.prediction))
    by_pixels = sorted(found, key=lambda e: (-e.pixels, -e.share, e.truth, e.prediction))
    return by_share[:count], by_pixels[:count]


def confusion_lists(matrix: Matrix, classes: Sequence[str], colors: Colors) -> Html | None:
    by_share, by_pixels = most_confused(matrix)
    if not by_share:
        return None
    return h(
        "div",
        _list("By share of the true class", by_share, classes, colors, [e.share for e in by_share]),
        _list("By pixels", by_pixels, classes, colors, [e.pixels for e in by_pixels]),
        class_="pair",
    )


def _list(
    title: str, entries: Sequence[Confusion], classes: Sequence[str], colors: Colors, sizes: Sequence[float]
) -> Html:
    head = [h("th", text, scope="col", class_=kind) for text, kind in _HEAD]
    rows = [
        h(
            "tr",
            h(
                "th",
                class_label(entry.truth, classes[entry.truth], colors),
                h("span", " taken for ", class_="sr"),
                h("span", "→", class_="arrow", aria_hidden="true"),
                class_label(entry.prediction, classes[entry.prediction], colors),
                bar(size / sizes[0]),
                scope="row",
                class_="confused",
            ),
            h("td", share(entry.share), class_="figure"),
            h("td", pixels(entry.pixels), class_="figure quiet"),
        )
        for entry, size in zip(entries, sizes, strict=True)
    ]
    table = h("table", h("thead", h("tr", head)), h("tbody", rows), class_="confusions")
    return h("div", h("h3", title), table)


_HEAD = (("Truth → prediction", None), ("Share", "figure"), ("Pixels", "figure"))


def heat_map(matrix: Matrix, classes: Sequence[str]) -> Html:
    """The share of each cell in its row. The colour scales with the square root, so that 1 % is visible;
    a class without pixels has a grey row."""
    labels = [_shortened(text) for text in classes]
    margin = round(max(len(text) for text in labels) * _LETTER) + 14
    number = len(classes)
    cell = _LARGE_CELL if number <= _FEW else _CELL if number <= _NUMBERED else max(4, 900 // number)
    side = number * cell
    drawn = [_row(row, index, margin, cell, classes) for index, row in enumerate(matrix)]
    width, height = margin + side + 2, margin + side + 2
    named = cell >= 12
    drawing = h(
        "svg",
        h("title", "Confusion matrix: ground truth down, prediction across"),
        named and [_labels(text, index, margin, cell) for index, text in enumerate(labels)],
        drawn,
        h("rect", class_="cursor", width=cell, height=cell, visibility="hidden"),
        viewBox=f"0 0 {width} {height}",
        width=str(width),
        height=str(height),
        role="img",
        tabindex="0",
        class_="matrix",
        data_matrix=json.dumps(matrix, separators=(",", ":")),
        data_classes=json.dumps(list(classes)),
        data_margin=str(margin),
        data_cell=str(cell),
    )
    hint = h(
        "p",
        "Rows are the ground truth, columns the prediction; a row adds up to 100 %. "
        "The colour goes with the square root of the share.",
        class_="note",
    )
    return join(h("div", drawing, class_="scroll"), _key(), hint)


def _key() -> Html:
    """The key to the heat map: the colours of some shares."""
    drawn = [
        join(
            h("rect", x=46 * i, y=0, width=46, height=10, class_="heat", fill_opacity=math.sqrt(part / 100)),
            h("text", f"{part} %", x=46 * i + 23, y=25, class_="label middle"),
        )
        for i, part in enumerate((1, 5, 10, 25, 50, 75, 100))
    ]
    return h(
        "svg", drawn, viewBox="0 0 322 28", width="322", height="28", class_="matrix-key", aria_hidden="true"
    )


def _row(row: Sequence[int], index: int, margin: int, cell: int, classes: Sequence[str]) -> Html:
    total, top = sum(row), margin + index * cell
    if not total:
        return h("rect", x=margin, y=top, width=len(row) * cell - 1, height=cell - 1, class_="nothing")
    cells = []
    for column, hits in enumerate(row):
        if not hits:
            continue
        part = hits / total
        left, opacity = margin + column * cell, math.sqrt(part)
        if opacity < 0.01:
            continue
        titled = len(classes) <= _TITLED and h(
            "title", f"{classes[index]} → {classes[column]}: {share(part)}, {hits:,} pixels"
        )
        kind = "heat hit" if column == index else "heat"
        cells.append(
            h(
                "rect",
                titled,
                x=left,
                y=top,
                width=cell - 1,
                height=cell - 1,
                class_=kind,
                fill_opacity=opacity,
            )
        )
        if len(classes) <= _NUMBERED and part >= 0.005:
            kind = "in" if opacity > _DARK else "out"
            cells.append(
                h("text", f"{100 * part:.0f}", x=left + (cell - 1) / 2, y=top + cell / 2 + 3, class_=kind)
            )
    return join(cells)


def _labels(text: str, index: int, margin: int, cell: int) -> Html:
    middle = margin + (index + 0.5) * cell
    return join(
        h("text", text, x=margin - 6, y=middle + 3.5, class_="label end"),
        h(
            "text",
            text,
            x=middle + 3.5,
            y=margin - 6,
            class_="label",
            transform=f"rotate(-90 {middle + 3.5:.1f} {margin - 6})",
        ),
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
