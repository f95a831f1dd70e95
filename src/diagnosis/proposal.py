"""Writes the YAML file of a dataset of the user's own: where its files are, and its classes."""

import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from src.class_checks import MOST_COLORS
from src.config import CONF_DIR, overrides, plain
from src.data.checks.pairs import SMALLEST
from src.data.files import read_image
from src.data.layouts import Listing, Pair
from src.data.layouts.folder import list_folders, list_patterns
from src.data.layouts.search import Found, find_folders
from src.data.masks.decoding import rgb
from src.data.masks.formats import header_of
from src.data.masks.survey import Survey, survey
from src.data.parallel import parallel_map
from src.errors import UserError, counted, shorten
from src.label_tables import JOINED, OWN
from src.runs.atomic_files import write_text
from src.runs.directory import Run

log = logging.getLogger(__name__)
_DEFAULT = ("images/{split}/**/*.*", "masks/{split}/{name}.*")  # of conf/data/folder.yaml
_EVERY = 5  # where there are no splits, every fifth pair is for validation
_IMAGES = 100  # of which the mean is computed
_LARGEST_CROP, _STEP, _LARGEST_BATCH = 512, 8, 16
_RARE = 1e-3


def lacks_classes(config: DictConfig) -> bool:
    data = config.data
    return data.labels == OWN and data.get("classes") is None and data.layout != JOINED


def propose(config: DictConfig, run: Run) -> Path:
    """Write <run directory>/conf/data/<name>.yaml, show it, and say how to use it. Returns its path.

    Raises UserError where the files or their values do not fit together.
    """
    data: dict[str, Any] = plain(config.data)
    if not data["root"]:
        raise UserError("data.root is not set: where is the dataset? data.root=/path/to/it")
    root = Path(data["root"]).expanduser().absolute()
    files = _find(root, data)
    masks = [pair.label for pair in files.pairs if pair.label is not None]
    values = survey(masks)
    _check(values)
    folder = run.directory / "conf"
    (folder / "data").mkdir(parents=True, exist_ok=True)
    if files.lists:
        (folder / "lists").mkdir(exist_ok=True)
        for split, pairs in files.lists.items():
            text = "".join(f"{_below(root, pair.image)}\t{_below(root, pair.label)}\n" for pair in pairs)
            file = folder / "lists" / f"{split}.txt"
            if file.exists() and file.read_text() != text:
                log.warning(
                    "WARNING: %s is kept as it is. Delete it for a list of all pairs as they are.", file
                )
            else:
                write_text(file, text)
    path = folder / "data" / f"{_name(config, root)}.yaml"
    text = "\n".join(_lines(path.stem, root, files, values, folder)) + "\n"
    if path.exists() and path.read_text() != text:
        log.warning("WARNING: %s is kept as it is. Delete it for a new proposal, which would be:", path)
    else:
        write_text(path, text)
    log.info("%s:\n\n%s", path, text)
    log.info(
        "Rename the classes in this file; to merge some, move their values into one entry. Next:\n"
        "  python -m src.doctor --config-dir=%s data=%s\n  python -m src.train --config-dir=%s data=%s",
        *(shlex.quote(str(folder)), path.stem) * 2,
    )
    return path


@dataclass
class _Files:
    """keys: of the data group: where files are. lists: the pairs of each split, if they are to be written."""

    keys: dict[str, Any]
    pairs: list[Pair]
    train: list[Pair]
    lists: dict[str, list[Pair]]


def _find(root: Path, data: Mapping[str, Any]) -> _Files:
    """The files as the patterns or lists say; if they are the default and find nothing, those of any two
    folders that fit together."""
    given = {key: data[key] for key in ("images", "masks", "lists", "splits")}
    try:
        return _listed(root, given)
    except UserError:
        if data["lists"]:
            raise
        if (data["images"], data["masks"]) != _DEFAULT:
            if any("{split}" in (data[key] or "{split}") for key in ("images", "masks")):
                raise
            return _divided(root, Found(data["images"], data["masks"], {}))
    found = find_folders(root)
    log.info("Images: %s, masks: %s (below %s)", found.images, found.masks, root)
    given |= {"images": found.images, "masks": found.masks, "splits": given["splits"] | found.splits}
    if {"train", "val"} <= found.splits.keys():
        return _listed(root, given)
    return _divided(root, found)


