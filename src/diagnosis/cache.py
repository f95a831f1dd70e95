"""The cache of decoded frames: what is there, whether it is unharmed, and whether the rest fits."""

import shutil
from pathlib import Path

from omegaconf import DictConfig

from src.data.cache import SHARE, FrameCache, check_mode, disk_folder
from src.data.datamodule import SegmentationDataModule
from src.data.files import png_size
from src.data.frames import frame_bytes
from src.data.shared_memory import SHARED_MEMORY
from src.diagnosis.notes import CONFIG, DATASET, Notes
from src.findings import Level

_FIX = "Set cache_dir=/path/on/another/disk, or data.cache=none."


def examine_cache(notes: Notes, config: DictConfig, data: SegmentationDataModule) -> None:
    """Needs an opened `data`; otherwise there are errors already."""
    mode = config.data.cache
    with notes.trying(CONFIG, "cache"):
        check_mode(mode)
        if mode == "none" or data.train_set is None or data.val_set is None:
            return
        root = Path(data.config["root"])
        # Shared memory is empty before a run.
        directory = SHARED_MEMORY if mode == "ram" else disk_folder(Path(config.cache_dir), root)
        cache = FrameCache(directory, root.expanduser(), data.table)
        pairs = [*data.train_set.pairs, *data.val_set.pairs]
        kept = directory.exists() and mode != "ram"
        missing = cache.missing(pairs, thorough=True) if kept else dict.fromkeys(range(len(pairs)))
        for index, stale in missing.items():
            if stale is not None and stale.damaged:
                text = f"{cache.path(pairs[index])}: {stale}. The training makes it anew; is the disk sound?"
                notes.add(DATASET, "remark", "damaged cached frame", text)
        needed = sum(frame_bytes(png_size(pairs[index].image)) for index in missing)
        existing = next(
            folder for folder in (directory.absolute(), *directory.absolute().parents) if folder.exists()
        )
        free = shutil.disk_usage(existing).free
        notes.fact(
            DATASET,
            "cache",
            f"data.cache={mode}: {len(pairs) - len(missing)} of {len(pairs)} decoded frames in {directory}"
            + (f", the rest takes {needed / 1e9:.3g} GB of {free / 1e9:.3g} GB free" if missing else ""),
        )
        if needed > SHARE[mode] * free:
            level: Level = "remark" if mode == "auto" else "error"
            result = "files are decoded each time, which is slower" if mode == "auto" else "it does not fit"
            text = f"data.cache={mode} takes {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free: {result}."
            notes.add(CONFIG, level, "cache", f"{text} {_FIX}")
