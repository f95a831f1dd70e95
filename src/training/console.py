"""What training says on the terminal and in train.log: a line per epoch, more where there is no bar."""

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

log = logging.getLogger(__name__)


class EpochLines(Callback):
    """A line per validation; without a terminal, where a progress bar says nothing, also one every while.

    Args:
        seconds: between two lines within an epoch where the output is not a terminal.
    """

    def __init__(self, seconds: float = 15.0):
        self.seconds = seconds
        self._epoch_start = self._last_line = 0.0
        self._interactive = sys.stdout.isatty()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_start = self._last_line = time.monotonic()  # an epoch in which a run goes on has no start

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
        loss = trainer.callback_metrics.get("train/loss_step", trainer.callback_metrics.get("train/loss"))
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
        figures = trainer.callback_metrics
        parts = [f"epoch {_of(trainer.current_epoch + 1, trainer.max_epochs)}"]
        for name, key in (
            ("last batch's loss", "train/loss_step"),
            ("val loss", "val/loss"),
            ("val mIoU", "val/mIoU"),
            ("pixel accuracy", "val/pixel_accuracy"),
        ):
            if key in figures:
                parts.append(f"{name} {float(figures[key]):.4f}")
        parts.append(f"{time.monotonic() - self._epoch_start:.0f} s")
        log.info("  ".join(parts))


def _of(number: int, total: int | None) -> str:
    return f"{number}/{total}" if total and total > 0 else str(number)
