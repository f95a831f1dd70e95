"""The dataset's files: all of them are read, folder by folder, and then compared with each other."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.data.checks.findings import Level
from src.data.checks.inspection import Inspection, inspect
from src.data.datamodule import SegmentationDataModule
from src.data.layouts import CITYSCAPES_IMAGES, SPLITS, Listing, list_split
from src.data.statistics import cached_counts, keep_counts
from src.diagnosis.notes import DATASET, Notes
from src.errors import UserError

HALF, STRAY, LEAK = "missing half of a pair", "file that nothing reads", "frame of train and val"
_STRAYS_FIX = "Remove it, or, if it belongs to the dataset, give it a name and folder like the others."


@dataclass
class Folders:
    """What was found in each folder of the splits: train, val and, for Cityscapes, test."""

    train: list[str]  # the folders of train_split
    val: list[str]
    listings: dict[str, Listing] = field(default_factory=dict)
    inspections: dict[str, Inspection] = field(default_factory=dict)

    def of(self, folders: list[str]) -> Inspection | None:
        """The statistics of several folders together; None if one of them could not be read."""
        if not all(name in self.inspections for name in folders):
            return None
        total = Inspection([])
        for name in folders:
            part = self.inspections[name]
            total.pairs = [*total.pairs, *part.pairs]
            total.findings = total.findings + part.findings
            total.sizes += part.sizes
            total.levels += part.levels
            total.classes += part.classes
        return total


def examine_dataset(notes: Notes, data: SegmentationDataModule) -> Folders:
    """List, read and compare the files. Errors in folders that training does not read are only remarks."""
    config = data.config
    train, val = ([*SPLITS.get(config[key], (config[key],))] for key in ("train_split", "val_split"))
    notes.fact(DATASET, "name", f"{config['name']} at {config['root'] or '(data.root is not set)'}")
    with notes.trying(DATASET, "dataset not found"):
        data.prepare_data()
    found: dict[str, dict[str, Listing]] = {folder: {} for folder in (*train, *val)}
    for folder in found:
        with notes.trying(DATASET, "dataset not found"):
            found[folder] = list_split(config["layout"], config["root"], folder, config)
    # A folder of a joined dataset has several listings.
    names = [[name for folder in split for name in found[folder] or (folder,)] for split in (train, val)]
    folders = Folders(names[0], names[1])
    for listings in found.values():
        folders.listings |= listings
    if config["name"] == "cityscapes" and folders.listings:
        try:
            folders.listings |= list_split(config["layout"], config["root"], "test")
        except UserError:
            text = "No images of the split 'test'. Training does not read them; submissions to the server do."
            notes.add(DATASET, "remark", "no test images", text)
    of_train = [folders.listings[name] for name in folders.train if name in folders.listings]
    labelled = [pair for listing in of_train for pair in listing.pairs if pair.label]
    counts_file = None
    with suppress(OSError, RuntimeError):  # of a file that cannot be read, which is an error below
        counts_file = cached_counts(labelled, data.table, data.cache_dir)  # of the labels as they are now
    for folder, listing in folders.listings.items():
        needed = folder in folders.train + folders.val
        _examine_listing(notes, folder, listing, needed)
        if listing.pairs:
            _examine_files(notes, folders, folder, data, needed)
    _compare(notes, folders)
    _examine_sizes(notes, folders, data)
    _keep_counts(folders, data, counts_file)
    return folders


def _examine_listing(notes: Notes, folder: str, listing: Listing, needed: bool) -> None:
    level: Level = "error" if needed else "remark"
    if not listing.labels:  # one line for the folder, not one for each of 2975 frames
        text = f"{listing.folders[1]}: no labels of the {listing.images} images of the split '{folder}'."
        notes.add(DATASET, level, HALF, f"{text} Download or extract them.")
    for line in listing.problems if listing.labels else ():
        notes.add(DATASET, level, HALF, f"{line}. {listing.fix}")
    try:
        strays = listing.strays()
    except UserError as problem:  # training does not list all files
        notes.add(DATASET, "remark", STRAY, problem.text)
        strays = []
    for path in strays:
        notes.add(DATASET, "remark", STRAY, f"{path}: nothing reads this file. {_STRAYS_FIX}")


def _examine_files(
    notes: Notes, folders: Folders, folder: str, data: SegmentationDataModule, needed: bool
) -> None:
    listing = folders.listings[folder]
    table = listing.pairs[0].table or data.table
    inspection = inspect(listing.pairs, table, f"Reading every file of '{folder}'")
    folders.inspections[folder] = inspection
    for finding in inspection.findings:
        notes.add(DATASET, finding.level if needed else "remark", finding.kind, finding.text)
    sizes = ", ".join(
        f"{width}x{height}" + (f" ({count})" if len(inspection.sizes) > 1 else "")
        for (height, width), count in inspection.sizes.most_common(3)
    )
    more = f" and {len(inspection.sizes) - 3} other sizes" if len(inspection.sizes) > 3 else ""
    notes.fact(DATASET, folder, f"{len(listing.pairs)} pairs of {sizes or 'no readable image'}{more}")


def _compare(notes: Notes, folders: Folders) -> None:
    """Find splits and frames that are in both training and validation."""
    both = sorted(set(folders.train) & set(folders.val))
    if both:
        text = (
            f"data.train_split and data.val_split share {', '.join(both)}: the validation's metrics say "
            f"nothing about frames that the network has not seen."
        )
        notes.add(DATASET, "remark", "splits that overlap", text)
    seen = {
        digest: pair
        for name in folders.train
        if name in folders.inspections
        for digest, pair in folders.inspections[name].digests.items()
    }
    for name in folders.val:
        if name in folders.inspections and name not in both:
            for digest, pair in folders.inspections[name].digests.items():
                if digest in seen:
                    notes.add(
                        DATASET, "remark", LEAK,
                        f"{pair.image}: the same file as {seen[digest].image}, so the validation uses a "
                        f"training frame. Remove one of the pairs.",
                    )  # fmt: skip


def _examine_sizes(notes: Notes, folders: Folders, data: SegmentationDataModule) -> None:
    for name, inspection in folders.inspections.items():
        full_size, full = list(inspection.sizes) == [(1024, 2048)], CITYSCAPES_IMAGES.get(name)
        if data.config["name"] == "cityscapes" and full_size and len(inspection.pairs) != full:
            text = f"The split '{name}' has {len(inspection.pairs)} frames, full Cityscapes has {full}."
            notes.add(DATASET, "remark", "another number of frames", f"{text} Fine if intended.")
        if len(inspection.sizes) > 1:
            text = f"The split '{name}' has frames of {len(inspection.sizes)} sizes: {_counts(inspection)}."
            fix = "This is fine: training uses crops, and a validation batch has frames of one size."
            notes.add(DATASET, "remark", "frames of several sizes", f"{text} {fix}")
    height, width = crop_size(data)
    train = folders.of([name for name in folders.train if name in folders.inspections])
    smaller = sum(n for size, n in train.sizes.items() if size[0] < height or size[1] < width) if train else 0
    if smaller:
        text = (
            f"data.crop_size=[{height},{width}]: {smaller} training frames are smaller and are padded with "
            f"the mean. Choose a smaller crop if this is not intended."
        )
        notes.add(DATASET, "remark", "crop larger than the frame", text)


def crop_size(data: SegmentationDataModule) -> tuple[int, int]:
    """(height, width) of a training sample: the augmentation's crop, which may differ from data.crop_size."""
    step: Any = (data.augment or {}).get("crop") or {}
    height, width = step.get("size") or data.config["crop_size"]
    return height, width


def _counts(inspection: Inspection) -> str:
    sizes = [f"{width}x{height} ({count})" for (height, width), count in inspection.sizes.most_common(6)]
    return ", ".join(sizes) + (", ..." if len(inspection.sizes) > 6 else "")


def _keep_counts(folders: Folders, data: SegmentationDataModule, file: Path | None) -> None:
    """Store the class counts, so that training need not count again."""
    train = folders.of(folders.train)
    complete = not any(folders.listings[name].problems for name in folders.train if name in folders.listings)
    if file and train and complete and train.intact and all(pair.label for pair in train.pairs):
        keep_counts(file, train.class_counts(data.table), data.table)
