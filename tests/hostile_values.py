"""Values that no training records, and every place of a checkpoint to put them."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch


def shared(depth: int) -> list:
    """2**depth entries when it is walked, a few hundred bytes in a file."""
    node: list = []
    for _ in range(depth):
        node = [node, node]
    return node


def nested(depth: int) -> list:
    node: list = []
    for _ in range(depth):
        node = [node]
    return node


def cyclic() -> list:
    node: list = []
    node.append(node)
    return node


VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "-1": lambda: -1,
    "huge": lambda: 10**18,
    "5000 digits": lambda: 10**5000,
    "a switch": lambda: True,
    "a text": lambda: "x",
    "for the terminal": lambda: "\x1b]0;x\x07",
    "a long text": lambda: "x" * 20_000_000,
    "a list": lambda: [],
    "a dict": lambda: {},
    "other keys": lambda: {1: 2, "a": {}},
    "bytes": lambda: b"x",
    "shared lists": lambda: shared(40),
    "deep lists": lambda: nested(200),
    "a list in itself": cyclic,
    "a NaN tensor": lambda: torch.tensor([math.nan]),
    "a tensor": lambda: torch.zeros(3),
    "whole numbers": lambda: torch.zeros(2, dtype=torch.int8),
    "complex": lambda: torch.zeros(2, dtype=torch.complex64),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "meta": lambda: torch.empty(10**6, device="meta"),
    "one byte of any size": lambda: torch.zeros(1).expand(10**6, 10**6),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
}


def places(checkpoint: dict[str, Any], few: int = 2) -> list[tuple[Any, ...]]:
    """The keys that lead to each value, containers included; of state_dicts and long lists the first ones."""
    return list(_places(checkpoint, (), few))


def _places(node: Any, place: tuple[Any, ...], few: int) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    entries = list(
        node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    )
    named = isinstance(node, dict) and len(node) < 40
    for key, value in entries if named else entries[:few]:
        yield from _places(value, (*place, key), few)


def put(checkpoint: dict[str, Any], place: tuple[Any, ...], value: Any) -> None:
    node: Any = checkpoint
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
