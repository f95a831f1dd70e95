"""Exponential moving average of the weights, useful from the first validation on."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn

_Place = tuple[dict[str, Tensor | None], str]
"""Where a module keeps a parameter or buffer, and its name there."""


class WarmedUpEMA(WeightAveraging):
    """An average whose decay grows: min(decay, (1 + n) / (10 + n)) after n optimizer steps.

    Lightning's EMAWeightAveraging has a constant decay; 0.999 still holds 87% of the initial, untrained
    weights after 138 steps. The rule is TensorFlow's (tf.train.ExponentialMovingAverage, num_updates).
    Validation, best.ckpt and last.ckpt hold the averaged weights; the trained ones are kept beside them for
    resuming. BatchNorm statistics are averaged, too.

    Args:
        decay: in (0, 1), the upper limit of the growing decay.
    """

    def __init__(self, decay: float = 0.999):
        super().__init__(use_buffers=True)
        self.decay = decay
        self._places: list[tuple[list[_Place], list[_Place]]] = []  # by dtype: of the average, of the module

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # The parent class copies the module as it is now. Without this line the copy would be on the CPU,
        # with a transfer in each step, and in float32 even with trainer.precision=64-true.
        trainer.precision_plugin.convert_module(pl_module.to(trainer.strategy.root_device))
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            # On the CPU: each step reads it, and would otherwise wait for the device.
            self._average_model.n_averaged = torch.tensor(0)
            self._places = []

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # In place of the parent class, whose AveragedModel walks through both modules after each step: that
        # takes longer than to average, and the GPU waits for it where the crops are small.
        if trainer.global_step <= self._latest_update_step:
            return
        assert self._average_model is not None
        if not self._places:  # not in setup: layers may be replaced after it, by synchronised ones
            self._places = _by_dtype(_places(self._average_model.module), _places(pl_module))
        done = int(self._average_model.n_averaged)
        decay = min(self.decay, (1 + done) / (10 + done))
        for places, current_places in self._places:
            averaged, current = _at(places), _at(current_places)
            if averaged[0].is_floating_point() and done:
                torch._foreach_lerp_(averaged, current, 1 - decay)
            else:  # the first weights; and num_batches_tracked: a counter, not a weight
                torch._foreach_copy_(averaged, current)
        self._average_model.n_averaged += 1
        self._latest_update_step = trainer.global_step


def _places(root: nn.Module) -> list[_Place]:
    """Of all parameters and then all buffers, shared ones once. Not the tensors: a module may replace one."""
    found, seen = [], set()
    for kind in ("_parameters", "_buffers"):
        for module in root.modules():
            held = getattr(module, kind)
            for name, value in held.items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    found.append((held, name))
    return found


def _by_dtype(ones: Sequence[_Place], others: Sequence[_Place]) -> list[tuple[list[_Place], list[_Place]]]:
    groups: dict[torch.dtype, tuple[list[_Place], list[_Place]]] = defaultdict(lambda: ([], []))
    for one, other, tensor in zip(ones, others, _at(ones), strict=True):
        groups[tensor.dtype][0].append(one)
        groups[tensor.dtype][1].append(other)
    return list(groups.values())


def _at(places: Sequence[_Place]) -> list[Tensor]:
    return [held[name] for held, name in places]  # type: ignore[misc]