def _listed(root: Path, given: dict[str, Any]) -> _Files:
    listings = {"train": list_folders(root, "train", given), "val": list_folders(root, "val", given)}
    for listing in listings.values():
        _warn_of_halves(listing)
    pairs = [pair for listing in listings.values() for pair in listing.pairs]
    return _Files(given, pairs, listings["train"].pairs, {})


def _divided(root: Path, found: Found) -> _Files:
    """All pairs, divided into train and val."""
    only = found.splits.get("train") or next(iter(found.splits.values()), "")
    listing = list_patterns(
        root, "train", found.images.replace("{split}", only), found.masks.replace("{split}", only)
    )
    _warn_of_halves(listing)
    pairs = listing.pairs
    lists = {
        "train": [pair for number, pair in enumerate(pairs) if number % _EVERY != _EVERY - 1],
        "val": pairs[_EVERY - 1 :: _EVERY],
    }
    if not lists["val"]:
        raise UserError(
            f"{root}: {counted(len(pairs), 'pair')} of image and mask, too few for train and val."
        )
    return _Files({}, pairs, lists["train"], lists)


def _warn_of_halves(listing: Listing) -> None:
    if listing.problems and not listing.pairs:
        raise UserError(f"{shorten(listing.problems)}\n{listing.fix}")
    if listing.problems:
        log.warning("WARNING: left out here, and an error in training:\n%s", shorten(listing.problems))


def _check(values: Survey) -> None:
    number, what = len(values.pixels), "colours" if values.by_color else "ids"
    if number < 2:
        raise UserError(f"{next(iter(values.first.values()))}: all masks have one and the same value.")
    rare = [value for value in values.pixels if values.share(value) < _RARE]
    smooth = (
        "Smoothed edges (anti-aliasing), resizing with interpolation or a copy as JPEG make such values. "
        "Write the masks again without these: nearest neighbour, PNG."
    )
    if number > MOST_COLORS + (not values.by_color):
        some = values.first[rare[0] if rare else max(values.first)]
        raise UserError(f"The masks have {number} {what}, such as in {some}: too many for classes. {smooth}")
    if len(rare) > 0.75 * number > 12:
        log.warning(
            "WARNING: of %d %s, %d cover less than 0.1%% of the pixels each, such as in %s. %s",
            *(number, what, len(rare), values.first[rare[0]], smooth),
        )


def _lines(name: str, root: Path, files: _Files, values: Survey, folder: Path) -> list[str]:
    sizes = [header_of(pair.image).size for pair in files.train]
    crop = [_crop(min(size[axis] for size in sizes)) for axis in (0, 1)]
    batch = min(_LARGEST_BATCH, 2 ** (len(files.train).bit_length() - 1))
    mean, std, number = _statistics(files.train)
    where = {key: value for key, value in files.keys.items() if key != "splits" and value}
    if files.lists:
        where["lists"] = f"{folder.absolute()}/lists/{{split}}.txt"
    splits = {split: folder for split, folder in files.keys.get("splits", {}).items() if split != folder}
    ignored = _ignored(values)
    return [
        f"# {counted(len(files.pairs), 'pair')} of image and mask; written by python -m src.doctor. Rename "
        f"the classes; to merge some, move",
        f"# their values into one entry. This file is data/{name}.yaml in a folder of yours, which a command "
        f"takes by",
        f"# --config-dir=<that folder> data={name}",
        "defaults: [folder, _self_]",
        f"name: {name}",
        f"root: {_quoted(str(root))}",
        *(f"{key}: {_quoted(value)}" for key, value in where.items()),
        *(["# Change the path of the lists if their folder is moved."] if files.lists else []),
        *(["splits:", *(f"  {key}: {_quoted(value)}" for key, value in splits.items())] if splits else []),
        "classes:",
        *_classes(values, ignored),
        "ignored:",
        *_values("ids", [] if values.by_color else ignored, values),
        *_values("colors", ignored if values.by_color else [], values),
        f"crop_size: [{crop[0]}, {crop[1]}]  # height, width; at most that of the smallest image",
        f"batch_size: {batch}",
        f"mean: [{', '.join(f'{value:.2f}' for value in mean)}]  # of {counted(number, 'training image')}",
        f"std: [{', '.join(f'{value:.2f}' for value in std)}]",
    ]


