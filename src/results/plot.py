"""The settings of a comparison as a picture: a dot for each run, a line for the mean; below, the curves."""

import io
import textwrap
from typing import Any

from src.report.curves import points_of
from src.results.grouping import Comparison, Setting
from src.runs.directory_checks import csv_rows

_MOST = 30  # settings of a picture; more cannot be read
COLORS = ("#1f6feb", "#d1590c", "#2a9d5c", "#a64ca6", "#b8860b", "#d6487e", "#4f8a9d", "#8c6d4f")
_REST = "#9aa4ad"  # all settings beyond these


def plot_png(comparison: Comparison) -> bytes | None:
    """mIoU after the last epoch of each run, by setting, the best on top; below, val mIoU over the epochs of
    those that have a metrics.csv. None where no run is finished."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = [setting for setting in comparison.settings if setting.last][:_MOST]
    if not settings:
        return None
    curves = [_curves(setting) for setting in settings]
    labels = [_lines(setting.label) for setting in settings]
    row = 0.22 + 0.12 * max(map(len, labels))
    heights = [0.9 + row * len(settings), *([3.2] if any(curves) else [])]
    figure = Figure(figsize=(7.0, sum(heights)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    # Each has margins of its own: the labels of the first are long.
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[
        :, 0
    ]  # margins of their own
    axes, *below = (part.add_subplot() for part in parts)
    _draw_means(axes, settings, labels)
    for of_curves in below:
        _draw_curves(of_curves, curves)
    for each in (axes, *below):
        each.tick_params(axis="x", labelsize=8)
        each.set_axisbelow(True)
        each.spines[["top", "right", "left"]].set_visible(False)
        each.grid(axis="x" if each is axes else "both", color="#e3e6e9", linewidth=0.8)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _color(index: int) -> str:
    return COLORS[index] if index < len(COLORS) else _REST


def _draw_means(axes: Any, settings: list[Setting], labels: list[list[str]]) -> None:
    for row, setting in enumerate(settings):
        assert setting.last is not None
        values = [100 * run.last for run in setting.finished if run.last is not None]
        color, mean = _color(row), 100 * setting.last.mean
        axes.plot(values, [row] * len(values), "o", color=color, alpha=0.55, markersize=6, mew=0)
        axes.plot([mean, mean], [row - 0.3, row + 0.3], color=color, linewidth=2.2)
        axes.text(mean, row - 0.36, f"{mean:.2f}", fontsize=7, color="#444444", ha="center", va="bottom")
    axes.set_yticks(range(len(settings)), ["\n".join(lines) for lines in labels], fontsize=7)
    axes.set_ylim(len(settings) - 0.4, -0.75)
    axes.set_xlabel("mIoU after the last epoch, % (lines: means)", fontsize=8)
    axes.tick_params(axis="y", length=0)


def _curves(setting: Setting) -> list[list[tuple[int, float]]]:
    """Of each run: epochs, and val mIoU in percent."""
    found = []
    for run in setting.finished:
        points = points_of(csv_rows(run.directory / "metrics.csv"), "val/mIoU", factor=100)
        found.append([(int(epoch), value) for _, value, epoch in points if epoch])
    return [points for points in found if len(points) > 1]


def _draw_curves(axes: Any, curves: list[list[list[tuple[int, float]]]]) -> None:
    """In the colours of the settings above."""
    for index, of_setting in enumerate(curves):
        for points in of_setting:
            axes.plot(*zip(*points, strict=True), color=_color(index), linewidth=1.2, alpha=0.9)
    axes.set_xlabel("epoch", fontsize=8)
    axes.set_ylabel("val mIoU, %", fontsize=8)
    axes.tick_params(axis="y", labelsize=8, length=0)


def _lines(label: str) -> list[str]:
    return textwrap.wrap(label, 44, max_lines=4, placeholder=" ...", break_on_hyphens=False)
