"""Writes the report.html of a run directory."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.label_tables import table_of
from src.network.cost import parameters_and_gflops
from src.report.page import Report, render
from src.report.reference_scores import find_baseline
from src.runs.atomic_files import write_text
from src.runs.directory_checks import csv_rows
from src.runs.log_handlers import KeptWarnings
from src.runs.record import read_starts

log = logging.getLogger(__name__)

IMAGES = "pictures/best_and_worst.json"  # in the run directory
_RELOAD = 20  # seconds


@dataclass(frozen=True)
class Unfinished:
    """A training that has no metrics.json yet."""

    metrics: Mapping[str, Any]  # as in metrics.json, of the best validation so far
    text: str  # how far it is
    goes_on: bool  # else it was broken off


def write_report(
    directory: Path,
    config: Mapping[str, Any],
    model: Mapping[str, Any] | None = None,
    unfinished: Unfinished | None = None,
) -> Path | None:
    """Write report.html of a run that has its metrics.json, or of an unfinished one; None, and a warning,
    where that fails: a failed report must not end the run with an error.

    Args:
        config: the run's config.
        model: the network's values in the config, to count its parameters and GFLOPs.
    """
    path = directory / "report.html"
    try:
        write_text(path, render(collect(directory, config, model, unfinished)))
    except UserError as error:
        log.warning("No report.html: %s", error.text)
        return None
    except Exception:
        where = "metrics.csv" if unfinished else "metrics.json"
        log.warning("No report.html could be written. The metrics are in %s.", where, exc_info=True)
        return None
    return path


def collect(
    directory: Path,
    config: Mapping[str, Any],
    model: Mapping[str, Any] | None = None,
    unfinished: Unfinished | None = None,
) -> Report:
    """What the run directory holds. Only metrics.json has to be there, unless the run is unfinished."""
    ended, metrics = None, unfinished.metrics if unfinished else {}
    if not unfinished:
        path = directory / "metrics.json"
        metrics = json.loads(path.read_text())
        ended = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(path.stat().st_mtime))
    data = config["data"]
    table = table_of(data)
    images = read_images(directory / IMAGES, metrics)
    size = images["size"] if images else data["crop_size"]
    return Report(
        name=str(config["name"]),
        task=config["task"],
        metrics=metrics,
        data=data,
        colors=[e.color for e in table.train_labels]
        if metrics.get("classes") == list(table.class_names)
        else (),
        rows=csv_rows(directory / "metrics.csv"),
        starts=read_starts(directory),
        ended=ended,
        unfinished=unfinished.text if unfinished else "",
        reload=_RELOAD if unfinished and unfinished.goes_on else None,
        config=_text(directory / "config.yaml"),
        images=images,
        baseline=find_baseline((config.get("report") or {}).get("baseline"), data),
        network=_cost(metrics, model, size),
        warnings=list(KeptWarnings.texts),
    )


def _cost(metrics: Mapping[str, Any], model: Mapping[str, Any] | None, size: list[int]) -> dict[str, Any]:
    """The cost that the evaluation measured; else it is counted for an image of `size` (height, width)."""
    cost = metrics.get("cost")
    if isinstance(cost, Mapping) and {"parameters", "GFLOPs"} <= cost.keys():
        parameters, gflops, size = cost["parameters"], cost["GFLOPs"], cost.get("image", size)
    elif model is not None:
        parameters, gflops = parameters_and_gflops(model, *size)
    else:
        return {}
    return {"Parameters": parameters, f"GFLOPs at {size[1]} x {size[0]}": gflops}


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def read_images(path: Path, metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """None if they are from another validation than the metrics: one whose checkpoint was lost."""
    try:
        found = json.loads(path.read_text())
        return found if found["mIoU"] == metrics["mIoU"] else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
