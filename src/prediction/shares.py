"""shares.csv: the part of each image's pixels that each class has, and so the list of what is done."""

import csv
import errno
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from src.runs.atomic_files import CannotWriteError, write_text

_FIRST = ("path", "height", "width")


class Shares:
    """A row for each image. Each is written at once, so that a killed process leaves whole rows.

    counts: float64 (C,) pixels of each class in all images. images: their number.

    Args:
        path: of the file; its folder has to exist.
        keep: whether a row of an earlier command, by the name of its image, stays.
    """

    def __init__(self, path: Path, classes: Sequence[str], keep: Callable[[str], bool]):
        self._path = path
        self.counts = np.zeros(len(classes))
        self.images = 0
        rows = {}
        if path.exists():
            whole = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]
            earlier = csv.reader(io.StringIO(whole, newline=""))
            next(earlier, None)
            rows = {row[0]: row for row in earlier if len(row) == len(_FIRST) + len(classes)}
        self.done = {name for name in rows if keep(name)}
        for name in self.done:
            _, height, width, *shares = rows[name]
            self._count(np.array(shares, float) * int(height) * int(width))
        write_text(path, _line([*_FIRST, *classes]) + "".join(_line(rows[n]) for n in rows if n in self.done))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def add(self, name: str, size: tuple[int, int], counts: np.ndarray) -> None:
        """The next image, of (height, width), with (C,) pixels of each class. Raises CannotWriteError."""
        line = _line([name, *size, *(counts / counts.sum()).tolist()]).encode()
        try:
            if os.write(self._file, line) < len(line):  # on a full disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise CannotWriteError(f"{self._path}: cannot be written, {error.strerror}.") from error
        self._count(counts)

    def close(self) -> None:
        os.close(self._file)

    def _count(self, counts: np.ndarray) -> None:
        self.counts += counts
        self.images += 1


def _line(row: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()
