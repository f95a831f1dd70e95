"""How much memory a training step uses, and how many bytes it moves, counted on tensors without values.

    python -m scripts.step_memory [--batch 16] [--size 512 1024]

The first table has, for each precision, memory format and way to compute the loss, in GB (1e9 bytes) and
without the weights: what the network keeps for the backward pass, what the loss adds at its peak, what the
loss keeps, and the peak of the whole step. Memory that a device's libraries use in addition (workspaces of
cuDNN, fragmentation) is left out.

The other tables have a line for each kind of operation, in NCHW and eager mode: how many GB of its results
are kept for the backward pass, and how many it moves in the network's forward pass, in the loss with its
gradient, and in the network's backward pass. Each operation is assumed to read its inputs once and to write
its outputs once, which is the minimum.
"""

import argparse
from collections import Counter
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from src.network.cgnet import CGNet
from src.network.segmenter import Segmenter
from src.training.losses import WeightedCrossEntropy
from src.training.losses.step_loss import StepLoss

CPU = torch.device("cpu")
CLASSES = 19
PHASES = ("forward", "loss", "backward")
HEADS = ("network keeps", "peak of the loss", "loss keeps", "peak of the step")


class Loss:
    """Not a module: MemTracker refuses a module that is called more than once."""

    def __init__(self, by_image: bool):
        self.by_image = by_image
        self.loss = WeightedCrossEntropy([1.0] * CLASSES)

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> Any:
        return self.loss.forward(logits, target)


def count(batch: int, size: tuple[int, int], bf16: bool, nhwc: bool, by_image: bool) -> tuple[float, ...]:
    """The values of HEADS, in GB, without the weights."""
    with FakeTensorMode():
        segmenter = Segmenter(CGNet(CLASSES), [0.0] * 3, [1.0] * 3).train()
        if nhwc:
            segmenter.memory_format = torch.channels_last  # weights without values cannot be converted
        image = torch.zeros(batch, 3, *size, dtype=torch.uint8)
        target = torch.zeros(batch, *size, dtype=torch.uint8)
        loss = StepLoss(cast(Any, Loss(by_image)))
        tracker = MemTracker()
        tracker.track_external(segmenter)

        def total(when: str = "current") -> float:
            return tracker.get_tracker_snapshot(when)[CPU]["Total"] / 1e9

        with tracker:
            before = total()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = segmenter.coarse_logits(image)
                network = total()
                sums = loss({"logits": logits}, {"target": target})
            peak_of_loss, kept = total("peak"), total()
            (sums.total / sums.weight).backward()
        peak = total("peak")
    return network - before, peak_of_loss - network, kept - network, peak - before


# Prefixes of the names of operations, by their purpose.
KINDS = {
    "convolutions": ("convolution",),
    "BatchNorm": ("native_batch_norm",),
    "PReLU": ("_prelu",),
    "concatenations": ("cat",),
    "residuals; sums of gradients": ("add",),
    "global context": ("mean", "mul", "sum", "div", "sigmoid"),
    "upsampling": ("upsample",),
    "log_softmax, cross entropy": ("_log_softmax", "nll_loss", "index", "where", "ne"),
    "the rest": ("",),
}


class Traffic(TorchDispatchMode):
    """Bytes that operations read and write, by (kind, phase), and bytes of their results given to `keep`."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: Counter[tuple[str, str]] = Counter()
        self.kept: Counter[str] = Counter()
        self.phase = "forward"
        self._makers: dict[int, str] = {}
        self._kept: dict[int, torch.UntypedStorage] = {}  # alive: a new one could get a freed one's address

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given, made = (
            [t for t in tree_leaves(part) if isinstance(t, Tensor)] for part in ((args, kwargs), out)
        )
        name = func._schema.name.removeprefix("aten::")
        kind = next(kind for kind, starts in KINDS.items() if name.startswith(starts))
        new = [t for t in made if _address(t) not in map(_address, given)]
        if new or func._schema.is_mutable:  # not a view
            self.moved[kind, self.phase] += sum(map(_bytes, given + made))
            self._makers |= {_address(t): kind for t in new}
        return out

    def keep(self, tensor: Tensor) -> Tensor:
        address = _address(tensor)
        if self.phase == "forward" and address in self._makers and address not in self._kept:
            self._kept[address] = tensor.untyped_storage()
            self.kept[self._makers[address]] += self._kept[address].nbytes()
        return tensor


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tensor: Tensor) -> int:
    """Bytes of a tensor; of an expanded one, only those of its storage."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def count_traffic(batch: int, size: tuple[int, int], bf16: bool) -> Traffic:
    with FakeTensorMode():
        segmenter = Segmenter(CGNet(CLASSES), [0.0] * 3, [1.0] * 3).train()
        image = torch.zeros(batch, 3, *size, dtype=torch.uint8)
        target = torch.zeros(batch, *size, dtype=torch.uint8)
        loss = StepLoss(cast(Any, Loss(by_image=True)))
        traffic = Traffic()
        with traffic, saved_tensors_hooks(traffic.keep, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = segmenter.coarse_logits(image)
                traffic.phase = "loss"
                sums = loss({"logits": logits}, {"target": target})
            traffic.phase = "backward"
            (sums.total / sums.weight).backward()
    return traffic


def _row(*cells: object) -> None:
    texts = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
    print(f"| {' | '.join(texts)} |", flush=True)


def _head(*cells: str) -> None:
    _row(*cells)
    print("|" + " --- |" * len(cells))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    batch, size = arguments.batch, tuple(arguments.size)
    _head("precision", "format", "loss", *HEADS)
    for bf16 in (False, True):
        for nhwc in (False, True):
            for by_image in (False, True):
                how = ("bf16" if bf16 else "float32", "NHWC" if nhwc else "NCHW")
                _row(*how, "by image" if by_image else "whole", *count(batch, size, bf16, nhwc, by_image))
    for bf16 in (False, True):
        traffic = count_traffic(batch, size, bf16)
        print()
        _head("bf16" if bf16 else "float32", "results kept", *PHASES, "moved in all")
        for kind in (*KINDS, "all"):
            kinds = KINDS if kind == "all" else (kind,)
            moved = [sum(traffic.moved[k, phase] for k in kinds) / 1e9 for phase in PHASES]
            _row(kind, sum(traffic.kept[k] for k in kinds) / 1e9, *moved, sum(moved))


if __name__ == "__main__":
    main()
