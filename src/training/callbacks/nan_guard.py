"""Stops a training whose loss or weights are no longer finite, before they overwrite a checkpoint."""

import logging
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from src.errors import ASK_THE_DOCTOR, UserError, shorten
from src.runs.atomic_files import CannotWriteError
from src.training.reliability.lightning_internals import is_accumulating
from src.training.replay.kept_steps import KeptSteps, write_step

log = logging.getLogger(__name__)

_ANOMALY = "trainer.detect_anomaly=true names the operation that makes the first NaN, but is slow.\n"


@dataclass
class _Step:
    """A step whose loss is still to be checked; its copy from the device may be under way."""

    loss: Tensor
    copied: torch.cuda.Event | None
    number: int
    epoch: int
    rates: list[float]
    names: list[str]

    def is_finite(self) -> bool:
        if self.copied is not None:
            self.copied.synchronize()
        return bool(self.loss.isfinite())


class NanGuard(Callback):
    """Raises UserError with the step, its files and what to try, once the loss is NaN or infinite.

    The loss of a step is checked after the next backward pass has been queued, so that the device never
    waits; before a validation and before a checkpoint it is checked at once. It is the loss over all devices,
    so every rank decides the same. A step may have a finite loss and gradients that are not finite. Under
    16-mixed the GradScaler skips such a step. In other precisions it spoils the weights, which are therefore
    checked before each checkpoint.

    By then the weights are spoilt. So that the step can be replayed (scripts/replay.py), the state before
    each of the last two steps is kept on the device, with their batches. To train from last.ckpt up to the
    step instead would need no copies, but up to an epoch, and on GPUs it would not lead to the same weights.

    Args:
        directory: where a step with a loss, a gradient or weights that are not finite is written; None = no
            state is kept, and none is written.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self.directory = Path(directory) if directory is not None else None
        self._kept = KeptSteps()
        self._losses: dict[int, float] = {}  # of the last steps that were checked, by their numbers
        self._unseen: list[_Step] = []
        self._rates: list[float] = []
        self._names: list[str] = []  # of the batches accumulated so far for the next step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Checks the initial values, before any step has changed them."""
        values = [*pl_module.named_parameters(), *pl_module.named_buffers()]
        bad = [name for name, value in values if value.is_floating_point() and not value.isfinite().all()]
        if bad:
            raise UserError(
                f"The training would begin with values that are NaN or infinite:\n"
                f"{shorten([f'  {name}' for name in bad])}\n"
                f"Those of segmenter belong to the network: they come from the file that checkpoint= names, "
                f"or from its initialisation. loss.weight comes from data.class_weights."
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        if self.directory is not None:
            self._kept.begin_batch(trainer, pl_module, batch)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        self._look(trainer)
        if self.directory is not None:
            self._kept.before_update(trainer, optimizer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._names += batch["name"]
        if is_accumulating(trainer):
            return
        assert isinstance(
            pl_module.step_loss, Tensor
        )  # set by SegmentationModule; a logged value would be waited for
        loss, copied = _to_host(pl_module.step_loss)
        step, epoch = trainer.global_step, trainer.current_epoch
        self._unseen.append(_Step(loss, copied, step, epoch, self._rates, self._names))
        self._names = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._look(trainer)
        weights = [value for value in checkpoint["state_dict"].values() if value.is_floating_point()]
        if not torch.stack([value.isfinite().all() for value in weights]).all():
            raise UserError(
                f"The weights are NaN or infinite after step {trainer.global_step} (epoch "
                f"{trainer.current_epoch + 1}), though every loss until then was finite: a gradient or "
                f"a statistic of BatchNorm was not. No checkpoint is written with them; earlier ones are "
                f"kept.\n"
                f"{self._how_to_replay(trainer, trainer.global_step)}"
                f"{_what_to_try(trainer, trainer.global_step)}"
            )

    def _look(self, trainer: pl.Trainer) -> None:
        while self._unseen:
            step = self._unseen.pop(0)
            finite = step.is_finite()
            self._losses = {**self._losses, step.number: step.loss.item()}
            self._losses.pop(step.number - 2, None)
            if not finite:
                raise UserError(_message(step, trainer, self._how_to_replay(trainer, step.number)))

    def _how_to_replay(self, trainer: pl.Trainer, number: int) -> str:
        """Writes the step with which it began, and says how to replay it."""
        step = self._kept.first_bad(trainer, number)
        if self.directory is None or step is None:
            return _ANOMALY
        path = self.directory / f"step_{step.number}.pt"
        facts = {
            "bad_step": number,
            "losses": self._losses,
            "hyper_parameters": dict(trainer.lightning_module.hparams),
            "world_size": trainer.world_size,
        }
        try:
            write_step(step, path, trainer, facts)
        except (CannotWriteError, OSError) as error:
            log.warning("The step cannot be replayed. %s", error)
            return _ANOMALY
        which = f"step {step.number}, which spoilt the weights" if step.number < number else "the step"
        return (
            f"To replay {which}, with anomaly detection:\n"
            f"  python -m scripts.replay {shlex.quote(str(self.directory.parent))}\n"
            f"Its images and labels: {path.with_suffix('.jpg')}\n"
        )


def _to_host(value: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A copy on the CPU, complete once the event has happened; without a CUDA device it is so at once."""
    if value.device.type != "cuda":
        return value.clone(), None
    host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    host.copy_(value, non_blocking=True)
    copied = torch.cuda.Event(blocking=True)  # else a core spins while it waits
    copied.record()
    return host, copied


def _message(step: _Step, trainer: pl.Trainer, how_to_replay: str) -> str:
    names = step.names
    if trainer.world_size > 1:  # all ranks come here, since they saw the same loss
        of_ranks: list[list[str]] = [[] for _ in range(trainer.world_size)]
        dist.all_gather_object(of_ranks, step.names)
        names = [name for of_rank in of_ranks for name in of_rank]
    rates = ", ".join(f"{rate:.3g}" for rate in dict.fromkeys(step.rates))
    return (
        f"The loss is {step.loss.item()} in step {step.number} (epoch {step.epoch + 1}), at a learning rate "
        f"of {rates}. No checkpoint is written from here on; earlier ones are kept.\n"
        f"The batch, on all devices:\n{shorten([f'  {name}' for name in names], 64)}\n"
        f"{how_to_replay}"
        f"{_what_to_try(trainer, step.number)}"
    )


def _what_to_try(trainer: pl.Trainer, step: int) -> str:
    """step: where it was seen. In step 1 the learning rate has not changed the weights yet."""
    rate = trainer.optimizers[0].defaults["lr"]
    tries = [f"a lower learning rate (optimizer.lr={rate / 3:.2g})"] if step > 1 else []
    if trainer.precision != "32-true":
        tries.append("full precision (trainer.precision=32-true)")
    if step > 1 and not trainer.gradient_clip_val:
        tries.append("clipped gradients (trainer.gradient_clip_val=1.0)")
    first = ""
    if step <= 1:
        first = (
            "It is the first step: the learning rate is not the cause, and the weights were finite. Check "
            "the input of the network (data.mean, data.std), and what network and loss compute from it.\n"
        )
    tried = f"Try, under another name=: {'; '.join(tries)}. " if tries else ""
    return (
        f"{first}The same command would fail again. {tried}"
        f"callbacks.nan_guard=null switches this check off.\n{ASK_THE_DOCTOR}"
    )
