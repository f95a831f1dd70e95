"""Median and quartiles of repeated measurements: a noisy machine affects them least."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np


class Spread(TypedDict):
    median: float
    q1: float
    q3: float


def spread(values: Sequence[float]) -> Spread:
    q1, median, q3 = (float(q) for q in np.percentile(values, (25, 50, 75)))
    return {"median": median, "q1": q1, "q3": q3}
