"""Reads a pickle without executing it. Weights are published as pickles, and those can run code.

Nothing that a file names is looked up or called. While it is read, each request is noted (`Asked`), and then
the few kinds that weights consist of are made here: dicts, tensors and arrays of numbers. Whatever else a
file asks for, such as a training's log objects, stays a note.

Formats: PyTorch's archive (since 1.6), PyTorch's sequence of pickles before that, and a single pickle with
numpy arrays, such as PaddlePaddle's .pdparams. They are defined in torch/serialization.py, torch/_utils.py,
`numpy.ndarray.__reduce__`, and `reduce_varbase` in paddle/framework/io.py.
"""

import io
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.weights.unpickler import Asked, Reader, Storage, path_of, shown

MOST_ENTRIES = 10**6
"""Values in a file; a shared value counts at every place: 40 lists, each of which holds the next one twice,
are a few hundred bytes and 10**12 entries."""
_MOST_READ = 2**32
"""Bytes that are read to make tensors; each tensor reads the whole memory that it lies in."""
_MAGIC = 0x1950A86A20F9469CFC6C  # of PyTorch's sequence of pickles
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")  # numpy 1, numpy 2
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")


class Pickled:
    """The content of a file; see `read_pickle`. Its methods raise ValueError for invalid content."""

    def __init__(self, root: Any, memory: Callable[[Storage], bytes]):
        self.root = root
        self._memory = memory
        self._read = 0

    def mappings(self, depth: int = 3) -> Iterator[tuple[str, dict[Any, Any]]]:
        """(keys that lead to it, dict) for each dict and OrderedDict in the file, once, outer ones first."""
        level: list[tuple[str, Any]] = [("", self.root)]
        seen: set[int] = set()
        entries = 0
        for _ in range(depth):
            inner: list[tuple[str, Any]] = []
            for where, node in level:
                if not is_mapping(node) or id(node) in seen:
                    continue
                seen.add(id(node))
                found = mapping(node)
                entries += len(found)
                if entries > MOST_ENTRIES:
                    raise ValueError(f"more than {MOST_ENTRIES:,} entries")
                yield where, found
                inner += [
                    (f"{where}.{shown(key)}" if where else shown(key), value)
                    for key, value in found.items()
                    if isinstance(key, str) and is_mapping(value)
                ]
            level = inner

    def tensor(self, node: Any) -> Tensor | None:
        """A copy, on the CPU; None for anything but a tensor or an array of numbers."""
        if isinstance(node, tuple) and len(node) == 2 and isinstance(node[0], str):
            return self.tensor(node[1])  # PaddlePaddle's (name, array)
        if not isinstance(node, Asked):
            return None
        module, _, name = node.path.rpartition(".")
        if node.path in ("builtins.tuple", "__builtin__.tuple"):
            return self.tensor(node.args[0]) if node.args else None
        if node.path == "torch._utils._rebuild_parameter":
            return self.tensor(node.args[0])
        if node.path in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            return self._tensor(*node.args[:4])
        if module in _MULTIARRAY and name == "_reconstruct":
            shape, dtype, by_columns, raw = node.state[-4:]
            return _array(raw, dtype, shape, "F" if by_columns else "C")
        if module in _NUMERIC and name == "_frombuffer":
            return _array(*node.args)
        return None

    def _tensor(self, storage: Storage, offset: int, size: Any, stride: Any) -> Tensor:
        shape, steps = _integers(size), _integers(stride)
        if math.prod(shape) == 0:
            return torch.empty(shape, dtype=storage.dtype)
        if math.prod(shape) > storage.elements:  # with strides of 0 a byte could have any size
            raise ValueError(f"a tensor of shape {shape} in a memory of {storage.elements} numbers")
        memory = self._memory(storage)
        self._read += len(memory)
        if self._read > _MOST_READ:
            raise ValueError("too many tensors share one memory")
        flat = torch.frombuffer(bytearray(memory), dtype=storage.dtype)
        return torch.as_strided(flat[storage.begin :], shape, steps, offset).clone()


