"""Decoded frames on disk or in shared memory, so that nothing has to be decoded twice.

A sample is cut out of a memory-mapped frame: decoding a Cityscapes pair takes 25 ms or more, its window 2.
"""

import errno
import fcntl
import logging
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from src.data.dataset import read_pair
from src.data.frame_cache.frames import (
    Origin,
    StaleFrameError,
    check_frame,
    frame_bytes,
    read_frame,
    table_key,
    write_frame,
)
from src.data.layouts import Pair
from src.data.parallel import parallel_map
from src.errors import ASK_THE_DOCTOR, UserError, shorten
from src.labels import LabelTable
from src.runs.atomic_files import nearest_existing

log = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT)


class NoPlaceError(UserError):
    """The decoded frames do not fit, or may not be written where they should go."""


class FrameCache:
    """The decoded frames of a dataset, one file each in `directory`.

    Any number of processes may fill and read it at the same time. What is there stays valid for as long as
    the files it was made of do not change; frames of other splits, of other tables of labels and of files
    that are gone do no harm.

    Args:
        directory: of this dataset alone; may be deleted whenever nothing runs.
        root: of the dataset.
        table: the labels, of which the train ids are kept.
    """

    def __init__(self, directory: Path, root: Path, table: LabelTable):
        self.directory = directory
        self.root = str(root.absolute())
        self.table = table
        self._table_key = zlib.crc32(table_key(table))
        self._origins: dict[Path, Origin] = {}  # of the frames that were found or made

    def path(self, pair: Pair) -> Path:
        # Two splits may use one name for different frames. The root may be typed in several ways.
        inside = str(pair.image.absolute()).removeprefix(self.root)
        key = zlib.crc32(inside.encode(), self._table_key)
        return self.directory / f"{pair.name[:120]}-{key:08x}.frame"

    def read(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) and target (H, W), uint8, read-only. Raises UserError where it is not the frame
        that was found at the start, such as after another process has replaced it."""
        path = self.path(pair)
        return read_frame(path, self._origins.get(path))

    def missing(self, pairs: Sequence[Pair], thorough: bool = False) -> dict[int, StaleFrameError]:
        """The indices of the pairs whose frames have to be made, with the reason.

        Args:
            thorough: compare all pixels with their checksums, not only where a file has been touched.
        """

        def look(pair: Pair) -> StaleFrameError | None:
            path, origin = self.path(pair), Origin.of(pair, self.table)
            try:
                check_frame(path, origin, thorough)
                self._origins[path] = origin
            except StaleFrameError as stale:
                return stale
            return None

        text = "Comparing the cached frames with their checksums" if thorough else ""
        found = enumerate(parallel_map(look, pairs, text))
        return {index: stale for index, stale in found if stale is not None}

    def fill(self, pairs: Sequence[Pair], sizes: Sequence[tuple[int, int]], mode: str = "disk") -> None:
        """Make the frames that are missing; after a kill, the next call continues.

        Raises NoPlaceError before the first frame is made where they would take more than this mode's share
        of the free space, UserError that names the files where some cannot be read.
        """
        if not self.missing(pairs):  # nothing to write: a cache that others keep may be read-only
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with _alone(self.directory / ".lock") as locked:
                if locked:
                    for left_over in self.directory.glob(".*.tmp"):  # of a process that was killed
                        left_over.unlink()
                missing = self.missing(pairs)  # another process may have made them meanwhile
                if missing:
                    self._make(missing, pairs, sizes, mode)
        except OSError as error:
            raise NoPlaceError(
                f"{self.directory}: cannot be written ({error.strerror}). {WAYS_ON}"
            ) from error

    def _make(
        self,
        missing: dict[int, StaleFrameError],
        pairs: Sequence[Pair],
        sizes: Sequence[tuple[int, int]],
        mode: str,
    ) -> None:
        for index, stale in missing.items():
            if stale.damaged:
                log.warning("%s: %s; it is made anew.", self.path(pairs[index]), stale)
        needed = sum(frame_bytes(sizes[index]) for index in missing)
        free, fits = room_for(needed, self.directory, mode)
        if not fits:
            raise NoPlaceError(
                f"{self.directory}: the decoded frames take {_gigabytes(needed)}, and {_gigabytes(free)} are "
                f"free, of which data.cache={mode} takes {SHARE[mode]:.0%} at most. {WAYS_ON}"
            )
        log.info(
            "Caching %d decoded frames, %s, in %s (once)", len(missing), _gigabytes(needed), self.directory
        )
        self._say_what_else_there_is()
        made: list[Path] = []

        def make(index: int) -> UserError | None:
            pair, path = pairs[index], self.path(pairs[index])
            try:
                origin = Origin.of(pair, self.table)  # before reading: a change in between makes it stale
                write_frame(path, *read_pair(pair, self.table), origin)
            except UserError as error:
                return error
            self._origins[path] = origin
            made.append(path)
            return None

        try:
            results = parallel_map(make, list(missing), "Caching decoded frames")
            problems = [error.text for error in results if error is not None]
        except OSError as error:
            if error.errno in _FULL:  # a quota, or others write, too: leave the room to the run
                for path in made:
                    path.unlink(missing_ok=True)
            raise
        except KeyboardInterrupt:
            log.info("Interrupted. The frames made so far are kept; the same command makes the rest.")
            raise
        if problems:
            raise UserError(f"{shorten(problems)}\n{ASK_THE_DOCTOR}")

    def _say_what_else_there_is(self) -> None:
        """Frames of datasets that are gone or have moved would otherwise lie there unseen."""
        others = [f for f in self.directory.parent.iterdir() if f.is_dir() and f != self.directory]
        sizes = [sum(frame.stat().st_size for frame in folder.glob("*.frame")) for folder in others]
        if others:
            names = (f"{f.name} ({_gigabytes(size)})" for f, size in zip(others, sizes, strict=True))
            log.info("Other datasets' frames, to delete when no longer needed: %s", ", ".join(names))


SHARE = {"auto": 0.5, "disk": 0.95}
"""How much of the free space each may take."""


def room_for(needed: int, directory: Path, mode: str) -> tuple[int, bool]:
    """(free bytes where `directory` is or would be made, whether so many needed ones may be taken of them)"""
    free = shutil.disk_usage(nearest_existing(directory)).free
    return free, needed <= SHARE[mode] * free


WAYS_ON = (
    "Choose another place (data.cache=disk cache_dir=/path/on/a/fast/disk), or read the files as they are "
    "(data.cache=none)."
)


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """One process at a time, and True; a process that ends in any way lets the next one in."""
    locked = True
    with path.open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            log.info("Another process fills %s: waiting for it", path.parent)
            fcntl.lockf(file, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems have no locks; then work is done twice at worst
            log.warning("%s: cannot be locked (%s)", path, error)
            locked = False
        yield locked


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
