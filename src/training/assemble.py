"""Builds the parts of a training run from the config: data, trainer, module."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from torch import nn

from src.config import plain
from src.data.datamodule import SegmentationDataModule
from src.errors import UserError
from src.masking import without_secrets
from src.network.segmenter import Segmenter
from src.objects import build
from src.training.callbacks.plateau import StepAfterValidation
from src.training.distillation import Teacher
from src.training.early_checks import check_monitors, check_validations, planned_length
from src.training.fine_tuning import InitialWeights
from src.training.loggers.build import build_loggers
from src.training.loggers.csv import MetricsCSV
from src.training.memory import check_memory
from src.training.module import SegmentationModule
from src.training.network_checks import check_network_and_loss
from src.training.reliability.rank_consistency import RankConsistency
from src.training.trainer import build_trainer


def build_callbacks(config: DictConfig) -> list[pl.Callback]:
    """The entries of the callbacks group in their order; null switches an entry off."""
    return [build(f"callbacks.{name!s}", entry) for name, entry in config.items() if entry]


def assemble_data(config: DictConfig) -> SegmentationDataModule:
    return SegmentationDataModule(
        plain(config.data),
        plain(config.augment),
        config.seed,
        config.cache_dir,
        unlabelled_split=config.teacher.unlabelled_split,
    )


def assemble_trainer(config: DictConfig, callbacks: list[pl.Callback], checkpoint: Path | None) -> pl.Trainer:
    """The Trainer with its callbacks and with the loggers of the config.

    Args:
        checkpoint: the file that the training begins with, if any: all ranks compare theirs.
    """
    values = plain(config)
    ranks = RankConsistency(without_secrets(values), checkpoint)
    loggers = [MetricsCSV(Path(config.run_dir) / "metrics.csv"), *build_loggers(values["logger"])]
    monitor = values["schedule"].get("monitor")
    plateau = [StepAfterValidation(monitor)] if monitor else []
    return build_trainer(values["trainer"], [ranks, *callbacks, *plateau], loggers)


def assemble_module(
    config: DictConfig,
    data: SegmentationDataModule,
    trainer: pl.Trainer,
    initial: InitialWeights,
    teacher: Teacher | None = None,
) -> SegmentationModule:
    """The LightningModule with its initial weights, once all is checked that data, trainer and module have
    to agree on.

    Args:
        data: with its splits set up.
    """
    module = build_module(plain(config), data, trainer, initial.record)
    initial.load_into(module)
    if teacher is not None and module.loss is not None:
        module.loss.more_terms.append(teacher)
    check_network_and_loss(module, data, trainer)
    check_monitors(trainer, module, config.callbacks)
    check_validations(trainer, data)
    if not trainer.fast_dev_run:  # type: ignore[attr-defined]
        module.build_optimizer(*planned_length(trainer, data))
    return module


def replace_class_weights(loss: Any, by: Callable[[Any], Any]) -> Any:
    """The config of a loss, with each `class_weights` in it, and in the losses it consists of, replaced.

    A loss without class weights stays as it is.

    Args:
        by: the new value for an old one: numbers, "labels" or None.
    """
    if isinstance(loss, Mapping):
        return {
            key: by(value) if key == "class_weights" else replace_class_weights(value, by)
            for key, value in loss.items()
        }
    return loss


def build_module(
    config: dict[str, Any],
    data: SegmentationDataModule,
    trainer: pl.Trainer,
    began_from: dict[str, Any] | None = None,
) -> SegmentationModule:
    """The LightningModule, with the loss's class weights as numbers."""
    keys = ("optimizer", "schedule", "auxiliary_weight", "compile", "channels_last")
    training = {
        "loss": replace_class_weights(config["loss"], data.class_weights),
        "unlabelled_split": config["teacher"]["unlabelled_split"],
        **{key: config[key] for key in keys},
        "fp32_precision": config["trainer"]["fp32_precision"],
    }
    module = SegmentationModule(
        model=config["model"],
        data=without_secrets(config["data"]),
        classes=list(data.table.class_names),
        training=training,
        precision=str(trainer.precision),  # Lightning turns 16-mixed into bf16-mixed on a CPU
        began_from=began_from,
    )
    if trainer.strategy.root_device.type == "cpu" and "bf16" in trainer.precision:
        _check_bf16_on_cpu(config, module.segmenter)
    module.build_optimizer(steps=10**6, epochs=10**6)  # raises for wrong values before the training starts
    check_memory(module, data, trainer)
    return module


def _check_bf16_on_cpu(config: dict[str, Any], segmenter: Segmenter) -> None:
    """Raises UserError where torch 2.13 would compute NaN: in the weight gradient of its own dilated
    depthwise convolutions in NHWC. torch.compile uses NHWC for them, too."""
    if config["compile"] and not config["channels_last"]:
        raise UserError("compile=true in bf16 on the CPU needs channels_last=true, and is faster with it.")
    unsound = [
        name
        for name, layer in segmenter.named_modules()
        if type(layer) is nn.Conv2d and layer.groups > 1 and max(layer.dilation) > 1
    ]
    if config["channels_last"] and unsound:
        raise UserError(
            f"channels_last=true in bf16 on the CPU: PyTorch's gradient of a dilated depthwise convolution "
            f"is NaN at random there (seen with 2.13), and the network has {len(unsound)} of them "
            f"({unsound[0]}, ...). Set channels_last=false, or build them with src.network.depthwise."
        )
