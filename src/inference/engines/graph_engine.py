"""Engines whose runtime executes a graph: made from a network when they are made, or read from a file."""

from abc import ABC, abstractmethod

from torch import Tensor

from src.errors import UserError
from src.network.upsample import best_class, class_map, upsample


class GraphEngine(ABC):
    """See `Engine`.

    Args:
        output: of the graph: "class_map", "logits", or "coarse_logits" before upsampling, from which the
            engine computes the rest.
        precision: of the arithmetic.
    """

    name: str
    device = "cpu"
    min_size = 1  # that of its network, where it is known

    def __init__(self, output: str, precision: str):
        self.precision = precision
        self._output = output

    @abstractmethod
    def _run(self, image: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) -> the graph's output."""

    def __call__(self, image: Tensor) -> Tensor:
        result = self._run(image)
        return upsample(result, image.shape[-2:]) if self._output == "coarse_logits" else result

    def class_map(self, image: Tensor) -> Tensor:
        result = self._run(image)
        if self._output == "coarse_logits":
            return class_map(result, image.shape[-2:], exact=False)
        return best_class(result) if self._output == "logits" else result


def needs(package: str, what: str) -> UserError:
    several = " and " in package
    return UserError(
        f"{what} needs the package{'s' * several} {package}, "
        f"{'which are not all' if several else 'which is not'} installed: pip install -e '.[deploy]' "
        f"installs all that exporting and other engines need."
    )
