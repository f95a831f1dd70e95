"""Losses on full-resolution logits, returned as sums, so that they can be normalised over all devices."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.labels import IGNORE
from src.network.upsample import upsample


class WeightedCrossEntropy(nn.Module):
    """sum(w[y] * CE) over labelled pixels, divided by the sum of their w[y] or by the number of all pixels.

    by_image: both sums may be computed image by image and added up (see `upsampled_loss`).

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
            return total, total.new_tensor(float(target.numel()))
        valid = target != IGNORE
        if self.weight is None:
            return total, valid.sum().to(logits.dtype)
        return total, (self.weight[target.where(valid, 0)] * valid).sum()


def upsampled_loss(loss: nn.Module, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The two sums of a loss whose logits are first upsampled to the size of the target.

    Logits at full size are the largest tensors of a step, and the loss makes two more of that size. For a
    loss with `by_image`, only one image's logits are in memory at full size at a time: their gradient is
    computed at once, and kept for the backward pass at the size of the network's output.

    Args:
        logits: float32 (B, C, h, w).
        target: uint8 (B, H, W).
    """
    if getattr(loss, "by_image", False) and logits.requires_grad:
        return _LossByImage.apply(logits, target, loss)
    return loss(upsample(logits, target.shape[-2:]), target)


class _LossByImage(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, target: Tensor, loss: nn.Module) -> tuple[Tensor, Tensor]:
        totals, weights, gradients = [], [], []
        for image, of_one in zip(logits.detach().split(1), target.split(1), strict=True):
            one = image.contiguous().requires_grad_()
            with torch.enable_grad():
                total, weight = loss(upsample(one, target.shape[-2:]), of_one)
            gradients.append(torch.autograd.grad(total, one)[0])
            totals.append(total.detach())
            weights.append(weight)
        ctx.save_for_backward(torch.cat(gradients))
        weight = torch.stack(weights).sum()
        ctx.mark_non_differentiable(weight)
        return torch.stack(totals).sum(), weight

    @staticmethod
    def backward(ctx, of_total: Tensor, of_weight: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * of_total, None, None
