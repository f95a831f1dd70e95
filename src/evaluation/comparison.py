"""Several evaluations side by side: a row per network, with and without test-time augmentation (TTA)."""

import csv
import io
import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich
from rich import box
from rich.table import Table

from src.data.files import Source, read_bytes
from src.data.folders import files_below
from src.errors import UserError
from src.inference.views import NO_TTA
from src.report.comparison_page import render_comparison
from src.report.table import markdown
from src.runs.atomic_files import write_text
from src.weights.published_names import OURS
from src.weights.recorded_network import seen_before

log = logging.getLogger(__name__)

COLUMNS = {
    "network": "network",
    "parameters": "parameters",
    "GFLOPs": "GFLOPs",
    "mIoU": "mIoU",
    "mIoU_tta": "mIoU with TTA",
    "latency_ms": "ms an image",
    "checkpoint": "checkpoint",
    "data": "data",
}
"""Column names in the CSV -> headings for readers. GFLOPs and ms are those of an image without TTA."""


def compare(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """A row for each network and set of images, best first, of all evaluations below the folders.

    Evaluations with and without TTA share a row only if their images, precision, window, stride and input
    scale are the same. If there are several kinds of TTA, each has a row of its own.
    """
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    found = [path for folder in folders for path in files_below(folder) if path.name == "metrics.json"]
    read = {path: _read(path) for path in sorted(found, key=str)}
    evaluations = {path: metrics for path, metrics in read.items() if "cost" in metrics}  # not trainings
    roots, weights = defaultdict(set), defaultdict(set)
    for metrics in evaluations.values():
        weights[metrics["checkpoint"]].add(metrics.get("weights_sha256"))
        if root := metrics.get("root"):  # not recorded by older evaluations
            roots[metrics["checkpoint"], _data(metrics)].add(root)
    for path, metrics in evaluations.items():
        views = _views(metrics["tta"] or NO_TTA)
        row = {"network": _name(metrics), "checkpoint": metrics["checkpoint"], "data": _data(metrics)}
        if len(roots[row["checkpoint"], row["data"]]) > 1 and metrics.get("root"):
            row["data"] += f" in {metrics['root']}"
        if len(weights[row["checkpoint"]]) > 1:  # trained further between two evaluations
            row["data"] += f", weights {(metrics.get('weights_sha256') or 'unknown')[:8]}"
        row |= {name: metrics["cost"][name] for name in ("parameters", "GFLOPs")}
        column = "mIoU_tta" if views else "mIoU"
        row[column] = metrics["mIoU"]
        if rows.get((row["checkpoint"], row["data"], views), row)[column] != row[column]:
            row["data"] += f" ({str(path).split('/')[-2]})"  # it differs in what the table does not show
        if not views:
            row["latency_ms"] = metrics["cost"].get("latency_ms", {}).get("median")
        rows[row["checkpoint"], row["data"], views] = dict.fromkeys(COLUMNS) | row
    augmented = {key: row for key, row in rows.items() if key[2]}
    ways = {views for *_, views in augmented}
    for (checkpoint, data, views), row in augmented.items():
        if plain := rows.get((checkpoint, data, "")):
            row |= {key: plain[key] for key in ("mIoU", "latency_ms")}
        if len(ways) > 1:
            row["data"] += f", TTA: {views}"
    shown = {key[:2] for key in augmented}
    kept = [row for key, row in rows.items() if key[2] or key[:2] not in shown]
    return sorted(kept, key=lambda row: -(row["mIoU"] or row["mIoU_tta"] or 0))


def _read(path: Source) -> dict[str, Any]:
    """The metrics; empty, with a warning, where they cannot be read."""
    try:
        metrics = json.loads(read_bytes(path))
        return metrics if isinstance(metrics, dict) else {}
    except (OSError, ValueError, UserError) as error:
        log.warning("%s is left out: %s", path, error)
        return {}


def _views(tta: Mapping[str, Any]) -> str:
    """The augmentation in words; empty without one."""
    if tta == NO_TTA:
        return ""
    scales = " ".join(f"{scale:g}" for scale in tta["scales"])
    return f"scales {scales}{', mirrored' if tta['flip'] else ''}"


def _data(metrics: Mapping[str, Any]) -> str:
    """The images, and how they were evaluated where that differs from the defaults."""
    parts = [f"{metrics['data']} {metrics['split']}", f"{metrics['num_images']} images"]
    parts += [metrics["precision"]] if metrics["precision"] != "32-true" else []
    ways = ("window", "stride", "input_scale")
    parts += [f"{key} {metrics[key]}" for key in ways if metrics.get(key) not in (None, 1)]
    seen = seen_before(metrics.get("trained_on") or [], metrics["data"], metrics["split"])
    parts += ["trained on some of these"] if seen else []
    return ", ".join(parts)


def _name(metrics: Mapping[str, Any]) -> str:
    family = metrics.get("family", OURS)
    return metrics["network"] if family == OURS else f"{metrics['network']} ({family})"


def report_comparison(directory: Path) -> None:
    """Write comparison.md, .csv and report.html of the evaluations in a directory, and print the table."""
    if rows := compare([directory]):
        _write(directory, rows)
        rich.print(table(rows))


def _write(directory: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_text(directory / "comparison.md", markdown([list(COLUMNS.values()), *map(_cells, rows)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_text(directory / "comparison.csv", text.getvalue())
    write_text(directory / "report.html", render_comparison(directory.name, rows, COLUMNS))


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The table for the terminal. Data that all rows share stand in the caption, not in a column."""
    shown = [key for key in COLUMNS if key != "data" or len({row[key] for row in rows}) > 1]
    images = None if "data" in shown else f"on {rows[0]['data']}"
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=images, caption_justify="left")
    for key in shown:
        if key in ("network", "checkpoint", "data"):
            result.add_column(COLUMNS[key], overflow="fold")
        else:
            result.add_column(COLUMNS[key], justify="right", min_width=6)
    paths = _without_common_folder([row["checkpoint"] for row in rows])
    for row, path in zip(rows, paths, strict=True):
        cells = dict(zip(COLUMNS, _cells(row), strict=True)) | {"checkpoint": path}
        result.add_row(*(cells[key] for key in shown))
    return result


def _without_common_folder(paths: Sequence[str]) -> list[str]:
    first, *others = (Path(path).parent for path in paths)
    for common in (first, *first.parents):
        if all(other.is_relative_to(common) for other in others):
            return [Path(path).relative_to(common).as_posix() for path in paths]
    return list(paths)


def _cells(row: Mapping[str, Any]) -> list[str]:
    shapes = {"parameters": "{:,}", "GFLOPs": "{:.2f}", "latency_ms": "{:.1f}"}
    cells = []
    for key in COLUMNS:
        value = row[key]
        if value is None:
            cells.append("-")
        elif key.startswith("mIoU"):
            cells.append(f"{100 * value:.2f}")
        else:
            cells.append(shapes.get(key, "{}").format(value))
    return cells
