"""The mean of an epoch's losses."""

import math

import torch

from src.metrics.mean import WeightedMean


def mean(*pairs):
    metric = WeightedMean()
    for value, weight in pairs:
        metric.update(torch.tensor(value), torch.tensor(weight))
    return metric.compute().item()


def test_by_hand():
    assert mean((1.0, 1.0), (4.0, 2.0)) == 3.0


def test_a_validation_that_overflowed_says_so():
    assert math.isnan(mean((1.0, 1.0), (math.nan, 1.0)))
