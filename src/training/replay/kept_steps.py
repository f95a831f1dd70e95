"""The last optimizer steps of a training, kept so that one of them can be replayed from its own state."""

import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from src.labels import LabelTable
from src.report.pictures import samples_panel, write_image
from src.runs.atomic_files import write_bytes
from src.training.reliability.lightning_internals import loss_scaler, scale_tensors

Key = tuple[Any, ...]

_MOST_PICTURES = 32
_WIDTH = 256  # of a picture, in pixels


class Copies:
    """Copies of tensors that change in each step. They are overwritten on the device itself: without new
    memory, and without waiting for the device."""

    def __init__(self) -> None:
        self.of: dict[Key, Tensor] = {}
        self._groups: list[tuple[list[int], list[Tensor]]] = []  # numbers of tensors, and their copies

    @torch.no_grad()
    def take(self, live: Sequence[Tensor], keys: Callable[[], Iterable[Key]]) -> None:
        """keys: of the tensors; called only where the tensors are others than in the step before."""
        try:
            if len(live) == len(self.of):
                return self._copy(live)
        except RuntimeError:
            pass  # an optimizer has changed the size of its state
        copies = [torch.empty_like(tensor) for tensor in live]
        self.of = dict(zip(keys(), copies, strict=True))
        groups = defaultdict(list)  # PyTorch copies the many small tensors of a group by few kernels
        for number, tensor in enumerate(live):
            groups[tensor.device, tensor.dtype].append(number)
        self._groups = [(numbers, [copies[n] for n in numbers]) for numbers in groups.values()]
        self._copy(live)

    def _copy(self, live: Sequence[Tensor]) -> None:
        for numbers, copies in self._groups:
            torch._foreach_copy_(copies, [live[n] for n in numbers], non_blocking=True)


@dataclass
class Step:
    """An optimizer step: its batches on this device, and the state before it."""

    number: int  # from 1
    epoch: int  # from 1
    buffers: Copies
    others: Copies = field(default_factory=Copies)  # weights, the optimizer's state, the loss scale
    batches: list[Mapping[str, Any]] = field(default_factory=list)  # one for each accumulated batch
    random: list[dict[str, Tensor]] = field(default_factory=list)  # generators' states before each of them
    settings: list[dict[str, Any]] = field(default_factory=list)  # of the optimizer's groups: lr, ...

    def is_finite(self) -> bool:
        """Whether the weights and BatchNorm's statistics before it were."""
        both = [*self.buffers.of.items(), *self.others.of.items()]
        weights = [tensor for (kind, *_), tensor in both if kind == "weights"]
        return all(bool(weight.isfinite().all()) for weight in weights)


class KeptSteps:
    """The last two steps, and the one under way.

    Two, since a loss that is not finite often has its cause in the step before, whose gradients or update
    have spoilt the weights. In memory: twice the weights with the optimizer's state, and the batches.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._current: Step | None = None
        self._spare = Copies()
        self._parameters: list[_Place] = []
        self._buffers: list[_Place] = []

    def begin_batch(self, trainer: pl.Trainer, module: nn.Module, batch: Mapping[str, Any]) -> None:
        """Call it before each training batch."""
        if not self._parameters:
            self._parameters, self._buffers = _places(module, "_parameters"), _places(module, "_buffers")
        if self._current is None:
            self._current = Step(trainer.global_step + 1, trainer.current_epoch + 1, self._spare)
            self._current.buffers.take(*_tensors(self._buffers))
        self._current.batches.append(batch)
        self._current.random.append(random_states(trainer.strategy.root_device))

    def before_update(self, trainer: pl.Trainer, optimizer: Optimizer) -> None:
        """Call it after a step's backward pass, before the optimizer changes the weights."""
        step, self._current = self._current, None
        if step is None:
            return  # an optimizer that evaluates the batch several times, such as LBFGS
        self._spare = Copies()
        if len(self.steps) > 1:
            oldest = self.steps.pop(0)
            self._spare, step.others = oldest.buffers, oldest.others
        scale = scale_tensors(loss_scaler(trainer))
        weights, names = _tensors(self._parameters)
        step.others.take(
            [*weights, *_state_of(optimizer), *scale],
            lambda: [*names(), *_names_in_state(optimizer), *[("scale",), ("growth",)][: len(scale)]],
        )
        step.settings = [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ]
        self.steps.append(step)

    def first_bad(self, trainer: pl.Trainer, number: int) -> Step | None:
        """The step with which it began, if something is not finite in step `number`. It is the one before if
        that has spoilt the weights, though its loss was finite. None if neither is kept.

        All ranks call it together.
        """
        steps = [step for step in self.steps if step.number <= number]
        if not steps:
            return None
        chosen = [next((at for at, step in enumerate(steps[::-1], 1) if step.is_finite()), len(steps))]
        if trainer.world_size > 1:  # statistics of BatchNorm may differ between ranks
            dist.broadcast_object_list(chosen, 0)
        return steps[-chosen[0]]


