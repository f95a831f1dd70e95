"""The graphs that a runtime executes: made from a network when they are first needed, or read from a file."""

from collections.abc import Callable
from typing import Generic, TypeVar

from src.errors import UserError

Model = TypeVar("Model")


class Models(Generic[Model]):
    """One graph for each output, "class_map" and "logits", each made once.

    Args:
        make: the graph for an output.
    """

    def __init__(self, make: Callable[[str], Model]):
        self._make = make
        self._made: dict[str, Model] = {}

    def __getitem__(self, output: str) -> Model:
        if output not in self._made:
            self._made[output] = self._make(output)
        return self._made[output]


def needs(package: str, what: str) -> UserError:
    return UserError(
        f"{what} needs the package {package}, which is not installed: pip install -e '.[deploy]' installs "
        f"all that exporting and other engines need."
    )
