"""Builds the parts of a training run from the config, and runs the training."""

import logging
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from torch import nn

from src.data.datamodule import SegmentationDataModule
from src.errors import UserError, counted
from src.masking import without_secrets
from src.network.segmenter import Segmenter
from src.objects import build
from src.runs.directory import Run
from src.training.callbacks.epoch_lines import say_why_it_ended
from src.training.loggers.build import keep_wandb_id
from src.training.loggers.wandb import EnduringWandbLogger
from src.training.memory import check_memory
from src.training.module import SegmentationModule
from src.training.reliability.error_messages import clear_errors
from src.training.resume import check_resumable
from src.training.trainer import honest_exit

log = logging.getLogger(__name__)


def build_callbacks(config: DictConfig) -> list[pl.Callback]:
    """The entries of the callbacks group in their order; null switches an entry off."""
    return [build(f"callbacks.{name!s}", entry) for name, entry in config.items() if entry]


def build_module(
    config: dict[str, Any],
    data: SegmentationDataModule,
    trainer: pl.Trainer,
    began_from: dict[str, Any] | None = None,
) -> SegmentationModule:
    """The LightningModule, with the loss's class weights as numbers."""
    loss = config["loss"] | {"class_weights": data.class_weights(config["loss"]["class_weights"])}
    training = {
        "loss": loss,
        **{key: config[key] for key in ("optimizer", "schedule", "compile", "channels_last")},
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
    module.build_optimizer(total_steps=1)  # raises for wrong values before the training starts
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


def fit(
    trainer: pl.Trainer,
    module: SegmentationModule,
    data: SegmentationDataModule,
    run: Run,
    last: dict[str, Any] | None,
) -> None:
    """Train to the end, beginning at the run's last checkpoint if it has one.

    Args:
        last: the content of that checkpoint.
    """
    if last and run.last_checkpoint:
        check_resumable(last, run.last_checkpoint, trainer, module)
    if trainer.is_global_zero:
        keep_wandb_id(trainer.loggers, run.directory)
        _say_what_runs(trainer, module, data, run)
    failed = True
    try:
        with clear_errors(run, trainer), honest_exit(trainer):
            for logger in trainer.loggers:
                logger.log_hyperparams(run.config)
            trainer.fit(module, datamodule=data, ckpt_path=run.last_checkpoint, weights_only=True)
        failed = False
        if trainer.is_global_zero:
            say_why_it_ended(trainer)
    except (KeyboardInterrupt, SystemExit):
        if trainer.is_global_zero:
            _say_how_to_resume(run)
        raise
    finally:
        with suppress(RuntimeError):  # from a loader that was interrupted while it was created
            trainer.fit_loop.teardown()  # Lightning ends only the loader in use, not the one that waits
        for logger in trainer.loggers:
            if isinstance(logger, EnduringWandbLogger):
                logger.finish(exit_code=int(failed))


def _say_how_to_resume(run: Run) -> None:
    if (run.directory / "job.json").exists():
        log.info("Interrupted. The same sweep resumes from here.")
    elif run.last_checkpoint:
        log.info("Interrupted. The same command with name=%s resumes from here.", run.config["name"])
    else:
        log.info("Interrupted before the first checkpoint: there is nothing to resume from.")


def _say_what_runs(
    trainer: pl.Trainer, module: SegmentationModule, data: SegmentationDataModule, run: Run
) -> None:
    parameters = sum(p.numel() for p in module.segmenter.parameters())
    total, parts = run.config["data"]["batch_size"], trainer.world_size * trainer.accumulate_grad_batches
    assert data.train_set is not None
    assert data.val_set is not None
    log.info(
        "%s, %s parameters, on %s: %d training and %d validation images, batch %d = %d x %s x %d accumulated",
        type(module.segmenter.network).__name__,
        f"{parameters:,}",
        run.config["data"]["name"],
        len(data.train_set),
        len(data.val_set),
        total,
        total // parts,
        counted(trainer.world_size, "device"),
        trainer.accumulate_grad_batches,
    )
    if trainer.strategy.root_device.type == "cuda":
        log.info("float32 on the GPU: %s (trainer.fp32_precision)", run.config["trainer"]["fp32_precision"])
    if run.last_checkpoint:
        log.info("Resuming from %s", run.last_checkpoint)
    if not run.config["callbacks"].get("last"):
        log.warning("Without callbacks.last no last.ckpt is written: if the run is stopped, it begins anew.")
