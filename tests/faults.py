"""Callbacks of a user's own that do to a training what a bad week does."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
import torch


class Fault(pl.Callback):
    """Strikes once, before the step `step` (global, from 0), in the process of `rank`."""

    def __init__(self, step: int, rank: int = 0, path: str | None = None):
        self.step, self.rank, self.path = step, rank, path

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            self.strike(trainer)

    def strike(self, trainer: pl.Trainer) -> None:
        raise NotImplementedError


class KillWorker(Fault):
    def strike(self, trainer: pl.Trainer) -> None:
        workers = psutil.Process().children()
        os.kill(workers[0].pid, signal.SIGKILL)


class RemoveFolder(Fault):
    def strike(self, trainer: pl.Trainer) -> None:
        assert self.path
        shutil.rmtree(self.path)


class FillDisk(Fault):
    """Takes all that is free on the file system of `path`."""

    def strike(self, trainer: pl.Trainer) -> None:
        assert self.path
        free = shutil.disk_usage(self.path).free
        with Path(self.path, "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free)


class OutOfMemory(Fault):
    def strike(self, trainer: pl.Trainer) -> None:
        torch.empty(2**50, dtype=torch.uint8)


class Die(Fault):
    """As the system's out-of-memory killer would have it."""

    def strike(self, trainer: pl.Trainer) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Hang(Fault):
    """Looks alive to the others, and is not."""

    def strike(self, trainer: pl.Trainer) -> None:
        time.sleep(600)


class KillWandb(Fault):
    """W&B's own process, which keeps and uploads what is logged."""

    def strike(self, trainer: pl.Trainer) -> None:
        for process in psutil.Process().children(recursive=True):
            if "wandb-core" in process.name():
                process.kill()
