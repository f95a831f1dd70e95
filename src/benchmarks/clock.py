"""A callback that measures how long the steps of a training take."""

import resource
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from src.benchmarks.spread import spread
from src.runs.atomic_files import write_json

_BLOCK = 10  # steps between two synchronisations with a GPU, each of which empties its queue
_AT_LEAST = 3  # blocks


class Clock(Callback):
    """Measures the seconds per step of each block of steps, and ends the training when the time is up.

    Args:
        warmup: steps before the measurement.
        budget: seconds of measurement.
        path: of a JSON file with the results, written at the end.
    """

    def __init__(self, warmup: int, budget: float, path: str | None = None):
        self.warmup = warmup
        self.budget = budget
        self.path = path
        self.block = self._batches = 1
        self.seconds: list[float] = []
        self._start = self._first = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.block = 1 if pl_module.device.type == "cpu" else _BLOCK
        self._batches = trainer.accumulate_grad_batches  # of a step
        self._start = self._first = time.perf_counter()  # the start of the measurement if warmup=0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1 - self.warmup * self._batches
        if done < 0 or done % (self.block * self._batches):
            return
        if pl_module.device.type != "cpu":
            getattr(torch, pl_module.device.type).synchronize()
        now = time.perf_counter()
        if done == 0:
            self._first = now
        else:
            self.seconds.append((now - self._start) / self.block)
        self._start = now
        if len(self.seconds) >= _AT_LEAST and now - self._first >= self.budget:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.path or not trainer.is_global_zero:
            return
        device = pl_module.device
        if device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(device) / 1e9
        else:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        results = {
            "milliseconds": spread([1e3 * seconds for seconds in self.seconds]),
            "steps": len(self.seconds) * self.block,
            "device": device.type,
            "peak_memory_gb": round(memory, 3),
        }
        write_json(Path(self.path), results)
