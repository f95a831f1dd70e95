"""Sends the results of a finished run to its dashboards: tables, pictures, report.html."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger

from src.labels import LabelTable
from src.report.best_and_worst import decoded
from src.report.write import IMAGES, read_images
from src.training.loggers.dashboards import Cell, Dashboard, WandbDashboard, dashboards

log = logging.getLogger(__name__)

_COLUMNS = ("class", "IoU", "recall", "precision", "share of the pixels")


def send_results(loggers: Iterable[Logger], directory: Path, table: LabelTable, step: int) -> None:
    """Sends what the run directory has. A dashboard that fails costs a warning: the files are complete.

    Args:
        directory: with metrics.json; without it nothing is sent.
        step: of the end of the training; of an evaluation 0.
    """
    path = directory / "metrics.json"
    boards = dashboards(loggers, table) if path.exists() else []
    for board in boards:
        try:
            _send(board, json.loads(path.read_text()), directory, step)
        except Exception as error:
            # Any error: these are other people's servers and clients.
            name = type(board.logger).__name__
            log.warning("%s could not get the results (%r). They are in %s.", name, error, directory)


def _send(board: Dashboard, metrics: Mapping[str, Any], directory: Path, step: int) -> None:
    matrix = np.array(metrics["confusion_matrix"])
    board.table("results/classes", _COLUMNS, _classes(metrics, matrix), step)
    board.confusion("results/confusion_matrix", matrix, step)
    found = read_images(directory / IMAGES, metrics) or {}
    for kind in ("worst", "best"):
        if found.get(kind):
            board.pictures(f"results/{kind}_images", [decoded(entry) for entry in found[kind]], step)
    board.summary(_summary(metrics))
    if (report := directory / "report.html").exists():
        board.file(report)
    best = directory / "checkpoints" / "best.ckpt"
    if isinstance(board, WandbDashboard) and best.exists():
        board.model(best, [f"miou-{100 * metrics['mIoU']:.2f}"], _summary(metrics))


def _classes(metrics: Mapping[str, Any], matrix: np.ndarray) -> Sequence[Sequence[Cell]]:
    """A row for each class. A class that does not occur has no IoU."""
    truth, guessed, hits = matrix.sum(1), matrix.sum(0), matrix.diagonal()
    shares = truth / max(1, truth.sum())

    def ratio(part: int, whole: int) -> float | None:
        return float(part / whole) if whole else None

    return [
        [name, metrics["IoU"][name], ratio(hit, of_truth), ratio(hit, of_guessed), float(share)]
        for name, hit, of_truth, of_guessed, share in zip(
            metrics["classes"], hits, truth, guessed, shares, strict=True
        )
    ]


def _summary(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that one compares runs by, and where the weights come from."""
    last = metrics.get("last") or {}
    values = {
        "results/mIoU": metrics["mIoU"],
        "results/epoch": metrics.get("epoch"),
        "results/mIoU_of_the_last_epoch": last.get("mIoU"),
        "results/split": metrics.get("split"),
        **{key: metrics.get(key) for key in ("parameters", "seed", "revision", "weights_sha256")},
        **{key: metrics["cost"][key] for key in ("GFLOPs",) if "cost" in metrics},
    }
    return {key: value for key, value in values.items() if value is not None}
