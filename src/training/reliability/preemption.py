"""Signals: a run that is told to stop finishes its batch, saves, and ends with the signal's exit code."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children
from types import FrameType
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning import Callback

from src.runs.machine import let_go_of_closed_terminal
from src.training.callbacks.last_checkpoint import LastCheckpoint, can_save

log = logging.getLogger(__name__)

# SLURM sends SIGUSR1 before a time limit (scripts/slurm/train.sbatch). SIGHUP is sent when a terminal or an
# ssh connection is closed, often twice: once by the system, once by the shell.
_SIGNALS = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP)
_MOMENT = 0.05  # seconds
# logging's fork hooks up to Python 3.12; from 3.13 on they are written in C, where no signal is handled.
_AROUND_A_FORK = [
    function.__code__
    for name in ("_acquireLock", "_releaseLock")
    if (function := getattr(logging, name, None)) is not None
]


class Stopped(BaseException):
    """A signal ended the run. Raised between two batches in training, at once in validation."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopOnSignal(Callback):
    """SIGTERM, SIGUSR1, SIGHUP and Ctrl-C: finish the batch, save, stop. Ctrl-C after any of them: stop now.

    All ranks stop after the same step, whichever of them received the signal. Lightning's own handlers are
    replaced: they broadcast, although they may interrupt another collective operation.
    In validation there is nothing to save: last.ckpt was written right before it.

    ended: the signal that has ended the run; 0 for none. Any later error is a consequence of it: the
    exception breaks off what it interrupts, such as the writing of a checkpoint, whose file is then not
    replaced (src/runs/atomic_files.py).
    """

    def __init__(self) -> None:
        self.requested = self.ended = 0
        self._stop = 0
        self._trainer: pl.Trainer | None = None
        self._group: dist.ProcessGroup | None = None
        self._pid = os.getpid()

    @contextmanager
    def listening(self, trainer: pl.Trainer) -> Iterator[None]:
        """Handles signals during the whole of a Trainer's work, its preparations included.

        Signals that the process ignored from its start, such as SIGHUP under nohup, stay ignored. After a
        signal the handlers stay in place: another one must not interrupt the rest of the process.
        """
        self._trainer = trainer
        before = {}
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            before = {number: signal.signal(number, self._handle) for number in heard}
        try:
            yield
        finally:
            if not self.requested:
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

    def on_validation_batch_start(self, *args: Any) -> None:
        if self.ended:  # the code that it interrupted, such as a destructor, has swallowed the exception
            self._raise()

    # Raised only here, after Lightning has passed the last batch's metrics to the loggers.
    def on_train_batch_start(self, *args: Any) -> None:
        self._raise()

    def _agreed(self, trainer: pl.Trainer) -> int:
        """The signal that any rank has received; 0 for none."""
        if trainer.world_size == 1:
            return self.requested
        if self._group is None:  # on CPUs: with NCCL, each step would wait for the device
            self._group = dist.new_group(backend="gloo")
        requested = torch.tensor(self.requested)
        dist.all_reduce(requested, dist.ReduceOp.MAX, group=self._group)
        return int(requested)

    def _raise(self) -> None:
        if self._stop:
            self.ended = self._stop
            raise Stopped(self._stop)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        assert self._trainer is not None
        if os.getpid() != self._pid:  # in a data worker that has just been forked
            return
        if frame is not None and frame.f_code in _AROUND_A_FORK:  # Python swallows what is raised there
            threading.Timer(_MOMENT, os.kill, (self._pid, number)).start()
            return
        again, self.requested = bool(self.requested), max(self.requested, number)
        let_go_of_closed_terminal()
        if again:
            if number == signal.SIGINT:
                self._end_at_once(number)
            return
        last_validation = _last_validation(self._trainer)
        if not (self._trainer.training or last_validation):
            self._end_ranks()
            self._stop = self.ended = number
            raise Stopped(number)
        if self._trainer.is_global_zero:
            saves = any(
                isinstance(callback, LastCheckpoint) for callback in self._trainer.checkpoint_callbacks
            )
            plan = "finishing the training" if last_validation else "saving after this batch, then stopping"
            if not last_validation and not saves:
                plan = "stopping after this batch; without callbacks.last it is not saved"
            self._say(f"\n{signal.Signals(number).name}: {plan}.\n")

    @staticmethod
    def _say(text: str) -> None:
        with suppress(OSError):
            os.write(2, text.encode())

    def _end_at_once(self, number: int) -> NoReturn:
        """As SIGKILL would, since an exception could be lost or delayed. No written file is lost by this."""
        self._end_ranks()
        end_workers()
        self._say(f"\n{signal.Signals(number).name} again: stopped at once.\n")
        os._exit(128 + number)

    def _end_ranks(self) -> None:
        """Kill the ranks that this process started: they would wait for it in a collective operation."""
        assert self._trainer is not None
        launcher = self._trainer.strategy.launcher
        if launcher is not None:
            launcher.kill(signal.SIGKILL)


def end_workers() -> None:
    """Kill the data workers: those of a loader that was not complete yet would delay the process's end."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would raise
    for worker in active_children():
        worker.kill()
        worker.join(1)
    signal.signal(signal.SIGCHLD, before)


def _last_validation(trainer: pl.Trainer) -> bool:
    """Whether the last step is done; until its validation is done there is no checkpoint to resume from."""
    return trainer.global_step == trainer.max_steps
