"""Several evaluations or engines on one page: a row for each, with bars for the compared metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.report.classes import bar
from src.report.html import NOTHING, Html, h, is_number, join, name, number, percent
from src.report.page import document


def render_comparison(
    title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], about: str = ""
) -> str:
    """The whole file, with the rows in the given order.

    Args:
        columns: a key of the rows -> its heading. Values of keys that begin with mIoU are fractions; they are
            shown in percent, with a bar, and the best one is bold.
        about: a line below the title.
    """
    best = {
        key: max((row[key] for row in rows if is_number(row.get(key))), default=None)
        for key in columns
        if key.startswith("mIoU")
    }
    numbers = {key for key in columns if any(is_number(row.get(key)) for row in rows)}
    heads = [
        h("th", text, scope="col", class_="measured" if key in best else key in numbers and "figure")
        for key, text in columns.items()
    ]
    body = [h("tr", [_cell(row.get(key), key in best, best.get(key)) for key in columns]) for row in rows]
    table = h("table", h("thead", h("tr", heads)), h("tbody", body), class_="rows")
    header = join(
        h("p", "Comparison", class_="kind"),
        h("h1", name(title)),
        h("p", about or f"{len(rows)} rows, best first", class_="about"),
    )
    section = h(
        "section", h("h2", "Side by side", class_="sr"), h("div", table, class_="scroll", tabindex="0")
    )
    return document(f"{title}: comparison", header, section)


def _cell(value: Any, is_share: bool, best: Any) -> Html:
    if value is None:
        return h("td", NOTHING, class_="quiet")
    if is_share and is_number(value):
        text = percent(value)
        return h("td", h("b", text) if value == best else text, bar(value), class_="measured")
    return h("td", number(value) if is_number(value) else name(value), class_=is_number(value) and "figure")
