"""Lists the content of folders. Path.glob and rglob silently skip a folder that may not be read: here that is
an error that names the folder."""

import errno
import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from src.data.files import Source, unreadable
from src.data.zips import ZipPath
from src.errors import UserError


def is_folder(path: Path) -> bool:
    """False where nothing exists. Raises UserError where that cannot be determined."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: Source) -> bool:
    """As `is_folder`, for a file."""
    return path.is_file() if isinstance(path, ZipPath) else stat.S_ISREG(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (OSError, ValueError) as error:  # ValueError: a null byte
        raise unreadable(path, error) from error


def find(folder: Source, pattern: str) -> set[str]:
    """Paths below the folder, as text, that match a pattern such as `*/*.png`. Hidden files, such as macOS's
    `._<name>` beside each file, are left out. Links are followed. Empty if the folder does not exist.

    Raises UserError for a folder that cannot be read, and for names that are not valid UTF-8.
    """
    if isinstance(folder, ZipPath):
        found = [str(path).removeprefix(f"{folder}/") for path in folder.glob(pattern)]
        return {path for path in found if not path.rpartition("/")[2].startswith(".")}
    *folders, last = pattern.split("/")
    places = [""]
    for part in folders:
        places = [
            f"{place}{entry.name}/"
            for place in places
            for entry in _visible(folder / place)
            if _is_folder(entry) and fnmatchcase(entry.name, part)
        ]
    paths = {
        f"{place}{entry.name}"
        for place in places
        for entry in _visible(folder / place)
        if fnmatchcase(entry.name, last)
    }
    for path in sorted(paths):
        check_name(f"{folder}/{path}")
    return paths


def check_name(path: str) -> None:
    """Raises UserError for a name that is not valid UTF-8."""
    if any("\ud800" <= character <= "\udfff" for character in path):  # surrogates
        raise UserError(
            f"{path}: the name is not valid UTF-8, and no log, table or JSON file can hold it. "
            f"Rename image and label in the same way."
        )


def files_below(folder: Source, follow: bool = False) -> list[Source]:
    """All files at any depth, sorted, without hidden ones. Links count as files, even broken ones, unless
    `follow` enters those that lead to folders.

    Raises UserError for a folder that cannot be read.
    """
    found: list[Source] = list(folder.files_below() if isinstance(folder, ZipPath) else _walk(folder, follow))
    return sorted((path for path in found if not path.name.startswith(".")), key=str)


def _walk(folder: Path, follow: bool, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    place = folder.resolve() if follow else folder
    if place in above:  # a link to a folder above it
        return
    for entry in _visible(folder):
        if _is_folder(entry, follow):
            yield from _walk(folder / entry.name, follow, (*above, place))
        else:
            yield folder / entry.name


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    return [entry for entry in _entries(folder) if not entry.name.startswith(".")]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error


def _is_folder(entry: os.DirEntry[str], follow: bool = True) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError as error:  # a link whose target cannot be examined
        if error.errno == errno.ELOOP:
            return False  # a link to itself: a file, which is named when it is read
        raise unreadable(Path(entry.path), error) from error
