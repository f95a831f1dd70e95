"""The layout "folder": images and masks wherever the patterns of the data group, or its lists, say."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.data.files import read_bytes
from src.data.folders import check_name, files_below, is_file, is_folder
from src.data.layouts.listing import Listing, Pair
from src.errors import UserError, shorten

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
"""Of files that are images, in lower case."""

FOLDER_HELP = """\
Set data.root=/path/to/the/dataset; data.images and data.masks are patterns below it. Then
python -m src.doctor data=folder data.root=/path/to/the/dataset finds the folders, reads the masks and writes
the YAML file of the dataset."""
_NAME, _SPLIT, _ANY = "{name}", "{split}", ".*"
_FIX = (
    "Add the missing half of each pair, or remove the other one. data.images and data.masks say which paths "
    "belong together."
)
_WILD = re.compile(r"[*?\[\]]")


@dataclass(frozen=True)
class Pattern:
    """Paths below a folder: `inner` with wildcards, then the ending; see conf/data/folder.yaml.

    The name of a file is its path below the folder without the ending.
    """

    folder: Path
    inner: str
    ending: str  # after the name; ".*" at its end stands for the suffix of any image

    @classmethod
    def parse(cls, key: str, text: str, root: Path) -> "Pattern":
        """Raises UserError with the key for a pattern that has no name in it."""
        *folders, last = text.split("/")
        if _NAME in text:
            if not last.startswith(_NAME) or text.count(_NAME) > 1 or _WILD.search("".join(folders)):
                raise UserError(
                    f"{key}={text}: {_NAME} must stand once, at the beginning of the file name, and no "
                    f"wildcard before it. Other names can be given as pairs, in data.lists."
                )
            fixed, inner, ending = folders, "**/*", last.removeprefix(_NAME)
        else:
            wild = next((i for i, part in enumerate(folders) if _WILD.search(part)), len(folders))
            fixed, star = folders[:wild], last.removesuffix(_ANY).rpartition("*")
            if not star[1]:
                raise UserError(
                    f"{key}={text}: the file name has no *, so this is a single file. Such as "
                    f"images/{_SPLIT}/**/*.jpg."
                )
            inner = "/".join([*folders[wild:], star[0] + "*"])
            ending = star[2] + (_ANY if last.endswith(("*", _ANY)) else "")
        several = text.count("**") > 1 or any(
            part.count("*") > 1 for part in inner.split("/") if part != "**"
        )
        strange = "{" in text.replace(_NAME, "") or _WILD.search(ending.removesuffix(_ANY)) or last == "**"
        if several or strange:  # several wildcards would also take ages on long paths
            raise UserError(
                f"{key}={text}: cannot be read as a pattern. It may have {_SPLIT}, {_NAME}, ** once, and one "
                f"* between slashes."
            )
        return cls(root / "/".join(fixed), inner, ending)

    def files(self) -> tuple[dict[str, Path], list[str]]:
        """The files by their names; and a line for each name that two files have."""
        *folders, last = self.inner.split("/")
        parts = [*map(_as_regex, folders), _letters(last)]
        any_suffix = self.ending.endswith(_ANY)
        suffix = r"\.[A-Za-z]+" if any_suffix else ""
        wanted = re.compile(f"({''.join(parts)}){re.escape(self.ending.removesuffix(_ANY))}{suffix}")
        found: dict[str, Path] = {}
        twice = []
        for path in files_below(self.folder, follow=True):
            match = wanted.fullmatch(str(path).removeprefix(f"{self.folder}/"))
            if not match or (any_suffix and Path(path.name).suffix.lower() not in SUFFIXES):
                continue
            check_name(str(path))
            if match[1] in found:
                twice.append(f"{path}: the same name as {found[match[1]].name}. Remove one of the two")
            found.setdefault(match[1], Path(str(path)))
        return found, twice

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}{self.ending}"

    def file(self, name: str) -> Path:
        """The file of a name that a list gives."""
        if not self.ending.endswith(_ANY):
            return Path(self.path(name))
        stem = self.path(name).removesuffix(_ANY)
        there = [Path(stem + suffix) for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES))]
        return next((path for path in there if is_file(path)), Path(self.path(name)))


def _as_regex(folder: str) -> str:
    return "(?:[^/]+/)*" if folder == "**" else f"{_letters(folder)}/"


def _letters(part: str) -> str:
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(letter, re.escape(letter)) for letter in part)


def list_folders(root: Path, split: str, data: Mapping[str, Any]) -> Listing:
    """The pairs of a split by the patterns or lists of the data group. A test split may have no masks.

    Raises UserError where nothing is found, and for patterns that find the same files for each split.
    """
    if not is_folder(root):
        raise UserError(f"{root}: no such folder.\n{FOLDER_HELP}")
    images, masks, lists = (data.get(key) for key in ("images", "masks", "lists"))
    where = (data.get("splits") or {}).get(split, split)
    if lists:
        _check_split("lists", lists)
        return _by_list(root, split, where, images, masks, root / lists.replace(_SPLIT, where))
    if not images or not masks:
        key = "masks" if images else "images"
        raise UserError(f"data.{key} is not set. Give a pattern of paths, or data.lists.\n{FOLDER_HELP}")
    _check_split("images", images)
    _check_split("masks", masks)
    if _NAME in images:
        raise UserError(
            f"data.images={images}: {_NAME} is a name from a list: set data.lists, or write **/*."
        )
    return list_patterns(root, split, images.replace(_SPLIT, where), masks.replace(_SPLIT, where))


def _check_split(key: str, text: str) -> None:
    if _SPLIT not in text:
        raise UserError(
            f"data.{key}={text}: without {_SPLIT}, train and val would be the same images. Put the files "
            f"into a folder for each split, or write the pairs of each split into a text file (data.lists). "
            f"python -m src.doctor data=folder data.root=... writes such lists."
        )


def list_patterns(root: Path, split: str, of_images: str, of_masks: str) -> Listing:
    """The pairs by patterns in which {split} is replaced. Raises UserError where nothing is found."""
    images = Pattern.parse("data.images", of_images, root)
    masks = Pattern.parse("data.masks", of_masks, root)
    found, problems = images.files()
    with_masks, twice = masks.files()
    if not found:
        raise UserError(
            f"{images.folder}: no images of the split '{split}'.{_instead(images.folder)} data.images and "
            f"data.splits say where they are."
        )
    if not with_masks and split == "test":
        pairs = [Pair(_flat(name), path, None) for name, path in sorted(found.items())]
        return Listing(pairs, problems, len(pairs), len(pairs), (), (), _FIX)
    common = sorted(found.keys() & with_masks.keys())
    if not common:
        first = min(found)
        raise UserError(
            f"{masks.folder}: not one of the {len(found)} images of the split '{split}' has a mask. The mask "
            f"of {found[first]} would be {masks.path(first)}.{_instead(masks.folder)} data.masks says where "
            f"masks are."
        )
    problems += twice
    problems += [
        f"{found[name]}: no mask, expected {masks.path(name)}" for name in sorted(found.keys() - with_masks)
    ]
    problems += [
        f"{with_masks[name]}: no image, expected {images.path(name)}"
        for name in sorted(with_masks.keys() - found)
    ]
    pairs = [Pair(_flat(name), found[name], with_masks[name]) for name in common]
    return Listing(pairs, problems, len(found), len(with_masks), (), (), _FIX)


def _by_list(root: Path, split: str, where: str, images: Any, masks: Any, path: Path) -> Listing:
    if not is_file(path):
        raise UserError(f"{path}: no such file, but data.lists names it for the split '{split}'.")
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8 ({error.reason}). Save it as UTF-8.") from error
    lines = {n: line.strip() for n, line in enumerate(text.splitlines(), 1) if line.strip()}
    if not lines:
        raise UserError(f"{path}: empty, so the split '{split}' has no images.")
    by_name = [_NAME in (text or "") for text in (images, masks)]
    patterns = [
        Pattern.parse(f"data.{key}", text.replace(_SPLIT, where), root)
        for key, text, has_name in zip(("images", "masks"), (images, masks), by_name, strict=True)
        if has_name and all(by_name)
    ]
    pairs: dict[Path, Pair] = {}
    problems: list[str] = []
    for number, line in lines.items():
        if patterns:
            name, halves = line, [pattern.file(line) for pattern in patterns]
        else:
            halves = [root / half for half in _halves(path, number, line)]
            name = str(halves[0].with_suffix("")).removeprefix(f"{root}/")
        image, mask = halves[0], halves[1] if len(halves) == 2 else None
        problems += [
            f"{half}: missing, but {path} has it in line {number}" for half in halves if not is_file(half)
        ]
        if image in pairs:
            problems.append(f"{path}: line {number} has the image of an earlier line, {image}")
        pairs[image] = Pair(_flat(name), image, mask)
    if any(pair.label is None for pair in pairs.values()) and split != "test":
        problems.append(f"{path}: lines without a mask. Each line needs an image and a mask")
    broken = bool(problems)
    kept = [] if broken else list(pairs.values())
    return Listing(kept, problems, len(pairs), len(pairs), (), (), "Correct the list, or add the files.")


def _halves(path: Path, number: int, line: str) -> list[str]:
    """Image and mask of a line, or the image alone. Names may have spaces if a tab or a comma is between."""
    for separator in ("\t", ",", None):
        parts = [part.strip() for part in line.split(separator)]
        if separator is None or len(parts) > 1:
            break
    if len(parts) > 2 or not all(parts):
        raise UserError(
            f"{path}: line {number} has {len(parts)} parts, expected an image and a mask: {line[:200]!r}. "
            f"Separate them by a tab where names have spaces or commas."
        )
    return parts


def _flat(name: str) -> str:
    """A name for logs and pictures, without folders."""
    return name.strip("/").replace("/", "_")


def _instead(folder: Path) -> str:
    """A hint at what a folder has, or what is beside it."""
    if is_folder(folder):
        other = [str(path) for path in files_below(folder)[:3]]
        return (
            f" It has other files, such as {shorten(other, 1).splitlines()[0]}." if other else " It is empty."
        )
    near = folder
    while not is_folder(near) and near != near.parent:
        near = near.parent
    there = sorted(path.name for path in near.iterdir() if path.is_dir() and not path.name.startswith("."))
    return f" There is no such folder; {near} has {', '.join(there[:8]) or 'no folders'}."
