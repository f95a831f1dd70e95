"""What a prediction costs: parameters, operations, and the time for one image."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from src.network.segmenter import Segmenter

_WARMUP = 3

_Network = Callable[[Tensor], Tensor]


def parameters_and_gflops(
    model: Mapping[str, Any],
    height: int,
    width: int,
    *,
    around: Callable[[Segmenter], _Network] = lambda network: network,
) -> tuple[int, float]:
    """Parameters and GFLOPs of a Segmenter's config. No weights are made and nothing is computed, unless the
    network needs values of tensors, as some networks of others do.

    A multiplication with its addition counts as two operations; as usual only those of convolutions and
    matrix products are counted.

    Args:
        around: makes the function that predicts from the network, which may see a resized image, or windows.
    """

    def count(device: str) -> tuple[int, float]:
        with torch.device(device):
            segmenter = Segmenter.from_config(model).eval()
            image = torch.zeros(1, 3, height, width, dtype=torch.uint8)
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                around(segmenter)(image)
        return sum(p.numel() for p in segmenter.parameters()), counter.get_total_flops() / 1e9

    try:
        return count("meta")
    except (NotImplementedError, RuntimeError):
        return count("cpu")


def latency(class_map: _Network, size: Sequence[int], device: torch.device, passes: int) -> dict[str, float]:
    """Milliseconds from one image on the device to its class map there, as median and quartiles.

    Args:
        class_map: uint8 (1, 3, H, W) -> uint8 (1, H, W).
        size: height and width.
        passes: those that are measured; a few warm-up passes come before them.
    """
    image = torch.randint(256, (1, 3, *size), dtype=torch.uint8).to(device)
    milliseconds = []
    for number in range(-_WARMUP, passes):
        _wait_for(device)
        start = time.perf_counter()
        class_map(image)
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
