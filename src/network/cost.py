"""What a network costs: its parameters, and the arithmetic for an image."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from src.network.segmenter import Segmenter


def parameters_and_gflops(model: Mapping[str, Any], height: int, width: int) -> tuple[int, float]:
    """Of a Segmenter's config; no weights are made and nothing is computed.

    A multiplication with its addition counts as two operations; as usual only those of convolutions and
    matrix products are counted.
    """
    with torch.device("meta"):
        segmenter = Segmenter.from_config(model).eval()
        image = torch.zeros(1, 3, height, width, dtype=torch.uint8)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            segmenter(image)
    return sum(p.numel() for p in segmenter.parameters()), counter.get_total_flops() / 1e9
