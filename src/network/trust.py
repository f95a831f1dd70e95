"""Network classes from outside src.network that may be imported, because the user has named them.

A config is the user's own: its `model._target_` is trusted. A checkpoint may come from anybody, and importing
a class runs code: it may only name classes of src.network, and those that the user trusts (`trust=`).
"""

from collections.abc import Iterable

_trusted: set[str] = set()


def trust(targets: Iterable[str]) -> None:
    """Let `_target_`s of networks name these classes, in this process."""
    _trusted.update(targets)


def is_trusted(target: str) -> bool:
    return target in _trusted


def forget() -> None:
    """Trust nobody again: each command begins with that."""
    _trusted.clear()
