"""Builds every part of the training that a config describes, and notes every error, not only the first."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import DictConfig, open_dict
from pytorch_lightning import Trainer
from torch.utils.data import default_collate

from src.config import plain
from src.data.datamodule import SegmentationDataModule
from src.data.steps import build_steps
from src.diagnosis.dataset_health import crop_size
from src.diagnosis.hardware import examine_loading
from src.diagnosis.notes import CONFIG, DATASET, Notes
from src.errors import UserError, counted
from src.runs.directory import Run
from src.runs.machine import usable_cores
from src.training.assemble import (
    assemble_data,
    assemble_module,
    assemble_trainer,
    build_callbacks,
    build_module,
    replace_class_weights,
)
from src.training.distillation import Teacher, load_teacher
from src.training.early_checks import check_monitors
from src.training.fine_tuning import InitialWeights, initial_weights
from src.training.losses.terms import ratio
from src.training.module import SegmentationModule
from src.training.resume import read_last_checkpoint

_OWN_KEYS = ("samples",)


def as_training(config: DictConfig) -> DictConfig:
    """The doctor's config turned into that of `src.train`, with the run directory of the training."""
    result = copy.deepcopy(config)
    with open_dict(result):
        result.task = "train"
        for key in _OWN_KEYS:
            del result[key]
    return result


@dataclass
class Setup:
    """The parts of a training; None for a part that could not be built."""

    config: DictConfig
    data: SegmentationDataModule | None = None
    trainer: Trainer | None = None
    module: SegmentationModule | None = None
    class_weights: Any = None  # as in the config of the loss: numbers, "labels", or None
    teacher: Teacher | None = None
    initial: InitialWeights = field(default_factory=InitialWeights)

    @classmethod
    def build(cls, config: DictConfig, notes: Notes) -> "Setup":
        """Build all parts that need no dataset."""
        setup = cls(config)
        with notes.trying(CONFIG, "checkpoint"):
            config, setup.initial = initial_weights(config)
            setup.config = config
        with notes.trying(CONFIG, "teacher"):
            config, setup.teacher = load_teacher(config)
            setup.config = config
        with notes.trying(CONFIG, "run directory"):
            run = Run.plan(config)
            notes.fact(CONFIG, "run directory", str(run.directory))
            if run.finished:
                text = f"{run.directory} is finished: nothing is left to do. Another run needs another name=."
                notes.add(CONFIG, "remark", "run directory", text)
            elif read_last_checkpoint(run):
                notes.fact(CONFIG, "resumes from", str(run.last_checkpoint))
        with notes.trying(CONFIG, "data"):
            setup.data = assemble_data(config)
        if setup.data:
            with notes.trying(CONFIG, "augmentation"):
                augment, setup.data.augment = setup.data.augment, None
                build_steps(augment or {}, config.data.mean)
                setup.data.augment = augment
        with notes.trying(CONFIG, "loss"):
            found: list[Any] = []
            replace_class_weights(plain(config.loss), found.append)
            setup.class_weights = found[0] if found else None
        callbacks = []
        with notes.trying(CONFIG, "callbacks"):
            callbacks = build_callbacks(config.callbacks)
        with notes.trying(CONFIG, "trainer"):
            setup.trainer = assemble_trainer(config, callbacks, setup.initial.path)
            _note_devices(notes, setup.trainer)
        return setup

    def open_data(self, notes: Notes) -> None:
        """Set up the data as training does. An error is noted only if the earlier checks found none."""
        assert self.data is not None
        try:
            self.data.setup("fit" if self.data.augment else "validate")
        except UserError as error:
            if not notes.count("error", DATASET):
                notes.add(DATASET, "error", "refused by training", error.text)

    def check(self, notes: Notes) -> None:
        """Check the batch per device, the workers, and the network with loss, optimizer and schedule."""
        if self.data and self.trainer:
            with notes.trying(CONFIG, "batch"):
                self.data.check_shares(self.trainer.world_size, self.trainer.accumulate_grad_batches)
            with notes.trying(CONFIG, "batch"):
                _examine_loading(notes, self.data, self.trainer)
            with notes.trying(CONFIG, "model"):
                if self.data.train_set:
                    self.module = assemble_module(
                        self.config, self.data, self.trainer, self.initial, self.teacher
                    )
                else:  # no module to train, but its errors are noted
                    values = plain(self.config)
                    values["loss"] = replace_class_weights(values["loss"], lambda weights: None)
                    self.module = build_module(values, self.data, self.trainer)
                    check_monitors(self.trainer, self.module, self.config.callbacks)
                network = self.module.segmenter.network
                number = sum(p.numel() for p in network.parameters())
                notes.fact(CONFIG, "network", f"{type(network).__name__}, {number:,} parameters")

    def first_step(self, notes: Notes) -> None:
        """Forward and backward pass on training samples: one on a CPU, a device's whole batch on a GPU."""
        if not (self.data and self.data.train_set and self.trainer and self.module):
            return
        if notes.count("error", DATASET) or notes.count("error", CONFIG):
            return  # the step would fail, and the reason is noted
        device = self.trainer.strategy.root_device
        parts = self.trainer.world_size * self.trainer.accumulate_grad_batches
        number = 1 if device.type == "cpu" else self.data.config["batch_size"] // parts
        with notes.trying(CONFIG, "first step"):
            try:
                loss, memory = _step(self.module, self.data, self.trainer, number, device)
            except torch.cuda.OutOfMemoryError as error:
                raise UserError(
                    f"{number} crops of {self.data.config['crop_size']} do not fit into the GPU's memory. "
                    f"Set trainer.accumulate_grad_batches=2 (or 4, ...), or trainer.precision=bf16-mixed."
                ) from error
            except (ValueError, RuntimeError, TypeError) as error:  # of the network or the loss
                raise UserError(f"The first training step fails: {type(error).__name__}: {error}") from error
            if not loss < float("inf"):
                raise UserError(
                    f"The first training step's loss is {loss}: check mean, std and class_weights."
                )
            used = f", {memory / 2**30:.1f} GiB of GPU memory" if memory else ""
            notes.fact(CONFIG, "first step", f"batch of {number} on {device}: loss {loss:.3f}{used}")


