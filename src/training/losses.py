"""Losses on full-resolution logits, as sums, so that all devices together can normalise them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.labels import IGNORE


class WeightedCrossEntropy(nn.Module):
    """sum(w[y] * CE) over labelled pixels, divided by their weights or by the number of all pixels.

    Args:
        class_weights: one per class, or None for equal weights.
        label_smoothing: in [0, 1).
        divide_by: "weights", sum(w[y]) over labelled pixels, as PyTorch, SSSegmentation and mmsegmentation
            from 1.2.0 on do; or "pixels", the ignored ones included, as mmsegmentation up to 1.1.2 does: the
            gradient is then larger by the mean weight, and smaller by the share of ignored pixels.
    """

    weight: Tensor | None

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        divide_by: str = "weights",
    ):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"loss.label_smoothing={label_smoothing}: expected a number from 0 to below 1")
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        if divide_by not in ("weights", "pixels"):
            raise ValueError(f"loss.divide_by={divide_by}: expected weights or pixels")
        # Not part of state_dict: the weights belong to the training data, not to the network.
        self.register_buffer("weight", weight, persistent=False)
        self.label_smoothing = label_smoothing
        self.divide_by = divide_by

    def forward(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The two sums of the quotient, so that it can be taken over several devices.

        Args:
            logits: float32 (B, C, H, W).
            target: uint8 (B, H, W), IGNORE = not counted.
        """
        target = target.long()
        total = F.cross_entropy(
            logits,
            target,
            self.weight,
            ignore_index=IGNORE,
            reduction="none",  # then summed: CUDA's own sum is not deterministic, and refused if it has to be
            label_smoothing=self.label_smoothing,
        ).sum()
        if self.divide_by == "pixels":
            return total, total.new_tensor(float(target.numel()))
        valid = target != IGNORE
        if self.weight is None:
            return total, valid.sum().to(logits.dtype)
        return total, (self.weight[target.where(valid, 0)] * valid).sum()
