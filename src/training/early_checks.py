"""Checks for mistakes that a training would otherwise show only after its first epoch, or never."""

import logging
import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping, LearningRateMonitor

from src.data.datamodule import SegmentationDataModule
from src.data.samplers import EvalBatchSampler
from src.errors import UserError
from src.training.callbacks.plateau import StepAfterValidation
from src.training.module import SegmentationModule

log = logging.getLogger(__name__)


def check_monitors(trainer: pl.Trainer, module: SegmentationModule, entries: Mapping[str, Any]) -> None:
    """Raises UserError if a callback monitors a metric that is never logged.

    Callbacks of the user's own may log any metric: if there are some, this is only a warning.

    Args:
        entries: the callbacks group, whose keys the message names.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    known = module.metric_names
    for callback in callbacks:
        if isinstance(callback, StepAfterValidation) and not callback.monitor.startswith("val"):
            raise UserError(
                f"schedule.monitor={callback.monitor}: not a metric of the validation, such as "
                f"{', '.join(name for name in known if name.startswith('val/'))}."
            )
    rates = any(isinstance(callback, LearningRateMonitor) for callback in callbacks)
    others_log = any(type(c).__module__.split(".")[0] not in ("src", "pytorch_lightning") for c in callbacks)
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str):
            continue
        own = isinstance(callback, StepAfterValidation)
        key = "schedule" if own else f"callbacks.{_name(monitor, entries) or type(callback).__name__}"
        if monitor == "train/loss_epoch" and (switch := _reads_too_early(callback, trainer)):
            raise UserError(
                f"{key}.monitor={monitor}: this metric is known only at the end of an epoch, but the "
                f"callback reads it earlier, after a validation. Set {key}.{switch}=true."
            )
        if monitor in known or (rates and monitor.startswith("lr-")):
            continue
        (close,) = get_close_matches(monitor, known, n=1, cutoff=0.0)
        text = f"{key}.monitor={monitor}: not a metric of this training. Did you mean {close}?"
        if not others_log:
            raise UserError(f"{text} There are: {', '.join(known)}{', lr-<optimizer>' if rates else ''}.")
        if trainer.is_global_zero:
            log.warning("WARNING: %s One of your own callbacks has to log it.", text)


def _reads_too_early(callback: Callback, trainer: pl.Trainer) -> str:
    """The key that lets the callback wait for the end of the epoch; empty if it waits, or is no such one."""
    if isinstance(callback, EarlyStopping):
        waits = callback._check_on_train_epoch_end
        if waits is None:  # Lightning's rule
            waits = trainer.val_check_interval == 1.0 and trainer.check_val_every_n_epoch == 1
        return "" if waits else "check_on_train_epoch_end"
    early = getattr(callback, "_save_on_train_epoch_end", None) is False
    return "save_on_train_epoch_end" if early else ""


def _name(monitor: str, entries: Mapping[str, Any]) -> str | None:
    return next((name for name, entry in entries.items() if entry and entry.get("monitor") == monitor), None)


def check_validations(trainer: pl.Trainer, data: SegmentationDataModule) -> None:
    """Raises UserError if an epoch would have no batch, or fewer batches than the validation interval; warns
    if nothing would ever be validated."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    batches = _batches(trainer, data)
    if not batches:
        raise UserError(
            "trainer.limit_train_batches=0: there would be no training step. null takes all batches."
        )
    shares = EvalBatchSampler(
        data.val_sizes, data.config["val_batch_size"], trainer.global_rank, trainer.world_size
    )
    validates = _limited("val", len(shares), trainer)
    steps, epochs = planned_length(trainer, data)
    within_steps = trainer.max_steps == steps
    every, interval = trainer.check_val_every_n_epoch, trainer.val_check_interval
    if validates and every is not None and isinstance(interval, int) and interval > batches:
        raise UserError(
            f"trainer.val_check_interval={interval}: an epoch has {batches} batches. Give at most that "
            f"number, or a fraction of an epoch such as 0.5, or set trainer.check_val_every_n_epoch=null to "
            f"count batches across epochs."
        )
    accumulated = trainer.accumulate_grad_batches
    after = max(1, int(batches * interval)) if isinstance(interval, float) else interval
    if validates and every is None and isinstance(interval, int) and batches % accumulated:
        raise UserError(
            f"trainer.val_check_interval={interval}: it counts on from one epoch of {batches} batches to the "
            f"next, so validations would come between batches whose gradients are accumulated. Set "
            f"trainer.limit_train_batches to a multiple of trainer.accumulate_grad_batches={accumulated}."
        )
    if validates and after % accumulated and after != batches:
        raise UserError(
            f"trainer.val_check_interval={interval}: a validation after {after} batches would come "
            f"between batches whose gradients are accumulated. It counts batches: choose a multiple of "
            f"trainer.accumulate_grad_batches={accumulated}."
        )
    if trainer.overfit_batches and trainer.world_size > 1:  # type: ignore[attr-defined]
        raise UserError(
            "trainer.overfit_batches: every device would train on the same images. Set trainer.devices=1."
        )
    why = None
    if not validates:
        why = "trainer.limit_val_batches=0"
    elif every is not None and every > epochs:
        why = f"trainer.check_val_every_n_epoch={every}, and the training has {epochs}"
    elif every is None and isinstance(interval, int) and interval > batches * epochs and not within_steps:
        why = f"trainer.val_check_interval={interval}, and the training has {batches * epochs} batches"
    if why and trainer.is_global_zero:
        log.warning(
            "WARNING: nothing will be validated: %s. There will be no best.ckpt, no metrics.json and no "
            "report, only last.ckpt.",
            why,
        )


def planned_length(trainer: pl.Trainer, data: SegmentationDataModule) -> tuple[int, int]:
    """Optimizer steps and epochs of the whole training, before the Trainer has the data."""
    per_epoch = math.ceil(_batches(trainer, data) / trainer.accumulate_grad_batches)
    limit = trainer.max_steps if trainer.max_steps > 0 else math.inf
    epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else math.inf
    steps = int(min(limit, per_epoch * epochs))
    return steps, math.ceil(steps / per_epoch)


def _batches(trainer: pl.Trainer, data: SegmentationDataModule) -> int:
    """Training batches of an epoch."""
    assert data.train_set is not None
    steps = len(data.train_set) // data.config["batch_size"]
    return _limited("train", steps * trainer.accumulate_grad_batches, trainer)


def _limited(kind: str, number: int, trainer: pl.Trainer) -> int:
    """The batches of an epoch that trainer.limit_*_batches leaves, as Lightning counts them."""
    key = "overfit_batches" if trainer.overfit_batches else f"limit_{kind}_batches"  # type: ignore[attr-defined]
    limit: int | float = getattr(trainer, f"limit_{kind}_batches")
    left = min(number, limit) if isinstance(limit, int) else int(number * limit)
    if limit and number and not left:  # a dataset without images is another fault
        raise UserError(
            f"trainer.{key}={limit}: of {number} batches ({kind}) not one is left. Give at least "
            f"{math.ceil(1000 / number) / 1000:g}, or a number of batches."
        )
    return left
