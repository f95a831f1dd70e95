"""Detects files of a dataset that have changed since a run began, or since it stopped."""

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
    """Reads pairs as `dataset.read_pair` does, and detects files that have been replaced since the start.

    Size and modification time are compared, which takes microseconds; decoding takes 25 ms.
    """

    def __init__(self, pairs: Sequence[Pair], table: LabelTable):
        self.table = table
        # More threads than cores, because they wait for the disk.
        found = parallel_map(self._origin, pairs, threads=4 * usable_cores())
        self._origins = dict(zip(pairs, found, strict=True))

    def _origin(self, pair: Pair) -> Origin:
        return Origin.of(pair, self.table)

    def read_pair(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) and target (H, W), uint8. Raises UserError where a file has been replaced."""
        image, target = read_pair(pair, self.table)
        if self._origin(pair) != self._origins[pair]:
            raise UserError(
                f"{pair.image}: this image or its label has been replaced since this run began (another size "
                f"or modification time). Has the dataset changed? The same command reads the new files."
            )
        return image, target

    def digests(self) -> list[int]:
        """A number for each pair, in order, which changes when the pair's name or files change."""
        return [
            zlib.crc32(repr((pair.image.name, origin.numbers)).encode())
            for pair, origin in self._origins.items()
        ]

    def compare(self, before: Sequence[int]) -> None:
        """Warns if `digests()` has changed since the run stopped."""
        now = self.digests()
        changed = sum(new != old for new, old in zip(now, before, strict=False))
        if len(now) != len(before):
            what = f"it has {len(now)} pairs of image and label, and had {len(before)} then"
        elif changed:
            what = f"{changed} of {len(now)} pairs of image and label have another size or modification time"
        else:
            return
        log.warning(
            "WARNING: the dataset has changed since this run stopped: %s. From now on the run uses the new "
            "files, also for its metrics. To train on the new files from the start, give another name=.",
            what,
        )
