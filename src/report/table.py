"""Tables: the metrics of a training or an evaluation for the terminal, and any cells in Markdown."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table


def table(metrics: dict[str, Any]) -> Table:
    """The table for the values of metrics.json, with iIoU and categories only if it has them."""
    iiou = {"mIoU": metrics.get("mean_iIoU"), "category mIoU": metrics.get("category_mean_iIoU")}
    iiou |= metrics.get("iIoU", {})
    of_categories = metrics.get("category_iIoU", {})
    some_iiou = any(value is not None for value in (*iiou.values(), *of_categories.values()))
    result = Table(title="IoU per class, %")
    result.add_column("class")
    for column in ("IoU", "iIoU") if some_iiou else ("IoU",):
        result.add_column(column, justify="right")

    def row(name: str, *fractions: float | None, style: str | None = None) -> None:
        result.add_row(name, *map(_percent, fractions if some_iiou else fractions[:1]), style=style)

    for name in metrics["classes"]:
        row(name, metrics["IoU"][name], iiou.get(name))
    if "category_IoU" in metrics:
        result.add_section()
        for name, value in metrics["category_IoU"].items():
            row(name, value, of_categories.get(name))
    result.add_section()
    row("mIoU", metrics["mIoU"], iiou["mIoU"], style="bold")
    if "category_IoU" in metrics:
        row("category mIoU", metrics["category_mIoU"], iiou["category mIoU"])
    row("pixel accuracy", metrics["pixel_accuracy"])
    row("mean accuracy", metrics["mean_accuracy"])
    return result


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A table whose first row is the heading."""
    head, *rows = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
