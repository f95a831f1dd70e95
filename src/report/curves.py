"""Training curves from the rows of metrics.csv, as SVG that is readable without the script, too."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from src.report.html import Html, h, join
from src.report.scale import Scale, label, thinned, ticks

Rows = Sequence[Mapping[str, str]]
Point = tuple[float, float, str]
"""step, value, epoch counted from 1"""

_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 350, 12, 184
_MOST = 400  # points of a line: more than its width of 310 units


@dataclass
class Series:
    name: str
    style: str  # a class of style.css
    points: list[Point] = field(default_factory=list)
    key: str | None = None  # in the legend, in the place of the name; series of one style share an entry


def curves(rows: Rows) -> Html | None:
    """Loss, mIoU and learning rate over the optimizer steps; None where nothing was logged."""
    rate = next((key for row in rows for key in row if key and key.startswith("lr-")), "lr")
    panels = [
        panel(
            "Loss",
            [
                Series("training, single steps", "faint", points_of(rows, "train/loss_step")),
                Series("training, mean of the epoch", "first", points_of(rows, "train/loss_epoch")),
                Series("validation", "second", points_of(rows, "val/loss")),
            ],
        ),
        panel(
            "Validation mIoU, %",
            [Series("mIoU", "first", points_of(rows, "val/mIoU", factor=100))],
            best=True,
        ),
        panel("Learning rate", [Series("learning rate", "first", points_of(rows, rate))]),
    ]
    drawn = [panel for panel in panels if panel]
    return h("div", *drawn, class_="curves") if drawn else None


def points_of(rows: Rows, column: str, factor: float = 1.0) -> list[Point]:
    """The finite values of a column of metrics.csv, in the order of the steps."""
    found = []
    for row in rows:
        try:
            step, value = float(row["step"]), factor * float(row.get(column) or "nan")
            epoch = str(int(row["epoch"]) + 1) if row.get("epoch") else ""
        except (KeyError, TypeError, ValueError):
            continue
        if math.isfinite(step) and math.isfinite(value):
            found.append((step, value, epoch))
    return sorted(found)


def panel(title: str, series: list[Series], best: bool = False) -> Html | None:
    """A drawing of the series that have points; None without any.

    Args:
        best: whether the highest point is marked.
    """
    series = [entry for entry in series if entry.points]
    if not series:
        return None
    every = [point for entry in series for point in entry.points]
    marks = ticks(min(value for _, value, _ in every), max(value for _, value, _ in every))
    last = max(step for step, _, _ in every)
    x = Scale(0, last or 1, _LEFT, _RIGHT)
    y = Scale(marks[0], marks[-1], _BOTTOM, _TOP)
    summit = max(every, key=lambda point: (point[1], -point[0])) if best else None
    drawing = h(
        "svg",
        h("title", f"{title} over the optimizer steps"),
        _grid(x, y, marks, last),
        [_line(entry, x, y) for entry in series],
        summit and _summit(summit, x, y),
        h("line", class_="cursor", y1=_TOP, y2=_BOTTOM, visibility="hidden"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        tabindex="0",
        class_="chart",
        data_series=json.dumps([_data(entry, x, y) for entry in series]),
    )
    named = {entry.style: entry.key or entry.name for entry in reversed(series)}
    keys = [h("li", text, class_=f"key {style}") for style, text in reversed(named.items())]
    keys = keys if len(series) > 1 else []
    return h("figure", h("figcaption", h("h3", title), keys and h("ul", *keys, class_="keys")), drawing)


def _grid(x: Scale, y: Scale, marks: list[float], last: float) -> Html:
    lines = [
        join(
            h("line", x1=_LEFT, x2=_RIGHT, y1=y(mark), y2=y(mark), class_="grid"),
            h("text", label(mark), x=_LEFT - 6, y=y(mark) + 3.5, class_="tick end"),
        )
        for mark in marks
    ]
    steps = [mark for mark in ticks(0, last or 1, 4) if mark <= last]
    below = [
        h(
            "text",
            f"{label(mark)} steps" if mark == 0 else label(mark),
            x=x(mark),
            y=_BOTTOM + 17,
            class_="tick middle" if mark else "tick",
        )
        for mark in steps
    ]
    return join(lines, below)


def _line(series: Series, x: Scale, y: Scale) -> Html:
    points = [(x(step), y(value)) for step, value, _ in thinned(series.points, _MOST)]
    if len(points) == 1:
        return h("circle", cx=points[0][0], cy=points[0][1], r=3, class_=f"dot {series.style}")
    path = "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in points)
    return h("path", d=path, class_=f"line {series.style}")


def _summit(point: Point, x: Scale, y: Scale) -> Html:
    step, value, epoch = point
    left, top = x(step), y(value)
    text = f"best {value:.2f}" + (f", epoch {epoch}" if epoch else "")
    beside = {"x": left - 8, "class_": "mark end"} if left > 140 else {"x": left + 8, "class_": "mark"}
    return join(
        h("circle", cx=left, cy=top, r=3.5, class_="dot second"),
        h("text", text, y=top - 8 if top > 20 else top + 18, **beside),
    )


def _data(series: Series, x: Scale, y: Scale) -> dict:
    """What the script shows at the cursor: (x and y in the drawing, step, value, epoch) of each point."""
    return {
        "name": series.name,
        "points": [
            [round(x(step), 1), round(y(value), 1), int(step), float(f"{value:.5g}"), epoch]
            for step, value, epoch in thinned(series.points, _MOST)
        ],
    }
