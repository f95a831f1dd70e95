"""Samples per second of the training step, on a batch that is already on the device."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from src.benchmarks.clock import Clock
from src.benchmarks.spread import spread
from src.data.datamodule import SegmentationDataModule
from src.data.dataset import SegmentationDataset
from src.training.assemble import build_module, replace_class_weights
from src.training.compiled import Compiled
from src.training.trainer import build_trainer, honest_exit

_PIXELS_ON_CPU = 2**20  # per step: on a CPU, two crops of 512x1024 take seconds and 16 take a minute
_ENDLESS = 10**6  # steps

# These replace settings of the trainer that would add other work to the steps, or change the steps.
_STEPS_ALONE: dict[str, Any] = {
    "num_nodes": 1,
    "strategy": "auto",
    "accumulate_grad_batches": 1,
    "max_epochs": -1,
    "min_epochs": None,
    "max_steps": _ENDLESS,
    "min_steps": None,
    "max_time": None,
    "limit_train_batches": None,
    "limit_val_batches": 0,
    "overfit_batches": 0,
    "fast_dev_run": False,
    "num_sanity_val_steps": 0,
    "val_check_interval": None,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "profiler": None,
}


def measure_step(
    config: dict[str, Any], data: SegmentationDataModule, dataset: SegmentationDataset, per_device: int
) -> dict[str, Any]:
    """The rate of forward, loss, backward and optimizer in Lightning's own loop, without callbacks.

    On one device, with the config's precision, compile and channels_last.

    Args:
        config: the whole config of the run.
        per_device: images in a device's batch in training.
    """
    devices = config["trainer"]["devices"]
    one = devices[:1] if isinstance(devices, list) else 1
    clock = Clock(config["measure"]["warmup"], config["measure"]["seconds"])
    trainer = build_trainer(config["trainer"] | _STEPS_ALONE | {"devices": one}, [clock])
    device = trainer.strategy.root_device
    size = _step_batch(config["measure"]["step_batch"], per_device, config["data"]["crop_size"], device)
    samples = [dataset[0, index % len(dataset)] for index in range(size)]
    batch = {
        key: value.to(device) if torch.is_tensor(value) else value
        for key, value in default_collate(samples).items()
    }
    # Class weights that must be counted from all labels are left out: any numbers take the same time.
    ones = [1.0] * data.table.num_classes
    loss = replace_class_weights(config["loss"], lambda weights: ones if weights == "labels" else weights)
    module = build_module(config | {"loss": loss}, data, trainer)
    steps = DataLoader(_Always(batch), batch_size=None)
    with honest_exit(trainer):
        trainer.fit(module, steps, val_dataloaders=steps)  # without the latter Lightning warns
    return {
        "samples_per_second": spread([size / seconds for seconds in clock.seconds]),
        "milliseconds": spread([1e3 * seconds for seconds in clock.seconds]),
        "images": size,
        "per_device": per_device,
        "steps": len(clock.seconds) * clock.block,
        "device": device.type,
        "precision": str(trainer.precision),
        "compiled_graphs": module.step_outputs.graphs if isinstance(module.step_outputs, Compiled) else 0,
    }


def _step_batch(wanted: int | str, per_device: int, crop: list[int], device: torch.device) -> int:
    if wanted != "auto":
        return int(wanted)
    if device.type != "cpu":
        return per_device
    return max(1, min(per_device, _PIXELS_ON_CPU // (crop[0] * crop[1])))


class _Always(Dataset):
    """The same batch at each step."""

    def __init__(self, batch: Mapping[str, Any]):
        self.batch = batch

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.batch
