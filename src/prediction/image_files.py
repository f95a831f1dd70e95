"""The images of a folder, of a pattern, or a single one."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from glob import escape, has_magic
from pathlib import Path

import numpy as np

from src.data.files import read_image
from src.data.folders import check_name, files_below, is_file
from src.errors import UserError, counted
from src.prediction.items import Item
from src.prediction.video import VIDEO_SUFFIXES, Video
from src.runs.machine import usable_cores

log = logging.getLogger(__name__)

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Of the files that count as images in a folder or a pattern."""
_LONGEST = 200  # bytes of a file's name: results need some more


class Images:
    """See `Source`."""

    frame_rate: float | None = None

    def __init__(self, root: Path, paths: Sequence[Path]):
        self.path = root
        self.readers = usable_cores()
        self.refused: list[tuple[str, str]] = []
        names = {}
        for path in paths:
            name = str(path.relative_to(root))
            if reason := _unusable(name):
                self.refused.append((name, reason))
            else:
                names[name] = path
        targets = targets_of(list(names))
        self._items = {name: Item(name, targets[name], path) for name, path in names.items()}

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def find(self, name: str) -> Item | None:
        return self._items.get(name)

    def modified(self, item: Item) -> float:
        return item.place.stat().st_mtime

    def read(self, item: Item) -> np.ndarray:
        return read_image(item.place, upright=True, few=self.readers <= 4)


def open_source(text: str, own: Sequence[Path], frame_step: int) -> Images | Video:
    """Raises UserError where there is no image.

    Args:
        own: folders of our results; what lies in one is not taken from a folder around it.
    """
    path = Path(text)
    if is_file(path) and path.suffix.lower() in VIDEO_SUFFIXES:
        return Video(path, frame_step)
    if is_file(path):
        return Images(path.parent, [path])
    if not path.exists() and not has_magic(text):
        raise UserError(f"source={text}: no such file or folder.{_nearest(path)}")
    root = path if path.exists() else _fixed_part(path)
    found = [root] if path.exists() else _matches(root, path)
    files = {
        file
        for match in found
        for file in (files_below(match, follow=True) if match.is_dir() else [match])
        if isinstance(file, Path)
    }
    images = _without(own, root, sorted(file for file in files if file.suffix.lower() in SUFFIXES))
    if not images:
        raise UserError(
            f"source={text}: {'there is no image' if found else 'nothing matches'}. Images end with "
            f"{', '.join(SUFFIXES)}; a video is given by its own path.{_literally(path)}"
        )
    videos = _without(own, root, sorted(file for file in files if file.suffix.lower() in VIDEO_SUFFIXES))
    if videos:
        number = counted(len(videos), "video")
        log.warning("Left out %s. A video is given by its own path: source=%s", number, videos[0])
    return Images(root, images)


def _matches(root: Path, pattern: Path) -> list[Path]:
    """What the pattern matches, without hidden files and folders."""
    try:
        found = sorted(root.glob(str(pattern.relative_to(root))))
    except ValueError as error:  # "a**"
        raise UserError(f"source={pattern}: {error}.") from error
    return [path for path in found if not any(p.startswith(".") for p in path.relative_to(root).parts)]


def _without(own: Sequence[Path], root: Path, paths: list[Path]) -> list[Path]:
    around = [folder.resolve() for folder in own if not root.resolve().is_relative_to(folder.resolve())]
    return [path for path in paths if not any(path.resolve().is_relative_to(folder) for folder in around)]


def _fixed_part(pattern: Path) -> Path:
    """The folder above the first part with a wildcard."""
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if has_magic(part))
    return Path(*parts[:first])


def _literally(pattern: Path) -> str:
    """A hint where a folder is there whose name was read as a pattern."""
    folder = next((place for place in pattern.parents if has_magic(str(place)) and place.is_dir()), None)
    return f" A pattern names the folder {folder} by {escape(str(folder))}, and a slash." if folder else ""


def _nearest(path: Path) -> str:
    folder = next(place for place in (path.parent, *path.parents) if place.is_dir())
    missing = path.relative_to(folder).parts[0]
    close = get_close_matches(missing, [entry.name for entry in folder.iterdir()], n=1)
    return f" {folder} has no {missing}" + (f"; is it {close[0]}?" if close else ".")


def _unusable(name: str) -> str:
    try:
        check_name(name)
    except UserError:
        return "its name is not valid UTF-8. Rename it"
    return (
        f"its name has more than {_LONGEST} bytes. Rename it"
        if len(name.rpartition("/")[2].encode()) > _LONGEST
        else ""
    )


def targets_of(names: Sequence[str]) -> dict[str, str]:
    """The path of each image's results, without a suffix: that of the image without its own suffix, or with
    it where two images would share the path, also in a file system that does not tell A from a."""
    whole: set[str] = set()
    while True:
        targets = {name: name if name in whole else str(Path(name).with_suffix("")) for name in names}
        counts = Counter(target.casefold() for target in targets.values())
        clashing = {name for name in names if counts[targets[name].casefold()] > 1} - whole
        if not clashing:
            return targets
        whole |= clashing