def is_mapping(node: Any) -> bool:
    return isinstance(node, dict) or path_of(type(node)) == "collections.OrderedDict"


def mapping(node: Any) -> dict[Any, Any]:
    """Empty for anything but a dict or OrderedDict."""
    if not is_mapping(node):
        return {}
    if isinstance(node, dict):
        return node
    pairs = node.args[0] if node.args else []  # in pickles of Python 2
    known = isinstance(pairs, list) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    )
    return {key: value for key, value in pairs if isinstance(key, str)} | node.items if known else node.items


def read_pickle(content: bytes) -> Pickled:
    """Raises an exception of any type if the content has none of the formats, or is cut off."""
    if content[:4] == b"PK\x03\x04":
        return _archive(zipfile.ZipFile(io.BytesIO(content)))
    file = io.BytesIO(content)
    root = Reader(file).load()
    if isinstance(root, int) and root == _MAGIC:
        return _sequence(file)
    return Pickled(root, lambda storage: b"")


def _archive(archive: zipfile.ZipFile) -> Pickled:
    names = [name for name in archive.namelist() if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if len(names) != 1:
        raise ValueError("an archive, but not PyTorch's")
    folder = names[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("numbers with their highest byte first")

    def memory(storage: Storage) -> bytes:
        return archive.read(f"{folder}data/{storage.key}")

    reader = Reader(io.BytesIO(archive.read(names[0])))
    root = reader.load()
    for key, storage in reader.storages.items():
        there = archive.getinfo(f"{folder}data/{key}").file_size
        claimed = storage.elements * storage.dtype.itemsize
        if there != claimed:  # torch would read whatever lies behind it
            raise ValueError(f"a memory of {there} bytes that claims to have {claimed}")
    return Pickled(root, memory)


def _sequence(file: io.BytesIO) -> Pickled:
    """After the magic number: version, machine, content, names of memories; then length and bytes of each."""
    Reader(file).load()
    machine = Reader(file).load()
    if isinstance(machine, dict) and not machine.get("little_endian", True):
        raise ValueError("numbers with their highest byte first")
    reader = Reader(file)
    root = reader.load()
    memories: dict[str, bytes] = {}
    for key in Reader(file).load():
        elements = int.from_bytes(file.read(8), "little")
        size = elements * torch.empty(0, dtype=reader.storages[str(key)].dtype).element_size()
        memories[str(key)] = file.read(size)
        if len(memories[str(key)]) != size:
            raise ValueError("the file ends within the weights")
    return Pickled(root, lambda storage: memories[storage.key])


def _array(raw: Any, dtype: Any, shape: Any, order: str) -> Tensor:
    code = _text(dtype.args[0])
    if not re.fullmatch(r"[<>=|]?[fiub]\d\d?", code):
        raise ValueError(f"an array of {code}, not of numbers")
    highest_first = code[0] == ">" or bool(dtype.state and _text(dtype.state[1]) == ">")
    numbers = np.frombuffer(_bytes(raw), np.dtype(code).newbyteorder(">" if highest_first else "<"))
    array = numbers.reshape(_integers(shape), order="F" if order == "F" else "C")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _bytes(raw: Any) -> bytes:
    if isinstance(raw, Asked) and raw.path == "_codecs.encode":  # how Python 3 writes bytes for Python 2
        return _bytes(raw.args[0])
    return raw.encode("latin1") if isinstance(raw, str) else bytes(memoryview(raw))


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _integers(value: Any) -> tuple[int, ...]:
    numbers = value.args[0] if isinstance(value, Asked) and value.path == "torch.Size" else value
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("an invalid shape")
    return tuple(numbers)


def described(node: Any) -> str:
    """A few words for an error message."""
    return shown(node.path) if isinstance(node, Asked) else f"a {type(node).__name__}"
