"""Whether Cityscapes' server would take a submission: count, names, sizes, kind of PNG and ids."""

import threading
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from src.data.files import HEADER_LENGTH, decode_label, parse_header, read_bytes, stamp
from src.data.folders import files_below, is_folder
from src.data.layouts import CITYSCAPES_IMAGES
from src.data.parallel import parallel_map
from src.errors import UserError
from src.evaluation.submission import NAME
from src.labels import CITYSCAPES, IGNORE

FULL_SIZE = (1024, 2048)
"""(height, width) of all of Cityscapes' images."""

MOST_BYTES = 2**26
"""Limit for one PNG: a class map of full size takes 2 MiB uncompressed."""

MOST_BYTES_IN_ALL = 2**33
"""Limit for all files, because an archive can unpack to any size: about 2.7 times the uncompressed class maps
of the test split."""

_TAIL = 16
_EVALUATED = np.isin(np.arange(256), [label.id for label in CITYSCAPES.train_labels])


@dataclass(frozen=True)
class _File:
    """A file in a folder or an archive; it is never unpacked to the disk."""

    path: str  # below the folder, or in the archive
    size: int  # bytes, unpacked
    read: Callable[[], bytes]

    @property
    def parts(self) -> list[str]:
        return self.path.replace("\\", "/").split("/")

    @property
    def name(self) -> str:
        return self.parts[-1]


def check_submission(
    place: Path, split: str = "test", sizes: Mapping[str, tuple[int, int]] | None = None
) -> list[str]:
    """What is wrong with a folder or zip archive, a line each; empty where the server would take it.

    Files may lie in subfolders: the official script searches them, too.

    Args:
        split: a split of the full Cityscapes; its number of images is expected where `sizes` is not given.
        sizes: (height, width) of the split's images by their names, such as berlin_000000_000019.

    Raises UserError where the place does not exist or is not a readable zip archive.
    """
    if is_folder(place):
        return _check_files(_folder(place), split, sizes)
    try:
        archive = zipfile.ZipFile(place)
    except FileNotFoundError:
        raise UserError(f"{place}: no such file or folder. Give a submission's archive or folder.") from None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{place}: no zip archive, or a damaged one ({error}). The server takes a single zip file; write "
            f"it again."
        ) from error
    with archive:
        return _check_files(_archive(archive), split, sizes)


def _folder(place: Path) -> list[_File]:
    paths = [path for path in files_below(place) if isinstance(path, Path)]
    return [
        _File(path.relative_to(place).as_posix(), stamp(path)[0], partial(read_bytes, path)) for path in paths
    ]


def _archive(archive: zipfile.ZipFile) -> list[_File]:
    lock = threading.Lock()  # ZipFile counts its open files without a lock

    def reading(entry: zipfile.ZipInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            with lock, archive.open(entry) as file:
                return file.read(MOST_BYTES + 1)

        return read

    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    return [_File(entry.filename, entry.file_size, reading(entry)) for entry in entries]


def _check_files(
    files: Sequence[_File], split: str, sizes: Mapping[str, tuple[int, int]] | None
) -> list[str]:
    unpacked = sum(file.size for file in files)
    if unpacked > MOST_BYTES_IN_ALL:
        return [f"{len(files)} files of {unpacked / 1e9:.0f} GB, unpacked: too large for class maps."]
    problems = []
    by_image: dict[str, list[_File]] = defaultdict(list)
    for file in files:
        match, folders = NAME.fullmatch(file.name), file.parts[:-1]
        if ".." in folders or folders[:1] == [""] or any(":" in folder for folder in folders):
            problems.append(f"{file.path!r}: leads out of the archive.")
        elif match is None or (sizes is not None and match["image"] not in sizes):
            known = "<city>_123456_123456*.png" if match is None else f"that of an image of '{split}'"
            problems.append(f"{file.path!r}: the name is not {known}.")
        else:
            by_image[match["image"]].append(file)
    for image, found in by_image.items():
        if len(found) > 1:
            problems.append(f"{image}: {len(found)} predictions, {', '.join(repr(f.path) for f in found)}.")
    problems += _missing(by_image, split, sizes)

    single = {image: found[0] for image, found in by_image.items() if len(found) == 1}
    counts: Counter[int] = Counter()
    for image, outcome in zip(
        single,
        parallel_map(lambda image: _ids(single[image], sizes[image] if sizes else FULL_SIZE), list(single)),
        strict=True,
    ):
        if isinstance(outcome, UserError):
            problems.append(outcome.text)
            continue
        counts.update(outcome)
        strays = [value for value in outcome if not _EVALUATED[value]]
        if strays:
            problems.append(f"{single[image].path!r}: ids {strays} are none of the 19 that are evaluated.")
    return _train_ids(counts) + problems


def _missing(
    found: Mapping[str, object], split: str, sizes: Mapping[str, tuple[int, int]] | None
) -> list[str]:
    if sizes is not None:
        return [f"{image}: no prediction." for image in sizes if image not in found]
    wanted = CITYSCAPES_IMAGES[split]
    if len(found) != wanted:
        return [f"Predictions for {len(found)} images, but the split '{split}' has {wanted}."]
    return []


def _ids(file: _File, size: tuple[int, int]) -> list[int] | UserError:
    """The ids in a class map, or what is wrong with the file. A file of another size is not decoded."""
    if file.size > MOST_BYTES:
        return UserError(f"{file.path!r}: {file.size / 1e6:.0f} MB, too large for a class map.")
    try:
        data = file.read()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        return UserError(f"{file.path!r}: cannot be read ({error}).")
    try:
        header = parse_header(Path(file.name), data[:HEADER_LENGTH], data[-_TAIL:])
        if (header.bits, header.mode) != (8, "grey"):
            return UserError(f"{file.path!r}: {header}, but a class map has one channel of 8 bits.")
        if header.size != size:
            found = f"{header.width}x{header.height}"
            return UserError(f"{file.path!r}: {found} pixels, but its image has {size[1]}x{size[0]}.")
        label = decode_label(Path(file.name), data)
    except UserError:  # its own text is about a downloaded dataset
        return UserError(f"{file.path!r}: no PNG, or a damaged one.")
    return np.flatnonzero(cv2.calcHist([label], [0], None, [256], [0, 256])).tolist()


def _train_ids(files_by_id: Mapping[int, int]) -> list[str]:
    """An error line if the predictions as a whole look like train ids, which the server scores near 0."""
    ids = [value for value in files_by_id if value != IGNORE]
    classes = CITYSCAPES.num_classes
    if not ids or max(ids) >= classes or all(_EVALUATED[value] for value in ids):
        return []
    return [
        f"No file has an id above {max(ids)}, and some ids are not label ids of evaluated classes: these are "
        f"train ids (0-{classes - 1}). Submit label ids (7-33), as python -m src.eval submission=true writes."
    ]
