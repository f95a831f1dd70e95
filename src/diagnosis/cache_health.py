"""The cache of decoded frames: which frames it has, whether they are undamaged, whether the rest fits."""

from pathlib import Path

from src.data.checks.findings import Level
from src.data.datamodule import SegmentationDataModule
from src.data.frame_cache.cache import SHARE
from src.data.frame_cache.modes import look_ahead
from src.diagnosis.notes import CONFIG, DATASET, Notes

_FIX = "Set data.cache=disk cache_dir=/path/on/another/disk, or data.cache=none."


def examine_cache(notes: Notes, data: SegmentationDataModule) -> None:
    """Does nothing without a cache, or if `data` is not set up: the errors are noted already."""
    mode = data.config["cache"]
    if mode == "none" or data.train_set is None or data.val_set is None:
        return
    with notes.trying(CONFIG, "cache"):
        root, (pairs, sizes) = Path(data.config["root"]), data.frames()
        found = look_ahead(mode, Path(data.cache_dir), root, data.table, pairs, sizes, thorough=True)
        for index, stale in found.missing.items():
            if stale.damaged:
                path = found.cache.path(pairs[index])
                text = f"{path}: {stale}. The training writes it again; check the disk for errors."
                notes.add(DATASET, "remark", "damaged cached frame", text)
        there = f"{len(pairs) - len(found.missing)} of {len(pairs)} decoded frames in {found.cache.directory}"
        needed, free = (f"{number / 1e9:.3g} GB" for number in (found.needed, found.free))
        more = f", the rest takes {needed} of {free} free" if found.missing else ""
        notes.fact(DATASET, "cache", f"data.cache={mode}: {there}{more}")
        problems = []
        if found.missing and not found.writable:
            problems.append(f"cannot write to {found.cache.directory}")
        elif not found.fits:
            problems.append(f"takes {needed}, but may use only {SHARE[mode]:.0%} of the {free} that are free")
        for problem in problems:
            level: Level = "remark" if mode == "auto" else "error"
            result = "; frames are decoded each time, which is slower" if mode == "auto" else ""
            notes.add(CONFIG, level, "cache", f"data.cache={mode} {problem}{result}. {_FIX}")