def _ignored(values: Survey) -> list[int]:
    """255 marks pixels without a label, except in masks of two classes that are scaled to 0 and 255."""
    return [255] if not values.by_color and 255 in values.pixels and len(values.pixels) > 2 else []


def _classes(values: Survey, ignored: Sequence[int]) -> list[str]:
    lines = []
    for value in sorted(values.pixels, key=rgb if values.by_color else None):
        if value in ignored:
            continue
        color, key = list(rgb(value)), f"[{value}]"
        title = "background" if value == 0 else f"class_{value}"
        kind = "ids"
        if values.by_color:
            title = "background" if value == 0 else "color_{}_{}_{}".format(*color)
            kind, key = "colors", f"[{color}]"
        entry = f"  - {{name: {title}, {kind}: {key}}}"
        unsure = "" if value else "; if it is no class, move it to ignored"
        lines.append(f"{entry:<60}  # {_said(value, values)}{unsure}")
    return lines


def _values(key: str, ignored: Sequence[int], values: Survey) -> list[str]:
    about = f"  # taken for pixels without a label; {_said(ignored[0], values)}" if ignored else ""
    return [f"  {key}: {list(ignored)}{about}"]


def _said(value: int, values: Survey) -> str:
    share = 100 * values.share(value)
    return f"{share:.3g}% of the pixels, in {values.files[value]} of {counted(values.masks, 'mask')}"


def _crop(side: int) -> int:
    return max(SMALLEST, min(_LARGEST_CROP, side // _STEP * _STEP))


def _statistics(pairs: Sequence[Pair]) -> tuple[list[float], list[float], int]:
    """Mean and standard deviation of red, green and blue over some images, and the number of these images."""
    some = pairs[:: len(pairs) // _IMAGES + 1]

    def sums(pair: Pair) -> np.ndarray:
        """(3, 3): of the pixels, of their values and of the squares, which take no memory in the queue."""
        image = read_image(pair.image)
        pixels = np.full(3, image.shape[0] * image.shape[1])
        squares = [np.einsum("hw,hw->", *2 * [image[..., channel].astype(np.int64)]) for channel in range(3)]
        return np.stack([pixels, image.sum((0, 1), np.int64), squares])

    pixels, total, of_squares = sum(parallel_map(sums, some), np.zeros((3, 3), np.int64))
    mean, squares = total / pixels, of_squares / pixels
    return mean.tolist(), np.sqrt(squares - mean**2).clip(1).tolist(), len(some)


def _name(config: DictConfig, root: Path) -> str:
    if any(override.startswith("name=") for override in overrides()):
        root = Path(config.name)
    name = re.sub(r"\W+", "_", root.name, flags=re.ASCII).strip("_") or "dataset"
    taken = (CONF_DIR / "data" / f"{name}.yaml").is_file() or not name[0].isalpha()
    return f"my_{name}" if taken else name


def _below(root: Path, path: Any) -> str:
    return str(path).removeprefix(f"{root}/")


def _quoted(text: str) -> str:
    """As YAML, whatever it contains."""
    return "'" + text.replace("'", "''") + "'"
