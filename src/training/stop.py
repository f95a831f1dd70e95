"""Signals: a run that is told to stop saves first, within the batch, and says so in its exit code."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning import Callback

from src.training.last import LastCheckpoint, can_save

log = logging.getLogger(__name__)

# SIGUSR1 is what SLURM sends before a time limit (scripts/slurm/train.sbatch).
_SIGNALS = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)


class Stopped(BaseException):
    """A signal ended the run. Raised between two batches in training, at once in validation."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopOnSignal(Callback):
    """SIGTERM, SIGUSR1 and Ctrl-C: finish the batch, save, stop. A second Ctrl-C stops at once.

    All ranks stop after the same step, whichever of them was told to. Lightning's own handlers broadcast from
    within the handler, which may come in the middle of another collective operation; they are replaced.
    In validation there is nothing to save: last.ckpt was written right before it.
    """

    def __init__(self) -> None:
        self.requested = 0
        self._stop = 0
        self._trainer: pl.Trainer | None = None

    @contextmanager
    def listening(self, trainer: pl.Trainer) -> Iterator[None]:
        """Around the whole of a Trainer's work, its preparations included."""
        self._trainer = trainer
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not _last_validation(trainer):
            self._stop = self._agreed(trainer)
        self._raise()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if not can_save(trainer):
            return
        self._stop = self._agreed(trainer)
        if self._stop:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, LastCheckpoint):
                    callback.save(trainer)

    # Only here, after Lightning has passed on what the last batch logged.
    def on_train_batch_start(self, *args: Any) -> None:
        self._raise()

    def _agreed(self, trainer: pl.Trainer) -> int:
        """The signal that any rank has received; 0 for none."""
        if trainer.world_size == 1:
            return self.requested
        requested = torch.tensor(self.requested, device=trainer.strategy.root_device)
        dist.all_reduce(requested, dist.ReduceOp.MAX)
        return int(requested)  # waits for the device, as Lightning does once per batch on several

    def _raise(self) -> None:
        if self._stop:
            raise Stopped(self._stop)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        assert self._trainer is not None
        repeated = number == signal.SIGINT == self.requested
        self.requested = max(self.requested, number)
        last_validation = _last_validation(self._trainer)
        if repeated or not (self._trainer.training or last_validation):
            self._end_ranks()
            raise Stopped(number)
        if self._trainer.is_global_zero:
            first = "the run ends" if last_validation else "saving after this batch"
            os.write(2, f"\n{signal.Signals(number).name}: {first}, then stopping.\n".encode())

    def _end_ranks(self) -> None:
        """Those that this process started would wait for it in the next collective operation."""
        assert self._trainer is not None
        launcher = self._trainer.strategy.launcher
        if launcher is not None:
            launcher.kill(signal.SIGKILL)


def _last_validation(trainer: pl.Trainer) -> bool:
    """After the last step there is no checkpoint to go on from until its validation is done."""
    return trainer.global_step == trainer.max_steps
