"""What data.cache=auto, none and disk mean: whether decoded frames are cached, and in which folder."""

import logging
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.data.frame_cache.cache import FrameCache, NoPlaceError, room_for
from src.data.frame_cache.frames import StaleFrameError, frame_bytes
from src.data.layouts import Pair
from src.labels import LabelTable
from src.runs.atomic_files import nearest_existing

log = logging.getLogger(__name__)
MODES = ("auto", "none", "disk")


def open_cache(
    mode: str,
    cache_dir: Path,
    root: Path,
    table: LabelTable,
    pairs: Sequence[Pair],
    sizes: Sequence[tuple[int, int]],
    used_once: bool = False,
) -> FrameCache | None:
    """The filled cache for data.cache=mode; None where the files are to be read as they are.

    Args:
        mode: "none", "disk", or "auto", which is "disk" if the frames take at most half of the free space.
        cache_dir: where the frames are, or will be.
        root: of the dataset.
        sizes: (height, width) of each pair.
        used_once: each frame is read only once: "auto" then uses a complete cache, and adds no frames.
    """
    if mode == "none":
        return None
    cache = FrameCache(disk_folder(cache_dir, root), root.expanduser(), table)
    if mode == "auto" and used_once:
        return None if cache.missing(pairs) else cache
    try:
        cache.fill(pairs, sizes, mode)
    except NoPlaceError as error:
        if mode != "auto":
            raise
        log.warning("Reading the files as they are, which is slower. %s", error)
        return None
    return cache


@dataclass(frozen=True)
class Outlook:
    """What `open_cache` would find and do, without doing it."""

    cache: FrameCache
    missing: dict[int, StaleFrameError]  # by index of the pair
    needed: int  # bytes
    free: int  # bytes
    fits: bool
    writable: bool


def look_ahead(
    mode: str,
    cache_dir: Path,
    root: Path,
    table: LabelTable,
    pairs: Sequence[Pair],
    sizes: Sequence[tuple[int, int]],
    thorough: bool = False,
) -> Outlook:
    """What `open_cache` would find and do; for any mode except "none"."""
    folder = disk_folder(cache_dir, root)
    cache = FrameCache(folder, root.expanduser(), table)
    missing = cache.missing(pairs, thorough and any(folder.glob("*.frame")))
    needed = sum(frame_bytes(sizes[index]) for index in missing)
    free, fits = room_for(needed, folder, mode)
    writable = os.access(nearest_existing(folder), os.W_OK | os.X_OK)
    return Outlook(cache, missing, needed, free, fits, writable)


def disk_folder(cache_dir: Path, root: Path) -> Path:
    """Where the frames of the dataset at `root` are kept."""
    return cache_dir.expanduser() / "frames" / folder_name(root)


def folder_name(root: Path) -> str:
    root = root.expanduser().resolve()
    return f"{root.name or 'root'}-{zlib.crc32(str(root).encode()):08x}"
