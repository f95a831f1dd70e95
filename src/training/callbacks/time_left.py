"""How long a training still takes, validations included."""

import time
from collections import deque
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Timer

_MARKS = 12  # the last ten validations or epochs count, and one more that does not: see `seconds`


class TimeLeft(Callback):
    """Measures the time of a step on average over the last ten validations and what lay between them; before
    the first one over the steps so far, without a validation. The first step is not counted: it compiles."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=_MARKS)  # time, and steps done until then

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._marks.clear()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._marks:
            self._mark(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._mark(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark(trainer)

    def _mark(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        if len(self._marks) > 1 and self._marks[-1][1] == step:  # an epoch that ends with a validation
            self._marks.pop()
        self._marks.append((time.monotonic(), step))

    def seconds(self, trainer: pl.Trainer) -> float | None:
        """Until the last step, or until trainer.max_time is over. None where it is not known yet."""
        step, total = trainer.global_step, getattr(trainer.lightning_module, "total_steps", 0)
        if not self._marks or not total:
            return None
        # A run that is resumed late in an epoch has a validation after few steps.
        first, last = self._marks[1 if len(self._marks) > 2 else 0], self._marks[-1]
        if step - last[1] > last[1] - first[1]:
            first, last = last, (time.monotonic(), step)
        if last[1] == first[1]:
            return None
        left = [(total - step) * (last[0] - first[0]) / (last[1] - first[1])]
        timers = [c for c in trainer.callbacks if isinstance(c, Timer)]  # type: ignore[attr-defined]
        left += [timer.time_remaining() or 0.0 for timer in timers]
        return max(0.0, min(left))


def time_left(trainer: pl.Trainer) -> str | None:
    """ "2 h 13 min left"; None in the last second, and where it is not known."""
    clocks = [c for c in trainer.callbacks if isinstance(c, TimeLeft)]  # type: ignore[attr-defined]
    seconds = clocks[0].seconds(trainer) if clocks else None
    return f"{duration(seconds)} left" if seconds is not None and seconds >= 1 else None


def duration(seconds: float) -> str:
    """Two units at most: "45 s", "13 min", "2 h 13 min", "1 d 4 h"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    days, hours_of_day = divmod(hours, 24)
    if days:
        return f"{days} d {hours_of_day} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