_Place = tuple[str, dict[str, Tensor | None], str]
"""Full name of a tensor, the dict of the module that holds it, its name there: modules may replace it."""


def _places(module: nn.Module, kind: str) -> list[_Place]:
    return [
        (f"{prefix}.{name}" if prefix else name, getattr(part, kind), name)
        for prefix, part in module.named_modules()
        for name in getattr(part, kind)
    ]


def _tensors(places: list[_Place]) -> tuple[list[Tensor], Callable[[], list[Key]]]:
    found = [(tensors[name], where) for where, tensors, name in places]
    there = [tensor for tensor, _ in found if tensor is not None]
    return there, lambda: [("weights", where) for tensor, where in found if tensor is not None]


def _state_of(optimizer: Optimizer) -> list[Tensor]:
    return [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]


def _names_in_state(optimizer: Optimizer) -> list[Key]:
    """For each of them the number of its parameter, as in the optimizer's state_dict, and its name."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    number = {parameter: n for n, parameter in enumerate(parameters)}
    return [
        ("optimizer", number[parameter], name)
        for parameter, state in optimizer.state.items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    ]


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of PyTorch's generators, those of the CPU and of a CUDA device."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def write_step(step: Step, path: Path, trainer: pl.Trainer, facts: Mapping[str, Any]) -> None:
    """Write a step as plain data, and its images and labels as a picture beside it.

    All ranks call it together. Their batches are joined to those of one device, which computes the same step.

    Raises CannotWriteError.

    Args:
        facts: more entries for the file.
    """
    mine = [_on_cpu(batch) for batch in step.batches]
    of_ranks: list[Any] = [mine]
    if trainer.world_size > 1:
        of_ranks = [None] * trainer.world_size
        dist.all_gather_object(of_ranks, mine)
    if not trainer.is_global_zero:
        return
    batches = [_joined(parts) for parts in zip(*of_ranks, strict=True)]
    values = {key: tensor.cpu() for key, tensor in (step.buffers.of | step.others.of).items()}
    numbers = [len(group["params"]) for group in trainer.optimizers[0].param_groups]
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for (kind, *where), tensor in values.items():
        if kind == "optimizer":
            state[where[0]][where[1]] = tensor
    content = {
        "step": step.number,
        "epoch": step.epoch,
        "batches": batches,
        "random": step.random,
        "state_dict": {where[0]: tensor for (kind, *where), tensor in values.items() if kind == "weights"},
        "optimizer": {
            "state": dict(state),
            "param_groups": [
                settings | {"params": list(range(sum(numbers[:i]), sum(numbers[: i + 1])))}
                for i, settings in enumerate(step.settings)
            ],
        },
        "loss_scale": {kind: values[kind,].item() for kind in ("scale", "growth") if (kind,) in values},
        **facts,
    }
    path.parent.mkdir(exist_ok=True)  # no parents: a removed run directory is not made again
    data = io.BytesIO()
    torch.save(content, data)
    write_bytes(path, data.getbuffer())
    _write_picture(batches, path.with_suffix(".jpg"), trainer.datamodule.table)  # type: ignore[attr-defined]


def _on_cpu(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.cpu() if isinstance(value, Tensor) else value for key, value in batch.items()}


def _joined(parts: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    return {
        key: torch.cat([part[key] for part in parts])
        if isinstance(value, Tensor)
        else [entry for part in parts for entry in part[key]]
        for key, value in parts[0].items()
    }


def _write_picture(batches: list[dict[str, Any]], path: Path, table: LabelTable) -> None:
    samples = [
        (name, (image.permute(1, 2, 0).numpy(), target.numpy()), ())
        for batch in batches
        for name, image, target in zip(batch["name"], batch["image"], batch["target"], strict=True)
    ]
    write_image(path, samples_panel(samples[:_MOST_PICTURES], table, max_width=_WIDTH))
