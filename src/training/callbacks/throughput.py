"""How fast a training runs, and for which share of its time it waits for data."""

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from src.training.reliability.lightning_internals import is_accumulating, logs_this_step

Moment = float | torch.cuda.Event


@dataclass
class _Spent:
    """Seconds that steps took, and seconds before them, in which the next batch was waited for."""

    images: int = 0
    waited: float = 0.0
    worked: float = 0.0

    def add(self, images: int, waited: float, worked: float) -> None:
        self.images += images
        self.waited += waited
        self.worked += worked

    @property
    def images_per_second(self) -> float | None:
        seconds = self.waited + self.worked
        return self.images / seconds if seconds > 0 else None

    @property
    def data_wait(self) -> float | None:
        seconds = self.waited + self.worked
        return self.waited / seconds if seconds > 0 else None


class Throughput(Callback):
    """Logs `train/images_per_second` (of all devices), `train/data_wait` (0 to 1) and, on CUDA devices,
    `train/gpu_memory_gb` (the most that tensors have taken so far): means since they were last logged.

    Data wait is the share of the time between the end of a step and the beginning of the next. On a CUDA
    device both are moments on the device's own clock. The process queues kernels ahead of the device, so a
    process that waits for a batch does not mean that the device waits. The moments are read once the device
    has passed them, and nothing is waited for. Of several devices, the wait is that of the first.
    """

    def __init__(self) -> None:
        self._logged, self._epoch = _Spent(), _Spent()
        self._before: Moment | None = None  # the end of the last step, or the start of the epoch
        self._start: Moment = 0.0
        self._passing: deque[tuple[int, Moment, Moment, Moment]] = deque()

    @property
    def images_per_second(self) -> float | None:
        """Mean of this epoch so far, over all devices; None before the first step."""
        return self._epoch.images_per_second

    @property
    def data_wait(self) -> float | None:
        """Mean of this epoch so far, from 0 to 1; None before the first step."""
        return self._epoch.data_wait

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch, self._before = _Spent(), _now(pl_module)
        self._passing.clear()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._before = None if trainer.sanity_checking else _now(pl_module)  # validations are neither

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._start = _now(pl_module)
        self._before = self._before or self._start

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        end = _now(pl_module)
        assert self._before is not None
        images = len(batch["image"]) * trainer.world_size
        self._passing.append((images, self._before, self._start, end))
        self._before = end
        while self._passing and _passed(self._passing[0][-1]):
            images, before, start, end = self._passing.popleft()
            for spent in (self._logged, self._epoch):
                spent.add(images, _seconds(before, start), _seconds(start, end))
        if is_accumulating(trainer) or not logs_this_step(trainer):
            return
        if self._logged.images_per_second is None:
            return
        values = {
            "train/images_per_second": self._logged.images_per_second,
            "train/data_wait": self._logged.data_wait,
        }
        if pl_module.device.type == "cuda":
            values["train/gpu_memory_gb"] = torch.cuda.max_memory_allocated(pl_module.device) / 1e9
        pl_module.log_dict(values)  # type: ignore[arg-type]
        self._logged = _Spent()


def _now(pl_module: pl.LightningModule) -> Moment:
    if pl_module.device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(pl_module.device))
    return event


def _passed(moment: Moment) -> bool:
    return isinstance(moment, float) or moment.query()


def _seconds(first: Moment, second: Moment) -> float:
    if isinstance(first, float) or isinstance(second, float):
        assert isinstance(first, float)
        assert isinstance(second, float)
        return second - first
    return first.elapsed_time(second) / 1000
