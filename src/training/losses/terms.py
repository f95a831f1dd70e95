"""What a loss consists of: terms that are sums with a weight each, so that devices can add them up."""

from dataclasses import dataclass, replace

from torch import Tensor, nn


@dataclass(frozen=True)
class Term:
    """factor * total / weight, where total and weight are added up over all devices before the division."""

    total: Tensor
    weight: Tensor
    factor: float = 1.0
    name: str = ""

    @property
    def value(self) -> Tensor:
        """Its part in this device's loss; 0 without weight, which is without labelled pixels."""
        return self.factor * ratio(self.total, self.weight)

    def scaled(self, factor: float) -> "Term":
        return replace(self, factor=self.factor * factor)

    def named(self, prefix: str) -> "Term":
        return replace(self, name="_".join(filter(None, (prefix, self.name))))


def ratio(total: Tensor, weight: Tensor) -> Tensor:
    """total / weight; 0 where the weight is 0."""
    return (total / weight.where(weight > 0, 1)).where(weight > 0, 0)


def terms_of(loss: nn.Module, logits: Tensor, target: Tensor) -> list[Term]:
    """The terms of a loss, whatever it returns: its own terms, two sums, or a mean.

    A mean counts as many times as the batch has images: over several devices it becomes the mean of means.

    Args:
        logits: float32 (B, C, H, W).
        target: uint8 (B, H, W).
    """
    own_terms = getattr(loss, "terms", None)
    if callable(own_terms):
        return own_terms(logits, target)
    result = loss(logits, target)
    if isinstance(result, tuple):
        total, weight = result
        return [Term(total, weight if isinstance(weight, Tensor) else total.new_full((), float(weight)))]
    if not isinstance(result, Tensor) or result.ndim:
        kind = (
            f"a tensor {tuple(result.shape)}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
        )
        raise TypeError(f"{type(loss).__name__} returns {kind}: expected a mean, or a sum and its weight")
    images = result.new_full((), float(len(target)))
    return [Term(result * images, images)]
