"""Tables: CSV with a row for each run, Markdown and LaTeX with a row for each setting."""

import csv
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from json import dumps, loads
from typing import Any

from src.results.grouping import Comparison, Difference, Interval, Setting, Spread, difference
from src.results.runs import RunResult

log = logging.getLogger(__name__)

RUN_COLUMNS = (
    "run", "overrides", "seed", "status", "epochs", "val_mIoU_last", "val_mIoU_best", "best_epoch", "hours",
    "data", "split", "images", "precision", "network", "parameters", "GFLOPs", "GFLOPs_at", "revision",
    "hardware",
)  # fmt: skip
Row = Mapping[str, Any]


def run_row(run: RunResult) -> dict[str, Any]:
    """The columns of a run. What is not known is empty."""
    metrics, cost = run.metrics, cost_of(run)
    machine = run.start.get("hardware") or {}
    gpus = [gpu["name"] for gpu in machine.get("gpus") or []]
    device = ", ".join(gpus) or (f"{machine['cores']} cores of {machine['cpu']}" if machine else "")
    values = {
        "run": run.name,
        "overrides": " ".join(run.overrides),
        "seed": run.seed,
        "status": run.status,
        "epochs": run.epochs,
        "val_mIoU_last": run.last,
        "val_mIoU_best": run.best,
        "best_epoch": metrics.get("epoch"),
        "hours": run.hours and round(run.hours, 2),
        "data": metrics.get("data"),
        "split": metrics.get("split"),
        "images": metrics.get("num_images"),
        "precision": metrics.get("precision"),
        "network": metrics.get("network") or _network(run),
        "parameters": cost.get("parameters"),
        "GFLOPs": cost.get("GFLOPs"),
        "GFLOPs_at": _size(cost),
        "revision": metrics.get("revision"),
        "hardware": device,
    }
    return {column: "" if values[column] is None else values[column] for column in RUN_COLUMNS}


def csv_text(rows: Iterable[Row], columns: Sequence[str] = RUN_COLUMNS) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def setting_cells(comparison: Comparison) -> list[list[str]]:
    """Heading and a row for each setting; columns of which nothing is known are left out."""
    heads = ["setting", "seeds", "mIoU, last epoch", "difference", "95 %, seeds", "95 %, images"]
    sizes = {_size(cost_of(setting.finished[0])) for setting in comparison.settings if setting.finished}
    at = f" at {next(iter(sizes))}" if len(sizes - {None}) == 1 else ""
    heads += ["mIoU, best epoch", "parameters", f"GFLOPs{at}", "ms an image", "time a run"]
    rows = [_cells(setting, comparison) for setting in comparison.settings]
    if not at:
        for row, setting in zip(rows, comparison.settings, strict=True):
            row[8] += f" at {_size(cost_of(setting.finished[0]))}" if row[8] else ""
    known = [i for i in range(len(heads)) if i < 3 or any(row[i] for row in rows)]
    return [[row[i] for i in known] for row in (heads, *rows)]


def caption(comparison: Comparison) -> str:
    """What all runs have in common, what the differences refer to, and where times were measured."""
    found = [f"All runs: {' '.join(comparison.common)}."] if comparison.common else []
    if len(comparison.settings) > 1:
        found.append(f"Differences are to: {comparison.baseline.label}.")
    costs = [cost_of(setting.finished[0]) for setting in comparison.settings if setting.finished]
    devices = {cost.get("device") for cost in costs if cost.get("latency_ms")}
    if len(devices - {None}) == 1:
        found.append(f"Milliseconds on {devices.pop()}.")
    return " ".join(found)


def _cells(setting: Setting, comparison: Comparison) -> list[str]:
    cost = cost_of(setting.finished[0]) if setting.finished else {}
    is_baseline = setting is comparison.baseline and len(comparison.settings) > 1
    change = difference(setting, comparison.baseline)
    return [
        setting.label,
        _seeds(setting),
        spread(setting.last),
        "baseline" if is_baseline else _change(change),
        interval(change.over_seeds) if change else "",
        interval(change.over_images) if change else "",
        spread(setting.best),
        f"{cost['parameters']:,}" if cost.get("parameters") else "",
        f"{cost['GFLOPs']:.2f}" if cost.get("GFLOPs") else "",
        f"{cost['latency_ms']:.1f}" if cost.get("latency_ms") else "",
        _time(setting.hours.mean) if setting.hours else "",
    ]


def _seeds(setting: Setting) -> str:
    """How many seeds have an mIoU; where runs are missing, of how many and why; where a command was repeated,
    in how many runs."""
    known, finished = len(setting.seeds), len(setting.finished)
    status = sorted({run.status for run in setting.runs if run.last is None})
    if status:
        return f"{known} of {len({run.seed for run in setting.runs})} ({', '.join(status)})"
    return f"{known} ({finished} runs)" if finished > known else str(known)


def _change(change: Difference | None) -> str:
    return "" if change is None else points(change.mean) + (" *" if change.is_clear else "")


def _time(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def spread(value: Spread | None) -> str:
    """Mean and standard deviation in percent."""
    if value is None:
        return ""
    plus = "" if value.deviation is None else f" ± {100 * value.deviation:.2f}"
    return f"{100 * value.mean:.2f}{plus}"


def points(value: float) -> str:
    """A difference, in points of a percent."""
    return f"{100 * value:+.2f}"


def interval(value: Interval | None) -> str:
    return f"{points(value[0])} to {points(value[1])}" if value else ""


def latex(cells: Sequence[Sequence[str]], note: str = "") -> str:
    """The same for booktabs; the mean of the first setting, the best, is bold.

    Args:
        note: a comment above the table.
    """
    head, *rows = [[_escaped(cell) for cell in row] for row in cells]
    if rows and rows[0][2]:
        rows[0][2] = rf"\textbf{{{rows[0][2]}}}"
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*([f"% {note}"] if note else []), *lines]) + "\n"


_LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {letter: f"\\{letter}" for letter in "&%$#_{}"}


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def cost_of(run: RunResult) -> Row:
    """Parameters, GFLOPs of an image and its size (of a training, that of the crops), and, of an evaluation,
    the median milliseconds."""
    measured = run.metrics.get("cost")
    if isinstance(measured, Mapping):
        return dict(measured) | {"latency_ms": (measured.get("latency_ms") or {}).get("median")}
    model, size = run.config.get("model"), (run.config.get("data") or {}).get("crop_size")
    return _counted(dumps(model), tuple(size)) if model and size else {}


@lru_cache
def _counted(model: str, size: tuple[int, int]) -> Row:
    from src.network.cost import parameters_and_gflops  # torch, which a table of CSV files does not need
    from src.network.trust import trust

    config = loads(model)
    trust([config["_target_"]])  # the config of a run is the user's own
    try:
        parameters, gflops = parameters_and_gflops(config, *size)
    except Exception as error:  # the code of a network of the user's own is not on PYTHONPATH
        log.warning("Parameters and GFLOPs of %s are not known: %s", config["_target_"], error)
        return {}
    return {"parameters": parameters, "GFLOPs": round(gflops, 3), "image": list(size)}


def _size(cost: Row) -> str | None:
    """Height and width, "512x1024"."""
    return "x".join(map(str, cost["image"])) if cost.get("image") and cost.get("GFLOPs") else None


def _network(run: RunResult) -> str:
    return str((run.config.get("model") or {}).get("_target_", "")).rpartition(".")[2]
