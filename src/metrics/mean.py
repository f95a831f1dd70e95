"""The mean of an epoch's losses."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class WeightedMean(Metric):
    """sum(value * weight) / sum(weight), summed over ranks. A NaN stays: torchmetrics' MeanMetric leaves NaN
    out, so that the mean of a validation that has overflowed would look like any other."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    sums: Tensor

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.add_state("sums", torch.zeros(2), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: Tensor) -> None:
        """Two scalars."""
        self.sums += torch.stack([value * weight, weight])

    def compute(self) -> Tensor:
        """A scalar; NaN without any weight."""
        return self.sums[0] / self.sums[1]
