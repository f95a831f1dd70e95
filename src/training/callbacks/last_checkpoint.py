"""The callback behind last.ckpt, from which a run resumes bit for bit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from src.training.loggers.csv import MetricsCSV
from src.training.reliability.lightning_internals import (
    is_accumulating,
    is_last_batch,
    logs_this_step,
    restore_metrics,
    validation_is_next,
)


class LastCheckpoint(Checkpoint):
    """Keeps one checkpoint that is as recent as possible: of the last epoch, or of a step within an epoch.

    It is written after each epoch, before each validation (which may take longer than the epoch) and every
    `every_n_train_steps` steps. Lightning's ModelCheckpoint saves a step only once, and a run that resumes
    from a checkpoint which it saved before a validation skips this validation.

    Args:
        path: of the file.
        every_n_train_steps: optimizer steps between two checkpoints within an epoch; None = no such ones.
    """

    def __init__(self, path: str | Path, every_n_train_steps: int | None = None):
        self.path = Path(path)
        self.every_n_train_steps = every_n_train_steps
        self._validation_is_next = False
        self._val_loss: float | None = None  # of the checkpoint that the run resumes from
        self._train_metrics: dict[str, float] = {}  # as well

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._val_loss = checkpoint.get("val_loss")  # missing in older checkpoints
        self._train_metrics = checkpoint.get("train_metrics", {})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            if resume_from := getattr(logger, "resume_from", None):
                resume_from(trainer.global_step)  # the steps after the checkpoint are logged again
        known = dict(self._train_metrics)  # a monitor may read them before they are logged again
        if pl_module.scores and pl_module.scored_epoch == trainer.current_epoch:
            # A monitor reads them at the end of this epoch, whose validation may be over (as in best.ckpt).
            scores = pl_module.epoch_scores(pl_module.scores, self._val_loss)  # type: ignore[operator]
            known |= {key: value for key, value in scores.items() if value is not None}
        as_logged = {key: torch.tensor(value, dtype=torch.float64) for key, value in known.items()}
        restore_metrics(trainer, as_logged)
        # `stopped_epoch` is 0 if it was stopped by the very first one.
        stops = trainer.early_stopping_callbacks
        if any(c.stopped_epoch or c.wait_count >= max(1, c.patience) for c in stops):
            trainer.should_stop = True  # it was stopped by its last epoch, and killed before its end

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        due = self.every_n_train_steps and trainer.global_step % self.every_n_train_steps == 0
        if can_save(trainer) and (due or validation_is_next(trainer)):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        _log_now(trainer, {"train/loss_epoch": trainer.callback_metrics["train/loss_epoch"]})
        trainer.save_checkpoint(self.path, weights_only=False)

    def save(self, trainer: pl.Trainer) -> None:
        """Call it on all ranks, at the end of a batch where `can_save` holds."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if is_last_batch(trainer) and not validation_is_next(trainer):
            return  # `on_train_epoch_end` follows at once; a run that resumes from here would leave it out
        _log_now(trainer, trainer.lightning_module.step_metrics if logs_this_step(trainer) else {})  # type: ignore[arg-type]
        self._validation_is_next = validation_is_next(trainer)
        trainer.save_checkpoint(self.path, weights_only=False)
        self._validation_is_next = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        metrics = trainer.callback_metrics
        if (loss := metrics.get("val/loss")) is not None:
            checkpoint["val_loss"] = float(loss)
        checkpoint["train_metrics"] = {k: float(v) for k, v in metrics.items() if k.startswith("train/")}
        if not self._validation_is_next:
            return
        # Saved as if the validation's first batch had begun: Lightning then resumes at the start of it.
        loops = checkpoint["loops"]["fit_loop"]
        begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        loops["epoch_loop.val_loop.batch_progress"] = {
            "total": begun,
            "current": dict.fromkeys(begun, 0),
            "is_last_batch": False,
        }
        for progress in ("total", "current"):
            batches = loops["epoch_loop.batch_progress"][progress]
            batches["completed"] = batches["processed"]


def can_save(trainer: pl.Trainer) -> bool:
    """Whether a run could resume from here; asked at the end of a training batch.

    It could not between accumulated batches, whose gradients are not in the checkpoint; and not at the very
    last step, after which Lightning would not resume anything, not even the validation.
    """
    return not is_accumulating(trainer) and trainer.global_step != trainer.max_steps


def _log_now(trainer: pl.Trainer, metrics: Mapping[str, Tensor]) -> None:
    """Write metrics of the last step into metrics.csv, before a checkpoint is saved. Lightning logs them only
    after the callbacks: a run that is killed in between would resume behind them, and never log them."""
    values = {name: float(value) for name, value in metrics.items()}
    for logger in trainer.loggers:
        if isinstance(logger, MetricsCSV):
            if values:
                logger.log_metrics({"epoch": trainer.current_epoch} | values, trainer.global_step - 1)
            logger.flush()
