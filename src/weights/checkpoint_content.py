"""Checks what a checkpoint of ours holds, from the notes of safe_pickle.py, before torch loads it."""

import math
from typing import Any

from src.weights.safe_pickle import MOST_ENTRIES, Pickled, is_mapping, mapping
from src.weights.unpickler import Asked, Storage, path_of, shown

_DEEPEST = 32
_MOST_LETTERS = 10**7  # of all texts together; a shared text counts at every place where it is used
_MOST_SHARED = 8
"""How many times larger than their memory all tensors together may be: layers may share their weights."""
_PLAIN = (str, int, float, bool, type(None))
_TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_WRAPPERS = ("torch._utils._rebuild_parameter", "collections.Counter")  # MultiStepLR has a Counter
_HARMLESS = ("torch.Size", "torch.device", "torch.serialization._get_layout", "_codecs.encode")

Place = tuple[Any, ...]  # (place of the container, key), () for the root


def check_content(pickled: Pickled) -> None:
    """Raises ValueError for anything but tensors and plain values, for more entries or text than any training
    records, and for tensors that claim more numbers than the file has. What passes is about as large as its
    file.
    """
    waiting: list[tuple[Any, Place, int]] = [(pickled.root, (), 0)]
    entries, letters, claimed = 0, 0, 0
    memories: dict[str, int] = {}
    while waiting:
        node, place, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"{_name(place)}: nested more than {_DEEPEST} containers deep")
        if isinstance(node, _PLAIN):
            letters += _size(node, place)
        elif is_mapping(node) or isinstance(node, list | tuple | set):
            inside = mapping(node).items() if is_mapping(node) else enumerate(node)
            entries += len(inside) if is_mapping(node) else len(node)  # type: ignore[arg-type]
            if entries > MOST_ENTRIES:
                raise ValueError(
                    f"{_name(place)}: more than {MOST_ENTRIES:,} entries, shared ones counted twice"
                )
            for key, value in inside:
                if not isinstance(key, str | int):
                    raise ValueError(f"{_name(place)}: a {type(key).__name__} as a key")
                letters += _size(key, place)
                waiting.append((value, (place, key), depth + 1))
            if isinstance(node, Asked) and node.state is not None:
                waiting.append((node.state, place, depth + 1))
            if letters > _MOST_LETTERS:
                raise ValueError(f"{_name(place)}: texts of more than {_MOST_LETTERS:,} letters")
        elif isinstance(node, Asked) and node.path in _WRAPPERS and node.args:
            waiting.append((node.args[0], place, depth + 1))
        elif isinstance(node, Asked) and node.path in _TENSORS:
            storage, numbers = _tensor(node, place)
            claimed += numbers * storage.dtype.itemsize
            memories[storage.key] = storage.elements * storage.dtype.itemsize
            if claimed > _MOST_SHARED * sum(memories.values()) + 10**6:
                raise ValueError(f"{_name(place)}: tensors of more numbers than the file has")
        elif path_of(node).startswith("torch.") or (isinstance(node, Asked) and node.path in _HARMLESS):
            continue  # a dtype, a shape, ...
        else:
            what = shown(node.path) if isinstance(node, Asked) else f"a {type(node).__name__}"
            raise ValueError(f"{_name(place)}: {what}, neither an ordinary tensor nor a plain value")


def _tensor(node: Asked, place: Place) -> tuple[Storage, int]:
    """A tensor's memory and its size. With overlapping numbers, one byte could be a tensor of any size."""
    storage, _, size = (*node.args, None, None, None)[:3]
    shape = size.args[0] if isinstance(size, Asked) and size.args else size
    if not isinstance(storage, Storage) or not isinstance(shape, tuple | list):
        raise ValueError(f"{_name(place)}: a tensor without memory or shape")
    if not all(type(length) is int and 0 <= length < 2**63 for length in shape):
        raise ValueError(f"{_name(place)}: a tensor with an invalid shape")
    numbers = math.prod(shape)
    if numbers > storage.elements:
        raise ValueError(f"{_name(place)}: a tensor of more numbers than its memory has, {storage.elements}")
    return storage, numbers


def _size(value: Any, place: Place) -> int:
    """The number of letters of a text, else 0."""
    if isinstance(value, int) and value.bit_length() > 64:
        raise ValueError(f"{_name(place)}: a number of {value.bit_length():,} bits")
    return len(value) if isinstance(value, str) else 0


def _name(place: Place) -> str:
    keys: list[str] = []
    while place:
        place, key = place
        keys.append(str(key) if isinstance(key, int) else shown(key))
    return ".".join(reversed(keys)) or "its content"
