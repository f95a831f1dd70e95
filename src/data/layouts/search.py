"""Finds the folders of images and of masks below a root, by names that agree."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from src.data.files import Source
from src.data.folders import files_below, is_folder
from src.data.layouts.folder import FOLDER_HELP, SUFFIXES
from src.data.masks.formats import header_of
from src.errors import UserError

_SPLITS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {folder: split for split, folders in _SPLITS.items() for folder in folders}
_PLACES = 50  # each is compared with each
_OF_MASKS = re.compile(r"mask|label|annot|gt|seg|truth|target|class", re.IGNORECASE)
_TO_LOOK_AT = re.compile(r"overlay|blend|preview|visuali[sz]|pred", re.IGNORECASE)
_OTHER_MASKS = re.compile(r"colou?r|vis", re.IGNORECASE)  # in a name that has a word for masks, too


@dataclass(frozen=True)
class Found:
    """Values of the data group. splits: the folder of each split; empty where there are no such folders."""

    images: str
    masks: str
    splits: dict[str, str]


@dataclass
class _Place:
    """Files in one place, {split} standing for the folders of splits."""

    files: dict[str, Source] = field(default_factory=dict)  # by name, of all splits
    splits: dict[str, str] = field(default_factory=dict)


def find_folders(root: Path) -> Found:
    """Raises UserError where no two folders have files of the same names."""
    if not is_folder(root):
        raise UserError(f"data.root={root}: no such folder.\n{FOLDER_HELP}")
    places = _places(root)
    fits = [
        (_common(places[one], places[other], ending), -len(ending), one, other, ending)
        for one in places
        for other in places
        if one != other
        for ending in _endings(places[one], places[other])
    ]
    number, shortness, images, masks, ending = max(fits, default=(0, 0, "", "", ""))
    if not number and (beside := _beside(root)):
        return beside
    if not number:
        names = ", ".join(f"{name}/ ({len(place.files)})" for name, place in sorted(places.items())[:8])
        raise UserError(
            f"{root}: no folders of images and masks whose files have the same names. It has "
            f"{names or 'no folders'} with image files. Give patterns, quoted twice, such as "
            f"'data.images=\"pictures/{{split}}/*.jpg\"' 'data.masks=\"truth/{{split}}/{{name}}_mask.png\"'."
        )
    equal = {name for fit in fits if fit[:2] == (number, shortness) for name in fit[2:4]}
    if len(equal) > 2:
        images, masks = _two_of(root, equal)
    elif not ending and _are_masks(images, masks, places):
        images, masks = masks, images
    splits = {s: f for s, f in places[images].splits.items() if s in places[masks].splits or s == "test"}
    return Found(f"{images}/**/*.*", f"{masks}/{{name}}{ending}.*", splits)


def _two_of(root: Path, names: set[str]) -> tuple[str, str]:
    """Images and masks among places with the same files, such as masks in colour beside masks of ids. Raises
    UserError if their names do not tell."""
    plain = [
        name
        for name in sorted(names)
        if not (_TO_LOOK_AT.search(name) or (_OF_MASKS.search(name) and _OTHER_MASKS.search(name)))
    ]
    images = [name for name in plain if not _OF_MASKS.search(name)]
    masks = [name for name in plain if name not in images]
    if len(images) != 1 or len(masks) != 1:
        raise UserError(
            f"{root}: {', '.join(sorted(names))} have files of the same names. Say which are the images and "
            f"which the masks, quoted twice, such as 'data.images=\"{(images or sorted(names))[0]}/**/*.*\"' "
            f"'data.masks=\"{(masks or sorted(names))[-1]}/{{name}}.png\"'."
        )
    return images[0], masks[0]


def _places(root: Path) -> dict[str, _Place]:
    paths = [path for path in files_below(root, follow=True) if Path(path.name).suffix.lower() in SUFFIXES]
    inside = [str(path).removeprefix(f"{root}/").split("/") for path in paths]
    above = 0  # folders that all files share, such as archive/data
    while inside and len({tuple(parts[: above + 1]) for parts in inside}) == 1 and len(inside[0]) > above + 2:
        above += 1
    places: dict[str, _Place] = defaultdict(_Place)
    for path, parts in zip(paths, inside, strict=True):
        folders = parts[:-1]
        at = next((i for i, part in enumerate(folders) if i >= above and part.lower() in _SPLIT_OF), None)
        depth = above + 1 if at is None else max(at + 1, above + 2)
        key, rest = folders[:depth], folders[depth:]
        if at is not None:
            split, key[at] = folders[at], "{split}"
        place = places["/".join(key)]
        if at is not None:
            place.splits.setdefault(_SPLIT_OF[split.lower()], split)
        name = "/".join([*rest, Path(path.name).stem])
        place.files[f"{split}/{name}" if at is not None else name] = path
    largest = sorted((key for key in places if key), key=lambda key: -len(places[key].files))
    return {key: places[key] for key in largest[:_PLACES]}


def _beside(root: Path) -> Found | None:
    """JPEG images with their masks beside them, PNGs of the same names, in the folder with most of them."""
    by_folder: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in files_below(root, follow=True):
        folder, _, name = str(path).removeprefix(f"{root}/").rpartition("/")
        stem, dot, suffix = name.rpartition(".")
        by_folder[folder][dot + suffix].add(stem)
    pairs = [
        (len(names & by_suffix[".png"]), folder, suffix)
        for folder, by_suffix in by_folder.items()
        for suffix, names in list(by_suffix.items())
        if suffix.lower() in (".jpg", ".jpeg") and names & by_suffix[".png"]
    ]
    if not pairs:
        return None
    _, folder, suffix = max(pairs)
    inside = f"{folder}/" if folder else ""
    return Found(f"{inside}*{suffix}", f"{inside}{{name}}.png", {})


def _endings(images: _Place, masks: _Place) -> Sequence[str]:
    """What may follow the name of an image in that of its mask: nothing, or what follows the first one."""
    first = min(images.files)
    longer = [name.removeprefix(first) for name in masks.files if name.startswith(first) and name != first]
    return ["", *[ending for ending in longer if not ending[0].isdigit()][:4]]


def _common(images: _Place, masks: _Place, ending: str) -> int:
    return sum(name + ending in masks.files for name in images.files)


def _are_masks(one: str, other: str, places: Mapping[str, _Place]) -> bool:
    """Whether `one` has the masks of `other`, by the names of the folders, else by the first files."""
    by_name = [bool(_OF_MASKS.search(key)) for key in (one, other)]
    if by_name[0] != by_name[1]:
        return by_name[0]
    headers = [header_of(places[key].files[min(places[key].files)]) for key in (one, other)]
    looks = [header.format != "JPEG" and header.mode in ("grey", "palette") for header in headers]
    return looks[0] if looks[0] != looks[1] else headers[1].format == "JPEG"
