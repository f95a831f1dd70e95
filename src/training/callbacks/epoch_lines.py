"""What a training says on the terminal and in train.log: a progress bar or lines, and why it ended."""

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar, Timer
from rich.progress import ProgressColumn, Task, TaskID
from rich.text import Text

from src.training.callbacks.throughput import Throughput
from src.training.callbacks.time_left import time_left

log = logging.getLogger(__name__)

# A line has at most 80 columns, also of a day's run of hundreds of epochs.


class EpochLines(Callback):
    """Logs a line per validation and, if the output is not a terminal, also lines within an epoch.

    Args:
        seconds: time between two lines within an epoch. A first one comes with the first epoch's end at the
            latest.
    """

    def __init__(self, seconds: float = 15.0):
        self.seconds = seconds
        self._last_line = 0.0
        self._is_first = True
        self._interactive = sys.stdout.isatty()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_line = time.monotonic()  # a resume within an epoch has no epoch start
        self._is_first = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_line = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._interactive or not trainer.is_global_zero:
            return
        soon = time.monotonic() - self._last_line < self.seconds
        if soon and not (self._is_first and trainer.is_last_batch):
            return
        self._last_line, self._is_first = time.monotonic(), False
        loss = trainer.callback_metrics.get("train/loss_step")
        parts = [
            f"epoch {_of(trainer.current_epoch + 1, trainer.max_epochs)}",
            f"{100 * (batch_idx + 1) / trainer.num_training_batches:.0f} %",
            loss is not None and f"loss {float(loss):.3f}",
            *_speed(trainer, "data wait"),
            time_left(trainer),
        ]
        log.info(", ".join(part for part in parts if part))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        parts = [f"epoch {_of(trainer.current_epoch + 1, trainer.max_epochs)}"]
        for name, key in (("val mIoU", "val/mIoU"), ("loss", "train/loss_step"), ("val loss", "val/loss")):
            if key in metrics:
                parts.append(f"{name} {float(metrics[key]):.4f}")
        parts += [left] if (left := time_left(trainer)) else []
        log.info("  ".join(parts))


def _speed(trainer: pl.Trainer, wait: str) -> list[str]:
    """ "125 images/s", "data wait 3 %", as the callback Throughput measures them; empty without it."""
    found = [c for c in trainer.callbacks if isinstance(c, Throughput)]  # type: ignore[attr-defined]
    rate, share = (found[0].images_per_second, found[0].data_wait) if found else (None, None)
    texts = [] if rate is None else [f"{rate:.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s"]
    return texts + ([] if share is None else [f"{wait} {100 * share:.0f} %"])


class ProgressBar(RichProgressBar):
    """Lightning's progress bar, with epochs counted from 1 as in the log, and with speed, val mIoU and the
    time left of the whole training. With the loss, each step would wait for the device."""

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        title, bar, batches, clock, *_ = super().configure_columns(trainer)
        bar.bar_width = 6
        return [title, bar, batches, _Facts(self, trainer, clock)]

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What callbacks of the user's own log to the bar."""
        return {
            key: value for key, value in super().get_metrics(trainer, pl_module).items() if key != "v_num"
        }

    def _get_train_description(self, current_epoch: int) -> str:
        description = f"Epoch {_of(current_epoch + 1, self.trainer.max_epochs)}"
        return description.ljust(len(self.validation_description))  # else the bars would flicker


class _Facts(ProgressColumn):
    """For the bar of the training what is known of all of it; for any other the time it takes."""

    def __init__(self, bars: ProgressBar, trainer: pl.Trainer, clock: ProgressColumn):
        super().__init__()
        self._bars, self._trainer, self._clock = bars, trainer, clock

    def render(self, task: Task) -> Any:
        of_training: TaskID | None = self._bars.train_progress_bar_id
        if task.id != of_training:
            return self._clock.render(task)
        scores = getattr(self._trainer.lightning_module, "scores", None) or {}
        miou = scores.get("mIoU")
        parts = [
            *_speed(self._trainer, "wait"),
            miou is not None and f"mIoU {miou:.3f}",
            time_left(self._trainer),
        ]
        return Text(", ".join(part for part in parts if part), style="dim", no_wrap=True, overflow="ellipsis")


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
