"""What a value of conf/ may be: its type and its range, as data, so that checks, help and messages agree."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unicodedata import category


class Kind(ABC):
    """A set of allowed values. `a | b` allows the values of both."""

    @property
    @abstractmethod
    def expected(self) -> str:
        """What is allowed, as the text after "expected" in a message."""

    @abstractmethod
    def allows(self, value: Any) -> bool: ...

    def __or__(self, other: "Kind") -> "AnyOf":
        return AnyOf((self, other))


@dataclass(frozen=True)
class AnyOf(Kind):
    kinds: tuple[Kind, ...]

    @property
    def expected(self) -> str:
        lists_last = sorted(self.kinds, key=lambda kind: isinstance(kind, ListOf))
        parts = [kind.values if isinstance(kind, Choice) else (kind.expected,) for kind in lists_last]
        *most, last = [text for part in parts for text in part]
        return f"{', '.join(most)} or {last}"

    def allows(self, value: Any) -> bool:
        return any(kind.allows(value) for kind in self.kinds)

    def __or__(self, other: Kind) -> "AnyOf":
        return AnyOf((*self.kinds, other))


@dataclass(frozen=True)
class Null(Kind):
    expected = "null"

    def allows(self, value: Any) -> bool:
        return value is None


@dataclass(frozen=True)
class Switch(Kind):
    only: bool | None = None  # the only value that is allowed

    @property
    def expected(self) -> str:
        return "true or false" if self.only is None else shown(self.only)

    def allows(self, value: Any) -> bool:
        return isinstance(value, bool) and self.only in (None, value)


@dataclass(frozen=True)
class Integer(Kind):
    """A whole number from `low` to `high`; neither true nor 2.0 is one."""

    low: int
    high: int

    @property
    def expected(self) -> str:
        if self.low == self.high:
            return str(self.low)
        zeros = len(str(self.high)) - 1
        high = f"1e{zeros}" if zeros > 4 and self.high == 10**zeros else str(self.high)
        return f"a whole number from {self.low} to {high}"

    def allows(self, value: Any) -> bool:
        return type(value) is int and self.low <= value <= self.high


@dataclass(frozen=True)
class Number(Kind):
    """A finite number from `low` to `high`; `above` excludes `low`, `below` excludes `high`."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    @property
    def expected(self) -> str:
        start = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        return f"a number {start} to {'below ' if self.below else ''}{self.high:g}"

    def allows(self, value: Any) -> bool:
        if type(value) not in (int, float) or not math.isfinite(value):
            return False
        more = value > self.low if self.above else value >= self.low
        return more and (value < self.high if self.below else value <= self.high)


@dataclass(frozen=True)
class Choice(Kind):
    values: tuple[str, ...]

    @property
    def expected(self) -> str:
        *most, last = self.values
        return f"{', '.join(most)} or {last}" if most else last

    def allows(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.values


@dataclass(frozen=True)
class Text(Kind):
    """A text that a file and a terminal can hold; `pattern` is a regular expression for the whole of it."""

    what: str = "a text"
    pattern: str = r"(?s).+"

    @property
    def expected(self) -> str:
        return self.what

    def allows(self, value: Any) -> bool:
        return isinstance(value, str) and is_sound(value) and re.fullmatch(self.pattern, value) is not None


@dataclass(frozen=True)
class Path(Kind):
    """A path of a file or folder, which need not be there."""

    what: str = "a path"
    empty: bool = False  # allowed for an environment variable; the code that uses the path explains it

    @property
    def expected(self) -> str:
        return self.what

    def allows(self, value: Any) -> bool:
        if not isinstance(value, str) or not is_sound(value) or len(value.encode()) > LONGEST_PATH:
            return False
        fits = all(len(part.encode()) <= LONGEST_NAME for part in value.split("/"))
        return fits and (bool(value) or self.empty)


LONGEST_NAME, LONGEST_PATH = 255, 3000
"""Bytes: Linux allows 255 for a name and 4096 for a path; a run adds folders and files to these paths."""


@dataclass(frozen=True)
class ListOf(Kind):
    """A list of `length` items, or of one or more."""

    item: Kind
    length: int | None = None
    ascending: bool = False
    some_positive: bool = False  # not all of them 0
    may_be_empty: bool = False

    @property
    def expected(self) -> str:
        count = str(self.length or ("any number of" if self.may_be_empty else "one or more"))
        order = ", in ascending order" if self.ascending else ""
        positive = ", not all 0" if self.some_positive else ""
        return f"a list of {count} values, each {self.item.expected}{order}{positive}"

    def allows(self, value: Any) -> bool:
        if not isinstance(value, list) or not all(map(self.item.allows, value)):
            return False
        right = len(value) == self.length if self.length else bool(value) or self.may_be_empty
        return (
            right
            and not (self.ascending and value != sorted(value))
            and not (self.some_positive and not any(value))
        )


@dataclass(frozen=True)
class Table(Kind):
    """Rows under names that the user chooses, each with at least one of these columns."""

    columns: Mapping[str, Kind]

    @property
    def expected(self) -> str:
        row = ", ".join(f"{name}: {kind.expected}" for name, kind in self.columns.items())
        return f"a table {{name: {{{row}}}, ...}}"

    def allows(self, value: Any) -> bool:
        return isinstance(value, Mapping) and all(
            isinstance(name, str)
            and isinstance(row, Mapping)
            and bool(row)
            and all(column in self.columns and self.columns[column].allows(v) for column, v in row.items())
            for name, row in value.items()
        )


@dataclass(frozen=True)
class Group(Kind):
    """Keys with values of their own."""

    expected = "keys with values"

    def allows(self, value: Any) -> bool:
        return isinstance(value, Mapping)


def is_sound(text: str) -> bool:
    """Whether it has no byte that is not UTF-8, and no control character but tabs and line ends. Checkpoints
    are held to the same: one that a run can write can be read."""
    return not any(category(letter) in ("Cc", "Cs") and letter not in "\t\n" for letter in text)


def shown(value: Any, longest: int = 80) -> str:
    """A value as one would type it in a config, on one line and without control characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        text = f"[{', '.join(shown(item, 20) for item in value[:longest])}]"
    elif isinstance(value, Mapping):
        text = f"{{{', '.join(f'{shown(k, 20)}: {shown(v, 20)}' for k, v in list(value.items())[:longest])}}}"
    elif isinstance(value, int):
        text = str(value) if value.bit_length() < 1000 else f"a number of {value.bit_length()} bits"
    else:
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
    return text if len(text) <= longest else f"{text[:longest]}..."
