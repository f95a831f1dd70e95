"""Axes: round numbers, and the position of a value in a drawing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    low: float
    high: float
    start: float  # position of `low` in the drawing
    end: float  # position of `high`

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that cover [low, high]."""
    if not high > low:
        low, high = (low - 0.5, low + 0.5) if low else (0.0, 1.0)
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def label(value: float) -> str:
    """The text at a tick."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value / 1000:.4g}k"
    return f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.1e}".replace("e-0", "e-").replace(".0e", "e")


def thinned(points: Sequence[tuple], most: int) -> list[tuple]:
    """Evenly spaced points, `most` + 1 at most; the last point is always among them."""
    step = max(1, math.ceil(len(points) / most))
    return [*points[:-1][::step], *points[-1:]]
