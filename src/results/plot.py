"""The settings of a comparison as a picture: a dot for each seed, a line for the mean."""

import io

from src.results.grouping import Comparison

_MOST = 30  # settings of a picture; more cannot be read


def plot_png(comparison: Comparison) -> bytes | None:
    """mIoU after the last epoch of each run, by setting, the best on top; None where no run is finished."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = [setting for setting in comparison.settings if setting.last][:_MOST]
    if not settings:
        return None
    figure = Figure(figsize=(7.0, 0.9 + 0.34 * len(settings)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row, setting in enumerate(settings):
        values = [100 * run.last for run in setting.finished if run.last is not None]
        color = "#d1590c" if setting is comparison.baseline and len(settings) > 1 else "#1f6feb"
        axes.plot(values, [row] * len(values), "o", color=color, alpha=0.55, markersize=6, mew=0)
        mean = sum(values) / len(values)
        axes.plot([mean, mean], [row - 0.3, row + 0.3], color=color, linewidth=2.2)
        above = {"ha": "center", "va": "bottom"}
        axes.text(mean, row - 0.36, f"{mean:.2f}", fontsize=7, color="#444444", **above)  # type: ignore[arg-type]
    labels = [_shortened(setting.label) for setting in settings]
    axes.set_yticks(range(len(settings)), labels, fontsize=8)
    axes.set_ylim(len(settings) - 0.4, -0.75)
    axes.set_xlabel("mIoU after the last epoch, %: dots are seeds, lines are means", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e3e6e9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _shortened(label: str, most: int = 60) -> str:
    return label if len(label) <= most else f"{label[: most - 3]}..."
