"""metrics.json, report.html and the table on the terminal, after training and after evaluation."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import rich

from src.errors import UserError
from src.inference.views import KEYS
from src.report.pictures import confusion_figure
from src.report.table import table
from src.report.write import csv_rows, write_report
from src.runs.atomic_files import write_json
from src.runs.directory import Run
from src.runs.directory_checks import check_own
from src.weights.checkpoint_files import load_checkpoint

log = logging.getLogger(__name__)


def report_training(run: Run) -> float | None:
    """Write metrics.json from what best.ckpt and last.ckpt recorded of themselves; returns best's mIoU.

    With one of them alone (callbacks.best=null, callbacks.last=null) the figures are that one's.
    """
    figures = run.finished
    if figures:
        log.info("%s is finished. Nothing to do; another run needs another name=.", run.directory)
        _show(figures, run.directory / "metrics.json")
    else:
        best, last = (_recorded(run, name) for name in ("best.ckpt", "last.ckpt"))
        figures = best or last
        if figures is None or figures["mIoU"] is None or run.config["trainer"].get("fast_dev_run"):
            log.warning(
                "%s: no checkpoint of a validation (none was run, or fast_dev_run), so no metrics.json.",
                run.directory,
            )
            return None
        if best and last:
            rows = csv_rows(run.directory / "metrics.csv")
            validations = sum(bool(row.get("val/mIoU")) for row in rows)
            figures = best | {"last": last, "validations": validations}
        elif last:
            log.warning("%s: no best.ckpt. The figures are those of last.ckpt.", run.directory)
        _show(figures, Path(figures["checkpoint"]))
        write_json(run.directory / "metrics.json", figures)
        write_report(run.directory, run.config, run.config["model"])
    log.info("Best val mIoU %.4f in epoch %d: %s", figures["mIoU"], figures["epoch"], figures["checkpoint"])
    last = figures.get("last")
    if last and last["mIoU"] is not None and figures.get("validations", 0) > 1:
        log.info(
            "It was picked on these very images among %d validations. Beside a published number, which is of "
            "one evaluation, belongs the last one's: %.4f",
            figures["validations"],
            last["mIoU"],
        )
    _say_where(run)
    return figures["mIoU"]


def _show(figures: dict[str, Any], source: Path) -> None:
    """The table on the terminal. Raises UserError for a file that holds no figures to show."""
    try:
        shown = table(figures)
        if not isinstance(figures["mIoU"], float) or type(figures["epoch"]) is not int:
            raise TypeError("no mIoU of an epoch")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{source}: damaged, its figures cannot be shown ({error!r}). python -m src.eval "
            f"checkpoint=... measures those of a checkpoint."
        ) from error
    rich.print(shown)


def report_evaluation(
    run: Run, figures: dict[str, Any], provenance: dict[str, Any], split_size: int
) -> float | None:
    """Write metrics.json, with the network's provenance in it, confusion.png and report.html; returns the
    mIoU. Warns of figures that are not of the whole split."""
    data = run.config["data"]
    if figures["num_images"] < split_size:
        log.warning(
            "WARNING: %d of the split's %d images: figures of a part are not comparable.",
            figures["num_images"],
            split_size,
        )
    facts = provenance | {
        "data": data["name"],
        "split": data["val_split"],
        "precision": run.config["trainer"]["precision"],
        **{key: run.config.get(key) for key in KEYS},
    }
    write_json(run.directory / "metrics.json", figures | facts)
    matrix = np.array(figures["confusion_matrix"])
    confusion_figure(matrix, figures["classes"], run.directory / "confusion.png")
    write_report(run.directory, run.config)
    rich.print(table(figures))
    images = f"{figures['num_images']} images of {data['name']}, {data['val_split']}"
    log.info("mIoU %.4f on %s: %s", figures["mIoU"], images, run.directory)
    _say_where(run)
    return figures["mIoU"]


def _say_where(run: Run) -> None:
    path = run.directory / "report.html"
    if path.exists():
        log.info("Report: %s", path)


def _recorded(run: Run, name: str) -> dict[str, Any] | None:
    """None without the file."""
    path = run.directory / "checkpoints" / name
    if not path.exists():
        return None
    checkpoint = load_checkpoint(path)
    check_own(run.directory, checkpoint, path)
    try:
        # The last epoch may have gone without validation (trainer.check_val_every_n_epoch).
        scored = checkpoint["scores"] is not None and checkpoint["scored_epoch"] == checkpoint["epoch"]
        figures = checkpoint["scores"] if scored else {"mIoU": None}
        return figures | {
            "epoch": checkpoint["epoch"] + 1,  # counts from 1
            "checkpoint": str(path),
            "data": run.config["data"]["name"],
            "split": run.config["data"]["val_split"],
            "precision": checkpoint["hyper_parameters"]["precision"],
            "began_from": checkpoint["hyper_parameters"].get("began_from"),
        }
    except (LookupError, TypeError) as error:
        raise UserError(f"{path}: damaged, it records no validation ({error!r}).") from error
