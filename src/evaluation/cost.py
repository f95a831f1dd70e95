"""What an answer costs: parameters, operations and the time of one image."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from src.network.segmenter import Segmenter

_WARMUP = 3


def count(model: Mapping[str, Any], size: Sequence[int]) -> dict[str, Any]:
    """`parameters`, and `GFLOPs` of one forward pass of an image of that (height, width).

    A multiply-add counts as two operations, as in the paper (many tables count it as one); of everything but
    convolutions and matrix products there are too few to count. No memory is allocated for weights or image.

    Args:
        model: as for `Segmenter.from_config`.
    """
    with torch.device("meta"):
        segmenter = Segmenter.from_config(model).eval()
        image = torch.zeros(1, 3, *size, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        segmenter(image)
    return {
        "parameters": sum(p.numel() for p in segmenter.parameters()),
        "GFLOPs": counter.get_total_flops() / 1e9,
    }


def latency(
    answer: Callable[[Tensor], Tensor], size: Sequence[int], device: torch.device, passes: int
) -> dict[str, float]:
    """Milliseconds from one image on the device to its class map there, as median and quartiles.

    Args:
        answer: uint8 (1, 3, H, W) -> scores (1, C, H, W).
        size: height and width.
        passes: that count; a few come before them.
    """
    image = torch.randint(256, (1, 3, *size), dtype=torch.uint8).to(device)
    milliseconds = []
    for number in range(-_WARMUP, passes):
        _wait_for(device)
        start = time.perf_counter()
        answer(image).argmax(1)
        _wait_for(device)
        if number >= 0:
            milliseconds.append(1e3 * (time.perf_counter() - start))
    q1, median, q3 = (float(q) for q in np.percentile(milliseconds, (25, 50, 75)))
    return {"median": median, "q1": q1, "q3": q3}


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
