"""What a layout finds: the pairs of image and label of a split, and what is missing."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from src.data.files import Source
from src.data.folders import files_below
from src.labels import LabelTable


@dataclass(frozen=True)
class Pair:
    name: str  # unique within the split, e.g. frankfurt_000000_000294
    image: Source
    label: Source | None  # None where the split has no public labels (test)
    table: LabelTable | None = field(default=None, hash=False)  # of its part of a joined dataset


@dataclass(frozen=True)
class Listing:
    """What a folder of a split holds: complete pairs, and a line for each file that lacks its counterpart."""

    pairs: list[Pair]
    problems: list[str]
    images: int
    labels: int
    folders: tuple[Source, ...]  # of the images and, if they are public, of the labels
    patterns: tuple[str, ...]  # of the files that belong in each of these folders
    fix: str = "Download or extract the dataset again, or remove the other half of each pair."

    def strays(self) -> list[Source]:
        """Files that are never read, because of their suffix, depth or name. Hidden files are left out."""
        return [
            path
            for folder, pattern in zip(self.folders, self.patterns, strict=True)
            for path in files_below(folder, follow=True)
            if not _fits(str(path).removeprefix(f"{folder}/"), pattern)
        ]


def halves(missing: set[str], there: set[str], folder: Source, end: str, what: str) -> list[str]:
    """A line for each missing file, which also says where the file is if that is another subfolder."""
    places = {name.rpartition("/")[2]: name for name in there} if missing else {}
    lines = []
    for name in sorted(missing):
        place = places.get(name.rpartition("/")[2])
        elsewhere = f"; it lies in {folder / (place + end)}" if place else ""
        lines.append(f"{folder / (name + end)}: missing {what}{elsewhere}")
    return lines


def _fits(path: str, pattern: str) -> bool:
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)
