"""What a training step takes of memory, counted without taking it: on tensors that have no values.

    python -m scripts.step_memory [--batch 16] [--size 512 1024]

For each precision, memory format and way of the loss, in GB (1e9 bytes) beside the weights: what the network
keeps for the backward pass, what the loss adds at its highest, what it keeps, and the highest of all. Not
counted is what a device's libraries take besides (workspaces of cuDNN, fragmentation).
"""

import argparse
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from src.network.cgnet import CGNet
from src.network.segmenter import Segmenter
from src.training.losses import WeightedCrossEntropy, upsampled_loss

CPU = torch.device("cpu")
CLASSES = 19
HEADS = ("network keeps", "loss, at its highest", "loss keeps", "highest of all")


class Loss:
    """Not a module: the tracker takes no module that is called more than once."""

    def __init__(self, by_image: bool):
        self.by_image = by_image
        self.loss = WeightedCrossEntropy([1.0] * CLASSES)

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> Any:
        return self.loss.forward(logits, target)


def count(batch: int, size: tuple[int, int], bf16: bool, nhwc: bool, by_image: bool) -> tuple[float, ...]:
    """HEADS, in GB, without the weights."""
    with FakeTensorMode():
        segmenter = Segmenter(CGNet(CLASSES), [0.0] * 3, [1.0] * 3).train()
        if nhwc:
            segmenter.memory_format = torch.channels_last  # weights without values cannot be converted
        image = torch.zeros(batch, 3, *size, dtype=torch.uint8)
        target = torch.zeros(batch, *size, dtype=torch.uint8)
        loss: Any = Loss(by_image)
        tracker = MemTracker()
        tracker.track_external(segmenter)

        def total(when: str = "current") -> float:
            return tracker.get_tracker_snapshot(when)[CPU]["Total"] / 1e9

        with tracker:
            before = total()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = segmenter.coarse_logits(image)
                network = total()
                summed, weight = upsampled_loss(loss, logits, target)
            peak_of_loss, kept = total("peak"), total()
            (summed / weight).backward()
        peak = total("peak")
    return network - before, peak_of_loss - network, kept - network, peak - before


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    heads = ("precision", "format", "loss", *HEADS)
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for bf16 in (False, True):
        for nhwc in (False, True):
            for by_image in (False, True):
                found = count(arguments.batch, tuple(arguments.size), bf16, nhwc, by_image)
                how = ("bf16" if bf16 else "float32", "NHWC" if nhwc else "NCHW")
                row = (*how, "by image" if by_image else "whole", *(f"{gb:.2f}" for gb in found))
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
