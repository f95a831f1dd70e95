"""metrics.json and the table on the terminal, after training and after evaluation."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import rich

from src.checkpoints import load_checkpoint
from src.evaluation.confusion import table
from src.evaluation.pictures import confusion_figure
from src.runs import Run, rank, write_json

log = logging.getLogger(__name__)


def report_training(run: Run) -> float | None:
    """Write metrics.json from what best.ckpt and last.ckpt recorded of themselves; returns best's mIoU."""
    figures = run.finished
    if figures:
        log.info("%s: this run is finished (%s). Nothing to do; another run needs another name=.",
                 run.directory, f"mIoU {figures['mIoU']:.4f}")  # fmt: skip
    else:
        best, last = (_recorded(run, name) for name in ("best.ckpt", "last.ckpt"))
        figures = best | {"last": last}
        write_json(run.directory / "metrics.json", figures)
    rich.print(table(figures))
    log.info("Best val mIoU %.4f in epoch %d: %s", figures["mIoU"], figures["epoch"], figures["checkpoint"])
    return figures["mIoU"]


def report_evaluation(
    run: Run, figures: dict[str, Any] | None, checkpoint: dict[str, Any], precision: str, split: str
) -> float | None:
    """Write metrics.json and confusion.png; returns the mIoU."""
    assert figures is not None, "validate first"
    if rank() != 0:
        return figures["mIoU"]
    path = Path(run.config["checkpoint"])
    facts = provenance(path, checkpoint, split) | {"precision": precision, "data": run.config["data"]["name"]}
    write_json(run.directory / "metrics.json", figures | facts)
    confusion_figure(
        np.array(figures["confusion_matrix"]), figures["classes"], run.directory / "confusion.png"
    )
    rich.print(table(figures))
    log.info(
        "mIoU %.4f on %d images of '%s' (%s): %s",
        figures["mIoU"],
        figures["num_images"],
        split,
        path,
        run.directory,
    )
    return figures["mIoU"]


def _recorded(run: Run, name: str) -> dict[str, Any]:
    path = run.directory / "checkpoints" / name
    checkpoint = load_checkpoint(path)
    return {**checkpoint["scores"], **provenance(path, checkpoint, run.config["data"]["val_split"])}


def provenance(path: Path, checkpoint: dict[str, Any], split: str) -> dict[str, Any]:
    """What a figure needs beside it to be comparable. `epoch` counts from 1."""
    return {
        "epoch": checkpoint["scored_epoch"] + 1,
        "checkpoint": str(path),
        "split": split,
        "precision": checkpoint["hyper_parameters"]["precision"],
    }
