"""A weighted sum of several losses, each of which is logged on its own."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from src.training.losses.terms import Term, terms_of


class WeightedSum(nn.Module):
    """sum(weight * loss) over the parts.

    Args:
        parts: {name: {"weight": a number, "loss": a loss}}; the name is that of the part in the metrics.
    """

    def __init__(self, parts: Mapping[str, Mapping[str, Any]]):
        super().__init__()
        self.losses = nn.ModuleDict({name: part["loss"] for name, part in parts.items()})
        self.weights = {name: float(part["weight"]) for name, part in parts.items()}

    def terms(self, logits: Tensor, target: Tensor) -> list[Term]:
        return [
            term.scaled(self.weights[name]).named(name)
            for name, loss in self.losses.items()
            for term in terms_of(loss, logits, target)
        ]

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean, a scalar.

        Args:
            logits: float32 (B, C, H, W).
            target: uint8 (B, H, W), IGNORE = not counted.
        """
        return sum((term.value for term in self.terms(logits, target)), logits.new_zeros(()))
