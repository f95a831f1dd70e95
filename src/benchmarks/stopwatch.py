"""Where the time goes: seconds per named part, without the parts within it; and medians of repetitions."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypedDict

import numpy as np

OTHER = "other"


class Spread(TypedDict):
    median: float
    q1: float
    q3: float


class Stopwatch:
    """Adds up the seconds of named parts.

    A part that begins within another one interrupts it, and what belongs to no part is OTHER: the parts add
    up to the whole exactly. One thread; a part costs about a microsecond.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around the whole: only within it does time count."""
        self._enter(OTHER)
        try:
            yield
        finally:
            self._leave()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts to `part` while the watch runs."""

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if not self._open:
                return function(*args, **kwargs)
            self._enter(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._leave()

        return wrapper

    def take(self) -> dict[str, float]:
        """The seconds since the last call."""
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken

    def _enter(self, part: str) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._open.append(part)
        self._since = now

    def _leave(self) -> None:
        now = time.perf_counter()
        self.seconds[self._open.pop()] += now - self._since
        self._since = now


@contextmanager
def replaced(owner: Any, name: str, wrapper: Callable[[Callable[..., Any]], Any]) -> Iterator[None]:
    """`owner.name` is wrapper(owner.name) for a while: how the product's own functions are timed."""
    own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, wrapper(before))
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:  # it is the class's
            delattr(owner, name)


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles: what a noisy machine disturbs least."""
    q1, median, q3 = (float(q) for q in np.percentile(values, (25, 50, 75)))
    return {"median": median, "q1": q1, "q3": q3}
