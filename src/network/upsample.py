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


_CHUNK = 2**22
"""Bytes of upsampled logits that `class_map` has in memory at a time: few enough for a CPU's cache."""
_ROUNDING = 2e-6
"""Difference of two logits, relative to the largest, that interpolation in float32 surely keeps: each way of
computing it is wrong by less than a quarter of this."""


def class_map(coarse: Tensor, size: Sequence[int], exact: bool = True) -> Tensor:
    """(B, C, h, w) -> uint8 (B, *size), the class of each pixel: `best_class(upsample(coarse, size))`.

    On a CPU, if both sides grow by one power of two, the same result is computed in a fraction of the time,
    and full-size logits are never in memory at once. Each pixel lies between four coarse ones. Where these
    have one class, it has this class, since its logits are the same weighted mean of theirs. Only at the
    borders of classes is something computed.

    Args:
        exact: the same bit for bit. Else a pixel whose two highest logits differ by rounding may differ.
    """
    (h, w), (height, width) = coarse.shape[-2:], size
    factor = height // h
    if (height, width) != (factor * h, factor * w) or factor & (factor - 1) or factor == 1:
        return best_class(upsample(coarse, size))
    if coarse.device.type != "cpu":  # a GPU would have to wait until it is known where the borders are
        return best_class(upsample(coarse, size))
    result, unsure = _by_cells(coarse, factor)
    if exact:
        for image, rows in unsure:
            _correct(result[image : image + 1], coarse[image : image + 1], rows, factor)
    return result


def _by_cells(coarse: Tensor, factor: int) -> tuple[Tensor, list[tuple[int, list[int]]]]:
    """The class map, and for each image the rows of cells in which rounding may have decided.

    A cell is what lies between four coarse pixels, factor x factor pixels; the outer ones stick out.
    """
    batch, classes, h, w = coarse.shape
    padded = F.pad(coarse, (1, 1, 1, 1), mode="replicate")  # as interpolation continues at the edges
    least = _ROUNDING * coarse.abs().max()
    best, is_sure = _best(padded, least)
    corners = [best[:, y : y + h + 1, x : x + w + 1] for y in (0, 1) for x in (0, 1)]
    is_inner = is_sure[:, 1:, 1:] & is_sure[:, 1:, :-1] & is_sure[:, :-1, 1:] & is_sure[:, :-1, :-1]
    for corner in corners[1:]:
        is_inner &= corner == corners[0]
    cells = corners[0][:, :, None, :, None].repeat(1, 1, factor, 1, factor)

    between = (torch.arange(factor, dtype=coarse.dtype) + 0.5) / factor
    shares = torch.stack([1 - between, between])  # (2, factor): of the upper and of the lower neighbour
    weights = (shares[:, None, :, None] * shares[None, :, None, :]).reshape(4, factor * factor)
    unsure: set[tuple[int, int]] = set()
    step = max(1, _CHUNK // (coarse.element_size() * classes * factor * factor))
    for image, y, x in zip(*(part.split(step) for part in (~is_inner).nonzero().unbind(1)), strict=True):
        corner_logits = torch.stack([padded[image, :, y + i, x + j] for i in (0, 1) for j in (0, 1)], -1)
        with torch.autocast("cpu", enabled=False):  # which would round the logits
            between_them = corner_logits @ weights  # (cells, C, factor * factor)
        best, is_sure = _best(between_them, least)
        cells[image, y, :, x] = best.view(-1, factor, factor)
        here = (~is_sure).any(1)
        unsure |= set(zip(image[here].tolist(), y[here].tolist(), strict=True))
    half = factor // 2
    whole = cells.reshape(batch, (h + 1) * factor, (w + 1) * factor)
    rows = [(image, sorted(y for other, y in unsure if other == image)) for image in range(batch)]
    return whole[:, half:-half, half:-half].contiguous(), rows


def _best(logits: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, ...) -> uint8 (B, ...), and whether the highest is above all others by `least` or more."""
    highest, indices = logits.max(1, keepdim=True)
    second = logits.scatter(1, indices, -torch.inf).max(1).values
    return indices[:, 0].to(torch.uint8), highest[:, 0] - second >= least  # NaN is not sure


def _correct(result: Tensor, coarse: Tensor, rows: list[int], factor: int) -> None:
    """Write these rows of cells as `upsample` computes them, in strips of the whole width. A strip has all
    coarse rows that they lie between, so that the weights are the same, exact for a power of two."""
    (h, w), half = coarse.shape[-2:], factor // 2
    most = max(1, _CHUNK // (coarse.element_size() * coarse.shape[1] * w * factor * factor))
    while rows:
        count = next(n for n in range(1, len(rows) + 1) if n in (most, len(rows)) or rows[n] != rows[0] + n)
        start, end, rows = rows[0], rows[0] + count, rows[count:]
        first, last = max(0, start - 1), min(h, end)
        strip = upsample(coarse[:, :, first:last], ((last - first) * factor, w * factor))
        top, bottom = max(0, start * factor - half), min(h * factor, end * factor - half)
        result[:, top:bottom] = best_class(strip[:, :, top - first * factor : bottom - first * factor])


def best_class(scores: Tensor) -> Tensor:
    """(B, C, H, W) -> uint8 (B, H, W), the first of the highest."""
    # The same indices as argmax, in half of its time on CPUs if the channels come first.
    return scores.max(1).indices.to(torch.uint8)
