"""Cross entropy of every labelled pixel, or of the hardest ones (OHEM)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.labels import IGNORE


class WeightedCrossEntropy(nn.Module):
    """sum(w[y] * CE) over labelled pixels, divided by the sum of their w[y] or by the number of all pixels.

    by_image: both sums may be computed image by image and added up (see `StepLoss`).

    Args:
        class_weights: one per class, or None for equal weights.
        label_smoothing: in [0, 1).
        divide_by: "weights", sum(w[y]) over labelled pixels, as PyTorch, SSSegmentation and mmsegmentation
            from 1.2.0 on do; or "pixels", the number of pixels including ignored ones, as mmsegmentation up
            to 1.1.2 does: the gradient is then multiplied by the mean weight of the labelled pixels and by
            their share of all pixels.
    """

    weight: Tensor | None
    by_image = True

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
        """Numerator and denominator of the loss, so that several devices can sum both before the division.

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
            reduction="none",  # summed below: CUDA's own sum is refused in a deterministic training
            label_smoothing=self.label_smoothing,
        ).sum()
        if self.divide_by == "pixels":
            return total, total.new_full((), float(target.numel()))
        valid = target != IGNORE
        if self.weight is None:
            return total, valid.sum().to(logits.dtype)
        return total, (self.weight[target.where(valid, 0)] * valid).sum()


class OhemCrossEntropy(nn.Module):
    """Cross entropy of the pixels that are hardest at present (online hard example mining).

    A labelled pixel is kept if the network gives its true class a probability below `threshold`, and in any
    case if it is among the hardest pixels: the share `min_kept` of the labelled pixels. The loss is
    sum(w[y] * CE) / sum(w[y]) over the pixels that are kept. Each device chooses among its own pixels, so
    that the loss of several devices is that of one only where the threshold alone decides.

    https://arxiv.org/abs/1604.03540 for detection; here as segmentation uses it, threshold 0.7.

    Args:
        threshold: a probability.
        min_kept: a share of the labelled pixels of a device's batch, 0 to 1. At least one pixel is kept.
        class_weights: one per class, or None for equal weights.
    """

    weight: Tensor | None
    compares_pixels = True

    def __init__(
        self,
        threshold: float = 0.7,
        min_kept: float = 1 / 16,
        class_weights: Sequence[float] | None = None,
    ):
        super().__init__()
        self.threshold, self.min_kept = threshold, min_kept
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Numerator and denominator.

        Args:
            logits: float32 (B, C, H, W).
            target: uint8 (B, H, W), IGNORE = not counted.
        """
        target = target.long()
        valid = target != IGNORE
        entropy = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        # Ignored pixels are easier than every labelled one. Their own entropy, 0, would tie with the best.
        hardness = entropy.detach().where(valid, -1.0).flatten()
        hardest = hardness.topk(max(1, int(self.min_kept * hardness.numel()))).values
        # Tensors throughout: a value on the host would make the step wait for the device.
        last = (valid.sum() * self.min_kept).long().sub(1).clamp(0, len(hardest) - 1)
        limit = hardest.gather(0, last.view(1)).clamp(max=-math.log(self.threshold))
        kept = valid & (entropy.detach() >= limit)
        weights = kept.to(logits.dtype)
        if self.weight is not None:
            weights = weights * self.weight[target.where(valid, 0)]
        return (entropy * weights).sum(), weights.sum()
