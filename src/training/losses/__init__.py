"""The losses of conf/loss, and how a training step applies them."""

from src.training.losses.cross_entropy import OhemCrossEntropy, WeightedCrossEntropy
from src.training.losses.regions import Dice, LovaszSoftmax
from src.training.losses.weighted_sum import WeightedSum

__all__ = ["Dice", "LovaszSoftmax", "OhemCrossEntropy", "WeightedCrossEntropy", "WeightedSum"]