def _note_devices(notes: Notes, trainer: Trainer) -> None:
    notes.fact(
        CONFIG,
        "trains on",
        f"{trainer.world_size} x {trainer.strategy.root_device.type}, {trainer.precision}",
    )
    wanted = str(trainer.precision)
    on_gpu = trainer.strategy.root_device.type == "cuda"
    if on_gpu and "bf16" in wanted and not torch.cuda.is_bf16_supported(including_emulation=False):
        text = f"trainer.precision={wanted}: this GPU has no bf16 and emulates it slowly. Use 16-mixed."
        notes.add(CONFIG, "remark", "precision", text)


def _examine_loading(notes: Notes, data: SegmentationDataModule, trainer: Trainer) -> None:
    total, accumulated = data.config["batch_size"], trainer.accumulate_grad_batches
    batch, rest = divmod(total, trainer.world_size * accumulated)
    if not rest:
        text = f"{total} = {batch} x {counted(trainer.world_size, 'device')} x {accumulated} accumulated"
        notes.fact(CONFIG, "batch", text)
    height, width = crop_size(data)
    largest = max((height * width for height, width in data.val_sizes), default=0)
    pixels = batch * height * width + data.config["val_batch_size"] * largest  # both loaders' workers persist
    devices, workers = trainer.num_devices, data.workers(trainer.num_devices)
    examine_loading(notes, workers, devices, 4 * pixels, usable_cores())  # 4 bytes a pixel: RGB and target


def _step(module, data, trainer, number, device) -> tuple[float, int]:
    """(loss, peak GPU memory in bytes, 0 on a CPU)"""
    batch = default_collate([data.train_set[0, index % len(data.train_set)] for index in range(number)])
    module.to(device).train()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with trainer.precision_plugin.forward_context():
        outputs = module.segmenter.coarse_outputs(batch["image"].to(device))
        sums = module.loss(outputs, batch | {"target": batch["target"].to(device)})
    loss = ratio(sums.total, sums.weight)
    loss.backward()
    module.zero_grad()
    return loss.item(), torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
