"""Losses on full-resolution logits, as sums, so that all devices together can normalise them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.labels import IGNORE


class WeightedCrossEntropy(nn.Module):
    """sum(w[y] * CE) / sum(w[y]) over labelled pixels, the weighted mean of SSSegmentation and PyTorch.

    Args:
        class_weights: one per class, or None for equal weights.
        label_smoothing: in [0, 1).
    """

    weight: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"loss.label_smoothing={label_smoothing}: expected a number from 0 to below 1")
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        # Not part of state_dict: the weights belong to the training data, not to the network.
        self.register_buffer("weight", weight, persistent=False)
        self.label_smoothing = label_smoothing

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
        valid = target != IGNORE
        if self.weight is None:
            return total, valid.sum().to(logits.dtype)
        return total, (self.weight[target.where(valid, 0)] * valid).sum()
