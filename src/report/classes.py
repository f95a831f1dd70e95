"""IoU of each class, beside a baseline: a table with bars."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.report.html import NOTHING, Html, h, is_number, join, name, percent, share
from src.report.reference_scores import Baseline

Colors = Sequence[tuple[int, int, int]]
"""RGB of the classes, by train id"""

SWATCHES = 64  # most classes for which a page shows colours: people cannot tell more apart

_LONG = 24  # letters


def swatch(index: int, colors: Colors) -> Html | None:
    """A patch in the class's colour, which a rule of `swatch_rules` sets."""
    return h("i", class_=f"swatch c{index}") if index < min(len(colors), SWATCHES) else None


def class_label(index: int, title: str, colors: Colors) -> Html:
    """Swatch and name, on one line if it is not very long."""
    return h("span", swatch(index, colors), name(title), class_="one" if len(title) <= _LONG else "one long")


def swatch_rules(colors: Colors) -> str:
    rules = [f".c{index}{{background:rgb({r},{g},{b})}}" for index, (r, g, b) in enumerate(colors)]
    return "\n".join(rules[:SWATCHES])


def class_table(
    metrics: Mapping[str, Any],
    colors: Colors,
    baseline: Baseline | None = None,
) -> Html:
    """A row per class in the order of the train ids: bar, IoU, the baseline's, and the class's share of the
    ground truth's pixels. A class that occurs nowhere has a dash."""
    classes, iou, iiou = metrics["classes"], metrics["IoU"], metrics.get("iIoU") or {}
    some_iiou = any(map(is_number, iiou.values()))
    shares = _shares(metrics.get("confusion_matrix"), len(classes))
    columns = ["Class", "", "IoU, %", *(["iIoU, %"] if some_iiou else [])]
    if baseline:
        columns += ["Baseline", "Change"]
    columns.append("Pixels")
    head = [h("th", title, scope="col", class_=_column(title)) for title in columns]
    rows = []
    for index, (title, of_pixels) in enumerate(zip(classes, shares, strict=True)):
        theirs = baseline.iou.get(title) if baseline else None
        value = iou.get(title)
        cells = [
            h("th", class_label(index, title, colors), scope="row"),
            h("td", bar(value, theirs), class_="bar"),
            h("td", percent(value), class_="figure"),
            some_iiou and h("td", percent(iiou.get(title)), class_="figure"),
        ]
        if baseline:
            cells += [h("td", percent(theirs), class_="figure quiet"), difference(value, theirs)]
        cells.append(h("td", share(of_pixels), class_="figure quiet pixels"))
        rows.append(h("tr", cells, data_order=str(index), data_value=str(value if is_number(value) else -1)))
    table = h("table", h("thead", h("tr", head)), h("tbody", rows), class_="classes")
    return join(_order(), table, baseline and _legend(baseline))


def _order() -> Html:
    """The control for the order of the rows; hidden until the script runs."""
    choices = [
        h("label", h("input", type="radio", name="order", value=key, checked=key == "order"), h("span", text))
        for key, text in (("order", "In order"), ("value", "By IoU"))
    ]
    legend = h("legend", "Order of the classes", class_="sr")
    return h("fieldset", legend, h("div", *choices, class_="views"), class_="sort", hidden=True)


def bar(value: Any, mark: Any = None) -> Html:
    """A bar from 0 to 1, with a mark where the baseline is."""
    drawn = [h("rect", x=0, y=3, width=100, height=8, rx=1, class_="track")]
    if is_number(value):
        drawn.append(h("rect", x=0, y=3, width=100.0 * value, height=8, class_="fill"))
    if is_number(mark):
        drawn.append(h("rect", x=max(0.0, 100.0 * mark - 0.4), y=0, width=0.8, height=14, class_="mark"))
    return h("svg", drawn, viewBox="0 0 100 14", preserveAspectRatio="none", aria_hidden="true")


def difference(value: Any, other: Any, element: str = "td") -> Html:
    """In percentage points, with its sign."""
    if not is_number(value) or not is_number(other):
        return h(element, NOTHING, class_="figure quiet")
    points = 100 * (value - other)
    kind = "better" if points >= 0.005 else "worse" if points <= -0.005 else "quiet"
    text = f"{points:+.2f}".replace("-", "\u2212") if kind != "quiet" else "0.00"
    return h(element, text, class_=f"figure {kind}")


def _column(title: str) -> str | None:
    if title in ("Class", ""):
        return None
    return "figure pixels" if title == "Pixels" else "figure"


def _legend(baseline: Baseline) -> Html:
    return h(
        "p",
        h("span", class_="mark-key", aria_hidden="true"),
        " ",
        name(baseline.name),
        f" ({baseline.split}): mIoU {percent(baseline.miou)} %. ",
        baseline.note,
        class_="note",
    )


def _shares(matrix: Any, number: int) -> list[float | None]:
    if not matrix:
        return [None] * number
    sums = [sum(row) for row in matrix]
    return [part / total for part in sums] if (total := sum(sums)) else [None] * number
