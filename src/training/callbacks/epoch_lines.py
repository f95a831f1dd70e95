"""What a training says on the terminal and in train.log: a progress bar or lines, and why it ended."""

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar, Timer

log = logging.getLogger(__name__)


class EpochLines(Callback):
    """Logs a line per validation and, if the output is not a terminal, also lines within an epoch.

    Args:
        seconds: time between two lines within an epoch.
    """

    def __init__(self, seconds: float = 15.0):
        self.seconds = seconds
        self._epoch_start = self._last_line = 0.0
        self._interactive = sys.stdout.isatty()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_start = self._last_line = time.monotonic()  # a resume within an epoch has no epoch start

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_start = self._last_line = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._interactive or not trainer.is_global_zero:
            return
        if time.monotonic() - self._last_line < self.seconds:
            return
        self._last_line = time.monotonic()
        loss = trainer.callback_metrics.get("train/loss_step")
        log.info(
            "epoch %s, batch %d of %d%s",
            _of(trainer.current_epoch + 1, trainer.max_epochs),
            batch_idx + 1,
            trainer.num_training_batches,
            "" if loss is None else f", loss {float(loss):.3f}",
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        parts = [f"epoch {_of(trainer.current_epoch + 1, trainer.max_epochs)}"]
        for name, key in (
            ("last batch's loss", "train/loss_step"),
            ("val loss", "val/loss"),
            ("val mIoU", "val/mIoU"),
            ("pixel accuracy", "val/pixel_accuracy"),
        ):
            if key in metrics:
                parts.append(f"{name} {float(metrics[key]):.4f}")
        parts.append(f"{time.monotonic() - self._epoch_start:.0f} s")
        log.info("  ".join(parts))


class ProgressBar(RichProgressBar):
    """Lightning's progress bar, with epochs counted from 1 as in the log."""

    def _get_train_description(self, current_epoch: int) -> str:
        description = f"Epoch {_of(current_epoch + 1, self.trainer.max_epochs)}"
        return description.ljust(len(self.validation_description))  # else the bars would flicker


def say_why_it_ended(trainer: pl.Trainer) -> None:
    """Logs why a training ended before trainer.max_epochs; logs nothing for one that reached it."""
    epochs = trainer.current_epoch  # completed ones
    if epochs == trainer.max_epochs:
        return
    reasons = [
        f"EarlyStopping (monitor={callback.monitor}, patience={callback.patience}): "
        + (callback.stopping_reason_message or "before this start.").removesuffix(
            " Signaling Trainer to stop."
        )
        for callback in trainer.early_stopping_callbacks
        if callback.stopped_epoch or callback.stopping_reason_message
    ]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer) and (callback.time_remaining() or 0.0) < 0:
            reasons.append(f"trainer.max_time is over ({callback.time_elapsed():.0f} s).")
    if trainer.global_step == trainer.max_steps:
        reasons.append(f"trainer.max_steps={trainer.max_steps} is reached.")
    if not reasons and trainer.should_stop:
        reasons.append("a callback has set trainer.should_stop.")
    log.info("Ended in epoch %s: %s", _of(epochs, trainer.max_epochs), " ".join(reasons))


def _of(number: int, total: int | None) -> str:
    return f"{number}/{total}" if total and total > 0 else str(number)
