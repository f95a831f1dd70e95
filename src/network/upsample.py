"""Bilinear upsampling of logits to the size of the image, deterministic where that is asked for."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample(logits: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size), bilinear."""
    if torch.are_deterministic_algorithms_enabled() and logits.device.type != "cpu":
        return _DeterministicUpsample.apply(logits, tuple(size))
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


class _DeterministicUpsample(torch.autograd.Function):
    """CUDA's backward sums up pixels in no fixed order. PyTorch's deterministic backward gathers and scatters
    each pixel four times, and moves 36 GB for 16 crops of 512x1024 with 19 classes. Here the gradient is two
    small matrix products, and moves 1.5 GB (both counted on tensors without values)."""

    @staticmethod
    def forward(ctx, logits: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.coarse = logits.shape[-2:]
        return torch.ops.aten.upsample_bilinear2d(logits, size, align_corners=False)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        rows, columns = (
            # (coarse, fine): how much of each coarse row or column is in each fine one.
            F.interpolate(torch.eye(coarse, dtype=gradient.dtype)[None], size=fine, mode="linear")[0]
            for coarse, fine in zip(ctx.coarse, gradient.shape[-2:], strict=True)
        )
        return rows.to(gradient.device) @ gradient @ columns.t().to(gradient.device), None


_STRIP = 2**22
"""Bytes of upsampled logits that `class_map` has in memory at a time: few enough for a CPU's cache."""


def class_map(coarse: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) -> uint8 (B, *size), the class of each pixel: `best_class(upsample(coarse, size))`.

    If both sides grow by one power of two, it is computed in strips of rows, with the same result bit for
    bit: the full-size logits are never in memory at once. A strip has one more row on either side, so that
    its inner rows lie between the same neighbours, with the same weights, exact for a power of two.
    """
    (h, w), (height, width) = coarse.shape[-2:], size
    factor = height // h
    if (height, width) != (factor * h, factor * w) or factor & (factor - 1):
        return best_class(upsample(coarse, size))
    bytes_per_row = coarse.element_size() * coarse[:, :, 0].numel() * factor * factor
    rows = max(1, _STRIP // bytes_per_row)
    result = coarse.new_empty((len(coarse), height, width), dtype=torch.uint8)
    for start in range(0, h, rows):
        end = min(start + rows, h)
        first, last = max(0, start - 1), min(h, end + 1)
        strip = upsample(coarse[:, :, first:last], ((last - first) * factor, width))
        inner = strip[:, :, (start - first) * factor : (end - first) * factor]
        result[:, start * factor : end * factor] = best_class(inner)
    return result


def best_class(scores: Tensor) -> Tensor:
    """(B, C, H, W) -> uint8 (B, H, W), the first of the highest."""
    # The same indices as argmax, in half of its time on CPUs if the channels come first.
    return scores.max(1).indices.to(torch.uint8)
