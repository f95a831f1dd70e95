"""Finds the first operation whose result is NaN or infinite, though all that it was given is finite."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_FRAME = re.compile(r'File "(?P<file>.+?)", line (?P<line>\d+), in \w+\n\s+(?P<code>.+)')
_NOT_ITS_PLACE = re.compile(r"[/\\](torch|pytorch_lightning|lightning_fabric)[/\\]|first_not_finite\.py$|^<")


@dataclass
class Found:
    operation: str  # aten::log, LogBackward0 (aten::div)
    phase: str  # forward, backward, update of the weights
    module: str  # its name and class; empty if it is in none
    place: str  # file, line and code
    inputs: list[str]
    output: str


class FirstNotFinite(TorchDispatchMode):
    """Watches each operation of PyTorch, forward, backward and in the optimizer, while `watching` is true.

    PyTorch's anomaly detection alone (`torch.autograd.set_detect_anomaly`) misses infinities, and of a loss
    that is NaN it names the last operation instead of the first. It has to be switched on, since it knows
    where in the forward pass an operation of the backward pass comes from.

    A network that makes infinities on purpose, such as log(0) in a mask, would be found there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watching = False
        self.updating = False
        self.found: Found | None = None
        self._forward: list[str] = []  # the modules that are being called, from outside to inside
        self._backward = ""  # the module whose output's gradient was computed last

    @contextmanager
    def names_of(self, module: nn.Module) -> Iterator[None]:
        """Knows the modules in it by their names within this context."""
        hooks: list[Any] = []
        for name, part in module.named_modules():
            title = f"{name or 'the whole'} ({type(part).__name__})"
            hooks.append(part.register_forward_pre_hook(partial(self._enter, title)))
            hooks.append(part.register_forward_hook(partial(self._leave, title), always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, title: str, *_: Any) -> None:
        self._forward.append(title)

    def _leave(self, title: str, module: nn.Module, inputs: Any, output: Any) -> None:
        self._forward.pop()
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(partial(self._gradient_arrives, title))

    def _gradient_arrives(self, title: str, gradient: Tensor) -> None:
        self._backward = title

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.watching or self.found or "empty" in func.__name__:  # new memory has any value
            return func(*args, **kwargs)
        given = [args, {key: value for key, value in kwargs.items() if key != "out"}]
        inputs = [_Range(leaf) for leaf in tree_leaves(given) if _is_float(leaf)]  # it may overwrite them
        result = func(*args, **kwargs)
        if all(one.is_finite for one in inputs):
            for tensor in tree_leaves([result, args]):
                if _is_float(tensor) and not _Range(tensor).is_finite:
                    self.found = self._describe(func, inputs, tensor)
                    break
        return result

    def _describe(self, func: Any, inputs: list["_Range"], output: Any) -> Found:
        node: Any = torch._C._current_autograd_node()  # of the backward pass
        if node is None:
            name, lines = func._schema.name, traceback.format_stack()
            phase, module = "forward", self._forward[-1] if self._forward else ""
        else:
            name, lines = f"{node.name()} ({func._schema.name})", node.metadata.get("traceback_") or []
            phase, module = "backward", self._backward
        if self.updating:
            phase, module = "update of the weights", ""
        return Found(
            operation=name,
            phase=phase,
            module=module,
            place=_place(lines),
            inputs=[one.text for one in inputs if one.text],
            output=_what_is_wrong(output),
        )


def _is_float(leaf: Any) -> bool:
    if isinstance(leaf, Tensor):
        return leaf.is_floating_point() and leaf.numel() > 0
    return isinstance(leaf, float)


class _Range:
    """Smallest and largest value of a tensor or number; NaN if one of its values is."""

    def __init__(self, leaf: Tensor | float):
        self.text = ""
        if not isinstance(leaf, Tensor):
            self.is_finite = abs(leaf) < float("inf")
            return
        low, high = (float(value) for value in leaf.detach().aminmax())
        self.is_finite = abs(low) < float("inf") and abs(high) < float("inf")
        self.text = f"{_shape(leaf)}, {low:.4g} to {high:.4g}"


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} ({', '.join(map(str, tensor.shape))})"


def _what_is_wrong(output: Any) -> str:
    nans, infinite = int(output.isnan().sum()), int(output.isinf().sum())
    return f"{_shape(output)}, {nans:,} NaN and {infinite:,} infinite of {output.numel():,} values"


def _place(lines: list[str]) -> str:
    """The last frame of a stack that is not PyTorch's or Lightning's."""
    for line in reversed(lines):
        frame = _FRAME.search(line)
        if frame and not _NOT_ITS_PLACE.search(frame["file"]):
            path = Path(frame["file"])
            shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            return f"{shown}, line {frame['line']}: {frame['code'].partition('  #')[0]}"
    return ""
