"""Decoded frames on disk or in shared memory, so that nothing has to be decoded twice.

A sample is cut out of a memory-mapped frame, which takes 2 ms: decoding a Cityscapes pair takes 25 or more.
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
    """The decoded frames do not fit on the disk, or their folder cannot be written."""


class FrameCache:
    """The decoded frames of a dataset, one file each in `directory`.

    Any number of processes may fill and read it at the same time. A frame stays valid as long as the files
    that it was made of do not change. Frames of other splits, of other label tables and of deleted files
    may stay in the directory and do no harm.

    Args:
        directory: for this dataset alone; may be deleted whenever no process uses it.
        root: of the dataset.
        table: the label table; the frames contain its train ids.
    """

    def __init__(self, directory: Path, root: Path, table: LabelTable):
        self.directory = directory
        self.root = str(root.absolute())
        self.table = table
        self._origins: dict[Path, Origin] = {}  # of the frames that were found or made

    def path(self, pair: Pair) -> Path:
        # Two splits may use one name for different frames, and two trainings different labels for one image.
        # The root may be typed in several ways.
        files = (pair.image, *([pair.label] if pair.label else []))
        inside = "\0".join(str(file.absolute()).removeprefix(self.root) for file in files)
        key = zlib.crc32(inside.encode(), zlib.crc32(table_key(pair.table or self.table)))
        name = pair.name.encode()[:120].decode(errors="ignore")  # a file name has at most 255 bytes
        return self.directory / f"{name}-{key:08x}.frame"

    def read(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) and target (H, W), uint8, read-only. Raises UserError where the file is no longer
        the frame that was found at the start, for example because another process has replaced it."""
        path = self.path(pair)
        return read_frame(path, self._origins.get(path))

    def missing(self, pairs: Sequence[Pair], thorough: bool = False) -> dict[int, StaleFrameError]:
        """The indices of the pairs whose frames have to be made, with the reason.

        Args:
            thorough: compare the checksum of every frame, not only of those whose file has been modified.
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
        """Make the frames that are missing; if the process is killed, the next call continues.

        Raises NoPlaceError, before the first frame is made, if the frames would take more than this mode's
        share of the free space. Raises UserError that names the files that cannot be read.
        """
        if not self.missing(pairs):  # nothing to write, so another user's read-only cache works
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
                log.warning("%s: %s; the frame is made again.", self.path(pairs[index]), stale)
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
                origin = Origin.of(pair, self.table)  # before reading: a later change makes it stale
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
            if error.errno in _FULL:  # a quota, or others write, too: free the space for the run
                for path in made:
                    path.unlink(missing_ok=True)
            raise
        except KeyboardInterrupt:
            log.info("Interrupted. The frames made so far are kept; the same command makes the rest.")
            raise
        if problems:
            raise UserError(f"{shorten(problems)}\n{ASK_THE_DOCTOR}")

    def _say_what_else_there_is(self) -> None:
        """Logs other datasets' frames: else nobody would notice those of deleted or moved datasets."""
        others = [f for f in self.directory.parent.iterdir() if f.is_dir() and f != self.directory]
        sizes = [sum(frame.stat().st_size for frame in folder.glob("*.frame")) for folder in others]
        if others:
            names = (f"{f.name} ({_gigabytes(size)})" for f, size in zip(others, sizes, strict=True))
            log.info("Cached frames of other datasets (delete them if not needed): %s", ", ".join(names))


SHARE = {"auto": 0.5, "disk": 0.95}
"""The share of the free space that the frames may take, for each mode."""


def room_for(needed: int, directory: Path, mode: str) -> tuple[int, bool]:
    """(free bytes on the disk of `directory`, whether `needed` is at most the mode's share of them)"""
    free = shutil.disk_usage(nearest_existing(directory)).free
    return free, needed <= SHARE[mode] * free


WAYS_ON = (
    "Choose another folder (data.cache=disk cache_dir=/path/on/a/fast/disk), or read the files as they are "
    "(data.cache=none)."
)


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Wait for a lock that only one process can hold; it is released however the process ends. Yields True,
    or False where the file system has no locks."""
    locked = True
    with path.open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            log.info("Another process is filling %s: waiting for it", path.parent)
            fcntl.lockf(file, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems have no locks; then work is done twice at worst
            log.warning("%s: cannot be locked (%s)", path, error)
            locked = False
        yield locked


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
