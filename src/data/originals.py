"""The files of a dataset as they were when the training began, and whether they still are."""

import logging
import zlib
from collections.abc import Sequence

import numpy as np

from src.data.dataset import read_pair
from src.data.frame_cache.frames import Origin
from src.data.layouts import Pair
from src.data.parallel import parallel_map
from src.errors import UserError
from src.labels import LabelTable
from src.runs.machine import usable_cores

log = logging.getLogger(__name__)


class Originals:
    """Reads pairs as `dataset.read_pair` does, and notices where one has been replaced since the start.

    Size and time of change are compared, a matter of microseconds beside 25 ms for decoding.
    """

    def __init__(self, pairs: Sequence[Pair], table: LabelTable):
        self.table = table
        # More threads than cores: they wait for the disk.
        found = parallel_map(self._origin, pairs, threads=4 * usable_cores())
        self._origins = {pair.image: origin for pair, origin in zip(pairs, found, strict=True)}

    def _origin(self, pair: Pair) -> Origin:
        return Origin.of(pair, self.table)

    def read_pair(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) and target (H, W), uint8. Raises UserError where a file has been replaced."""
        image, target = read_pair(pair, self.table)
        if self._origin(pair) != self._origins[pair.image]:
            raise UserError(
                f"{pair.image}: this image or its label has been replaced since this run began (another size "
                f"or time of change). Has the dataset changed? The same command takes the files as they are."
            )
        return image, target

    def digests(self) -> list[int]:
        """A number for each pair, in order, another one when its name or its files change."""
        return [
            zlib.crc32(repr((image.name, origin.numbers)).encode()) for image, origin in self._origins.items()
        ]

    def compare(self, before: Sequence[int]) -> None:
        """Warns where `digests` were others when the run stopped."""
        now = self.digests()
        changed = sum(new != old for new, old in zip(now, before, strict=False))
        if len(now) != len(before):
            what = f"it has {len(now)} pairs of image and label, and had {len(before)}"
        elif changed:
            what = f"{changed} of {len(now)} pairs of image and label have another size or time of change"
        else:
            return
        log.warning(
            "WARNING: the dataset is not what it was when this run stopped: %s. From now on it learns from "
            "the new files, and its metrics are theirs. To train on them from the start, give another name=.",
            what,
        )
