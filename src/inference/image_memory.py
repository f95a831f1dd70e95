"""How much memory the class map of an image takes, and how much there is."""

from dataclasses import replace

import torch

from src.errors import UserError
from src.inference.predictor import Predictor
from src.runs.machine import usable_memory

WINDOW = "window=[1024,2048]"
"""What a message advises where an image does not fit."""
_CGNET = 200
"""Bytes per pixel of CGNet's input, in float32. Measured as the growth of a process on a CPU: 198, for
2000x3000 and 4000x4000 pixels, with 11 and with 19 classes."""


def bytes_per_pixel(is_cgnet: bool, classes: int, half: bool) -> int:
    """Of a network's input. For a network other than CGNet only its input and its logits are counted.

    Args:
        half: computes in 16 bits.
    """
    per_pixel = _CGNET if is_cgnet else 12 + 4 * classes
    return per_pixel // 2 if half else per_pixel


def memory_of(device: torch.device) -> int:
    """Bytes that a device has; 0 if they are unknown."""
    if device.type == "cpu":
        return usable_memory()
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def check_image(predictor: Predictor, size: tuple[int, int]) -> None:
    """Raises UserError for an image of (height, width) that is too small for the network, or that takes more
    memory than the device has."""
    inference = predictor.inference
    replace(inference, window=None).check_sizes([size])  # an image smaller than the window is seen whole
    is_cgnet = predictor.provenance.get("network") == "CGNet"
    classes, half = len(predictor.classes), predictor.engine.precision in ("bf16", "fp16")
    needed = inference.memory(size, classes, bytes_per_pixel(is_cgnet, classes, half))
    there = memory_of(torch.device(predictor.engine.device))
    if there and needed > there:
        raise UserError(
            f"{size[1]}x{size[0]} pixels take about {needed / 1e9:.3g} GB of memory, and there are "
            f"{there / 1e9:.3g} GB. See it in windows ({WINDOW}), or choose a smaller input_scale."
        )
