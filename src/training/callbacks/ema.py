"""Exponential moving average of the weights, useful from the first validation on."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


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
        super().__init__(use_buffers=True, multi_avg_fn=self._update)
        self.decay = decay

    @torch.no_grad()
    def _update(self, averaged: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
        assert self._average_model is not None
        done = int(self._average_model.n_averaged)  # `updates` is a copy of it on the device
        decay = min(self.decay, (1 + done) / (10 + done))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:
            torch._foreach_copy_(averaged, current)  # num_batches_tracked: a counter, not a weight

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # The parent class copies the module as it is now. Without this line the copy would be on the CPU,
        # with a transfer in each step, and in float32 even with trainer.precision=64-true.
        trainer.precision_plugin.convert_module(pl_module.to(trainer.strategy.root_device))
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            # On the CPU: each step reads it, and would otherwise wait for the device.
            self._average_model.n_averaged = torch.tensor(0)
