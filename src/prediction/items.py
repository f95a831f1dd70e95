"""What is predicted: one image after the other, with the name that its results get."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Item:
    """One image.

    name: in shares.csv and messages. target: its path below each folder of results, without a suffix.
    place: where its source finds it.
    """

    name: str
    target: str
    place: Any


class Source(Protocol):
    """Where the images come from.

    path: what the user gave. readers: threads that may call `read` at once. frame_rate: None for images.
    refused: what cannot be predicted, with the reason.
    """

    path: Path
    readers: int
    frame_rate: float | None
    refused: list[tuple[str, str]]

    def __iter__(self) -> Any:
        """Items, in order."""

    def __len__(self) -> int:
        """Their number; 0 if it is unknown."""

    def find(self, name: str) -> Item | None:
        """The item of this name."""

    def modified(self, item: Item) -> float:
        """When it was changed last, in seconds since 1970."""

    def read(self, item: Item) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB; None after the last one. Raises UserError for what cannot be read."""
