"""Checks of constructor arguments that come from config files.

Each returns the value in the type the network wants, or raises a ValueError that names the argument, the
value and what is allowed. A bool is never taken for a number.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from src.errors import brief

LARGEST = 4096
"""Limit of channels, dilations, ...: no config from elsewhere may keep a machine busy for hours."""

MOST_BLOCKS = 128
"""Limit of blocks in a stage: making one takes about 8 ms, even without memory. CGNet has at most 21."""


def refuse(argument: str, value: Any, allowed: str) -> ValueError:
    return ValueError(f"{argument}={brief(value)} is not allowed: expected {allowed}")


def integer(argument: str, value: Any, lowest: int, highest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise refuse(argument, value, f"an integer from {lowest} to {highest}")
    return value


def number(argument: str, value: Any, allowed: str, lowest: float, below: float = float("inf")) -> float:
    """A number in [lowest, below), which `allowed` says in words."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not lowest <= value < below:
        raise refuse(argument, value, allowed)
    return float(value)


def positive_integers(
    argument: str, value: Any, length: int | None = None, highest: int = LARGEST
) -> tuple[int, ...]:
    """`length` integers, or with None one or more, from any sequence that a config may hold."""
    items = tuple(value) if isinstance(value, Iterable) else ()
    fits = len(items) == length if length is not None else len(items) > 0
    if not fits or not all(
        isinstance(e, int) and not isinstance(e, bool) and 0 < e <= highest for e in items
    ):
        raise refuse(argument, value, f"a list of {length or 'one or more'} integers from 1 to {highest}")
    return items


def one_of(argument: str, value: Any, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise refuse(argument, value, " or ".join(f'"{e}"' for e in allowed))
    return value


def switch(argument: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise refuse(argument, value, "True or False")
    return value
