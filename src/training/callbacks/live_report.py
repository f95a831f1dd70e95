"""report.html while a training goes on."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from src.errors import UserError
from src.report.write import Unfinished, csv_rows, write_report
from src.runs.directory import Run
from src.training.callbacks.time_left import time_left
from src.training.loggers.csv import MetricsCSV
from src.weights.checkpoint_files import load_checkpoint


class LiveReport(Callback):
    """Writes report.html after each validation, with the metrics of the best one so far, and once more if the
    training is broken off. The finished training replaces it (src/evaluation/results.py).

    It comes after the callbacks that write the checkpoints and the pictures.
    """

    def __init__(self, run: Run):
        self.run = run
        self._best: dict[str, Any] | None = None
        self._last: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Of a resumed run, whose page says that it was broken off."""
        path = self.run.directory / "checkpoints/best.ckpt"
        if not trainer.is_global_zero or not path.exists():
            return
        try:
            best = load_checkpoint(path)
            self._best = best["scores"] | {"epoch": best["scored_epoch"] + 1}
            newest = self._validations()[-1]
            self._last = {"epoch": int(newest["epoch"]) + 1, "mIoU": float(newest["val/mIoU"])}
        except (UserError, LookupError, TypeError, ValueError):
            self._best = self._last = None  # the end of the training reports what is wrong with the file
        else:
            self._write(trainer, goes_on=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        dry = trainer.sanity_checking or trainer.fast_dev_run  # type: ignore[attr-defined]
        scores: Any = pl_module.scores
        if dry or not trainer.is_global_zero or scores["mIoU"] is None:
            return
        self._last = scores | {"epoch": trainer.current_epoch + 1}
        if self._best is None or scores["mIoU"] > (self._best["mIoU"] or 0.0):
            self._best = self._last
        self._write(trainer, goes_on=True)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, OSError):
            return  # such as a full disk: nothing could be written, and one message is enough
        if trainer.is_global_zero and self._last is not None:
            self._write(trainer, goes_on=False)

    def _validations(self) -> list[dict[str, str]]:
        return [row for row in csv_rows(self.run.directory / "metrics.csv") if row.get("val/mIoU")]

    def _write(self, trainer: pl.Trainer, goes_on: bool) -> None:
        assert self._best is not None
        assert self._last is not None
        try:
            self.run.check_in_place()
        except UserError:
            return  # the next checkpoint reports it
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.flush()  # the page shows its curves
        data, epochs = self.run.config["data"], trainer.max_epochs or -1
        where = f"epoch {trainer.current_epoch + 1}{f' of {epochs}' if epochs > 0 else ''}"
        left = time_left(trainer) if goes_on else None
        metrics = self._best | {
            "data": data["name"],
            "split": data["val_split"],
            "precision": str(trainer.precision),
            "last": {"epoch": self._last["epoch"], "mIoU": self._last["mIoU"]},
            "validations": len(self._validations()),
        }
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        if goes_on:
            soon = f", {left}" if left else ""
            text = f"The training is in {where}{soon}. This page, written {now}, reloads itself."
        else:
            text = f"The training was broken off in {where}, at {now}. The same command resumes it."
        write_report(self.run.directory, self.run.config, unfinished=Unfinished(metrics, text, goes_on))
