"""metrics.json, report.html and the table on the terminal, after training and after evaluation."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import rich

from src.errors import UserError
from src.inference.views import KEYS
from src.report.pictures import confusion_png
from src.report.table import table
from src.report.write import write_report
from src.runs.atomic_files import write_bytes, write_json
from src.runs.directory import Run
from src.runs.directory_checks import check_own, csv_rows
from src.weights.checkpoint_files import load_checkpoint
from src.weights.trained_network import is_scored, network_of

log = logging.getLogger(__name__)


def report_training(run: Run) -> float | None:
    """Write metrics.json from the metrics in best.ckpt and last.ckpt; returns the mIoU of best.ckpt.

    If only one of them exists (callbacks.best=null, callbacks.last=null), all metrics are from that one.
    """
    metrics = run.finished
    if metrics:
        log.info(
            "%s is finished. Nothing to do; another run needs another name=, more epochs need extend=true.",
            run.directory,
        )
        _show(metrics, run.directory / "metrics.json")
    else:
        best, last = (_recorded(run, name) for name in ("best.ckpt", "last.ckpt"))
        metrics = next((found for found in (best, last) if found and found["mIoU"] is not None), None)
        if metrics is None or run.config["trainer"].get("fast_dev_run"):
            log.warning(
                "%s: no checkpoint whose weights were validated (no validation, training steps after the "
                "last one, or fast_dev_run), hence no metrics.json.",
                run.directory,
            )
            return None
        if best and last:
            rows = csv_rows(run.directory / "metrics.csv")
            validations = sum(bool(row.get("val/mIoU")) for row in rows)
            metrics = metrics | {"last": last, "validations": validations}  # may be `last` itself
        elif last:
            log.warning("%s: no best.ckpt. The metrics are those of last.ckpt.", run.directory)
        _show(metrics, Path(metrics["checkpoint"]))
        write_json(run.directory / "metrics.json", metrics)
        write_report(run.directory, run.config, run.config["model"])
    log.info("Best val mIoU %.4f in epoch %d: %s", metrics["mIoU"], metrics["epoch"], metrics["checkpoint"])
    last = metrics.get("last")
    if last and last["mIoU"] is not None and metrics.get("validations", 0) > 1:
        log.info(
            "This checkpoint was selected on these same images, as the best of %d validations. A published "
            "number comes from one evaluation: compare it with the mIoU of last.ckpt, %.4f",
            metrics["validations"],
            last["mIoU"],
        )
    _say_where(run)
    return metrics["mIoU"]


def _show(metrics: dict[str, Any], source: Path) -> None:
    """The table on the terminal. Raises UserError for a file that holds no metrics to show."""
    try:
        shown = table(metrics)
        if not isinstance(metrics["mIoU"], float) or type(metrics["epoch"]) is not int:
            raise TypeError("no mIoU of an epoch")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{source}: damaged, its metrics cannot be shown ({error!r}). python -m src.eval "
            f"checkpoint=... computes the metrics of a checkpoint."
        ) from error
    rich.print(shown)


def report_evaluation(
    run: Run, metrics: dict[str, Any], provenance: dict[str, Any], split_size: int
) -> float | None:
    """Write metrics.json, with the network's provenance in it, confusion.png and report.html; returns the
    mIoU. Warns if the metrics do not cover the whole split."""
    data = run.config["data"]
    if metrics["num_images"] < split_size:
        log.warning(
            "WARNING: %d of the split's %d images: metrics of a part of the split are not comparable.",
            metrics["num_images"],
            split_size,
        )
    facts = provenance | {
        "data": data["name"],
        "split": data["val_split"],
        "root": str(Path(data["root"]).expanduser().resolve()),
        "precision": run.config["trainer"]["precision"],
        **{key: run.config.get(key) for key in KEYS},
    }
    write_json(run.directory / "metrics.json", metrics | facts)
    matrix = np.array(metrics["confusion_matrix"])
    write_bytes(run.directory / "confusion.png", confusion_png(matrix, metrics["classes"]))
    write_report(run.directory, run.config)
    rich.print(table(metrics))
    images = f"{metrics['num_images']} images of {data['name']}, {data['val_split']}"
    log.info("mIoU %.4f on %s: %s", metrics["mIoU"], images, run.directory)
    _say_where(run)
    return metrics["mIoU"]


def _say_where(run: Run) -> None:
    path = run.directory / "report.html"
    if path.exists():
        log.info("Report: %s", path)


def _recorded(run: Run, name: str) -> dict[str, Any] | None:
    """The metrics that a checkpoint of the run recorded; None without the file."""
    path = run.directory / "checkpoints" / name
    if not path.exists():
        return None
    checkpoint = load_checkpoint(path)
    check_own(run.directory, checkpoint, path)
    try:
        # The last epoch may have had no validation (trainer.check_val_every_n_epoch).
        metrics = checkpoint["scores"] if is_scored(checkpoint) else {"mIoU": None}
        return metrics | {
            **network_of(checkpoint, str(path)).provenance,
            "data": run.config["data"]["name"],
            "split": run.config["data"]["val_split"],
            "precision": checkpoint["hyper_parameters"]["precision"],
            "began_from": checkpoint["hyper_parameters"].get("began_from"),
        }
    except (LookupError, TypeError) as error:
        raise UserError(f"{path}: damaged, it records no validation ({error!r}).") from error
