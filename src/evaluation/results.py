"""metrics.json and the table on the terminal, after training and after evaluation."""

import logging
from pathlib import Path
from typing import Any

import rich

from src.evaluation.confusion import table
from src.runs import Run, write_json
from src.training.checkpoint_io import load_checkpoint

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
