"""Callbacks of a user's own that do to a training what a bad week does."""

import atexit
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.distributed import _destroy_dist_connection

ALL_IS_WELL = "ALL_IS_WELL"
"""An environment variable, with which the same command meets no fault."""


def fault(name: str, step: int, **arguments: Any) -> list[str]:
    """Overrides that let the fault strike before the optimizer step `step` (from 0) of one rank."""
    values = {"_target_": f"faults.{name}", "step": step, **arguments}
    return [f"+callbacks.fault.{key}={value}" for key, value in values.items()]


class Fault(pl.Callback):
    def __init__(self, step: int, rank: int = 0, path: str = ""):
        self.step, self.rank, self.path = step, rank, path

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        here = trainer.global_step == self.step and trainer.global_rank == self.rank
        if here and ALL_IS_WELL not in os.environ:
            self.strike(trainer)

    def strike(self, trainer: pl.Trainer) -> None:
        raise NotImplementedError


class KillWorker(Fault):
    def strike(self, trainer: pl.Trainer) -> None:
        os.kill(psutil.Process().children()[0].pid, signal.SIGKILL)


class KillWandb(Fault):
    """W&B's own process, which keeps and uploads what is logged."""

    def strike(self, trainer: pl.Trainer) -> None:
        for process in psutil.Process().children(recursive=True):
            if "wandb-core" in process.name():
                process.kill()


class RemoveFolder(Fault):
    def strike(self, trainer: pl.Trainer) -> None:
        shutil.rmtree(self.path)


class ReadOnlyFolder(Fault):
    """In a mount namespace of its own. Files that are open already can still be written."""

    def strike(self, trainer: pl.Trainer) -> None:
        for options in (["--bind", self.path], ["-o", "remount,ro,bind"]):
            subprocess.run(["mount", *options, self.path], check=True)


class SmallFiles(Fault):
    """No file may grow beyond a megabyte, as under a quota: a checkpoint does not fit, metrics do."""

    def strike(self, trainer: pl.Trainer) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))


class OutOfMemory(Fault):
    def strike(self, trainer: pl.Trainer) -> None:
        torch.empty(2**50, dtype=torch.uint8)


class BlockedGroup(OutOfMemory):
    """As under NCCL: at the end of the process its group is destroyed, which waits for the other ranks."""

    def strike(self, trainer: pl.Trainer) -> None:
        torch.distributed.destroy_process_group = lambda: time.sleep(1000)
        atexit.register(_destroy_dist_connection)
        Path(self.path).touch()
        super().strike(trainer)


class Die(Fault):
    """As the system's out-of-memory killer would have it."""

    def strike(self, trainer: pl.Trainer) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class SpoilWeights(Fault):
    """What a gradient that is not finite does, though the loss was."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            next(trainer.lightning_module.parameters()).data.fill_(float("nan"))

    def strike(self, trainer: pl.Trainer) -> None:
        """Too early: the loss would show it."""


class SpoilFirst(Fault):
    """The loss of the step is NaN."""

    def strike(self, trainer: pl.Trainer) -> None:
        next(trainer.lightning_module.parameters()).data.fill_(float("nan"))


class SpoiltFromTheStart(pl.Callback):
    """Weights that are NaN before the first step, as those of a damaged file."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        next(pl_module.parameters()).data.fill_(float("nan"))


class Anything(pl.Callback):
    """Takes any arguments, and does nothing with them."""

    def __init__(self, **arguments: Any):
        super().__init__()


class KeepPages(pl.Callback):
    """Copies report.html as it is when an epoch begins: no fault, but what one sees while the run goes on."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        page = Path(trainer.default_root_dir) / "report.html"
        if page.exists():
            shutil.copyfile(page, page.with_name(f"page_{trainer.current_epoch}.html"))
