"""An unpickler that executes nothing: what a file names is neither looked up nor called, but noted."""

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import torch

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Asked:
    """A note of an object that a pickle asks for: a call of `path`, and what would be put into its result."""

    __slots__ = ("args", "items", "state")
    path: ClassVar[str] = ""
    args: tuple[Any, ...]
    items: dict[Any, Any]
    state: Any

    def __new__(cls, *args: Any, **_: Any) -> "Asked":
        note = object.__new__(cls)
        note.args, note.items, note.state = args, {}, None
        return note

    def __call__(self, *_: Any) -> "Asked":
        return Asked()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...

    def add(self, _: Any) -> None: ...


class Storage:
    """A tensor's memory, by its name in the file."""

    def __init__(self, dtype: torch.dtype, key: str, elements: int, begin: int):
        self.dtype, self.key, self.elements, self.begin = dtype, key, elements, begin


class Reader(pickle._Unpickler):
    """Python's own unpickler, in its Python version: the C version allocates memory for any index in a file.

    Nested tuples are refused as keys: to hash 40 of them, each of which has the next one twice, takes years.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="latin1")  # pickles of Python 2 have arrays as texts
        self.storages: dict[str, Storage] = {}
        self._classes: dict[str, type[Asked]] = {}

    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if path not in self._classes:
            self._classes[path] = type("Asked", (Asked,), {"__slots__": (), "path": path})
        return self._classes[path]

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage_class, key, _, elements, *view = pid
        dtype = _DTYPES.get(path_of(storage_class).rpartition(".")[2])
        if kind != "storage" or dtype is None:
            raise ValueError(f"a tensor of an unknown kind, {shown(path_of(storage_class) or kind)}")
        if type(elements) is not int or not 0 <= elements < 2**63:
            raise ValueError(f"the memory {shown(key)} has no size")
        whole = self.storages.setdefault(str(key), Storage(dtype, str(key), elements, 0))
        if (whole.dtype, whole.elements) != (dtype, elements):
            raise ValueError(f"two descriptions of the memory {shown(key)}")
        if not (view and view[0]):
            return whole
        _, begin, elements = view[0]
        return Storage(dtype, str(key), elements, begin)


def _with_plain_keys(operation: str, first: int, step: int) -> None:
    """Make `operation` check its keys, every `step`-th of the values that it takes from the stack."""
    code = getattr(pickle, operation)[0]
    inherited = pickle._Unpickler.dispatch[code]

    def checked(reader: Any) -> None:
        for key in reader.stack[first::step]:
            if isinstance(key, tuple) and any(isinstance(entry, tuple) for entry in key):
                raise ValueError("nested tuples as keys")
        inherited(reader)

    Reader.dispatch[code] = checked


# All values since the last mark are key, value, key, value, ...; or entries of a set.
for _operation, _first, _step in (
    ("SETITEM", -2, 2), ("SETITEMS", 0, 2), ("DICT", 0, 2), ("ADDITEMS", 0, 1), ("FROZENSET", 0, 1),
):  # fmt: skip
    _with_plain_keys(_operation, _first, _step)


def path_of(asked: Any) -> str:
    """The dotted name that a class stands for; empty for anything else."""
    return asked.path if isinstance(asked, type) and issubclass(asked, Asked) else ""


def shown(name: Any) -> str:
    """A name from a file, without control characters."""
    text = (
        str(name) if isinstance(name, str | Exception) or type(name) is bool else f"a {type(name).__name__}"
    )
    return "".join(letter if letter.isprintable() else "?" for letter in text[:100])
