"""Files inside a zip archive, read without extracting it, with those pathlib.Path methods that are needed."""

import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from src.errors import UserError

MOST_BYTES = 2**30
"""The largest file that is unpacked: an archive of a few kilobytes can unpack to any size."""


@dataclass(frozen=True)
class ZipPath:
    """A folder or a file inside an archive; prints as archive.zip/folder/file.

    Its methods raise UserError that names the archive or the file where one is damaged.
    """

    archive: Path
    inside: str  # with slashes, as archives have it

    def __truediv__(self, name: str) -> "ZipPath":
        return ZipPath(self.archive, f"{self.inside}/{name}")

    def __str__(self) -> str:
        return f"{self.archive}/{self.inside}"

    def absolute(self) -> "ZipPath":
        return ZipPath(self.archive.absolute(), self.inside)

    @property
    def name(self) -> str:
        return self.inside.rpartition("/")[2]

    def is_dir(self) -> bool:
        prefix = f"{self.inside}/"
        return any(name.startswith(prefix) for name in _entries(self.archive))

    def is_file(self) -> bool:
        return self.inside in _entries(self.archive)

    def with_name(self, name: str) -> "ZipPath":
        return ZipPath(self.archive, self.inside.removesuffix(self.name) + name)

    def glob(self, pattern: str) -> Iterator["ZipPath"]:
        """As Path.glob does, for patterns without `**`."""
        depth, prefix = pattern.count("/"), f"{self.inside}/"
        for name in _entries(self.archive):
            below = name.removeprefix(prefix)
            if below != name and below.count("/") == depth and fnmatchcase(below, pattern):
                yield ZipPath(self.archive, name)

    def files_below(self) -> Iterator["ZipPath"]:
        prefix = f"{self.inside}/"
        for name in _entries(self.archive):
            if name.startswith(prefix) and not name.endswith("/"):
                yield ZipPath(self.archive, name)

    def read_bytes(self, first: int = -1) -> bytes:
        """The whole file, compared with the archive's checksum, or only its `first` bytes."""
        entry = self._entry()
        if entry.file_size > MOST_BYTES:
            raise UserError(
                f"{self}: unpacks to {entry.file_size / 1e9:.3g} GB, so it is not an image. "
                f"Download the archive again."
            )
        try:
            with _opened(self.archive, os.getpid()).open(entry) as file:
                return file.read(first)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{self}: cannot be read out of the archive ({error}). Download the archive again."
            ) from error

    def stamp(self) -> tuple[int, int]:
        """(checksum, size) of the content."""
        entry = self._entry()
        return entry.CRC, entry.file_size

    def _entry(self) -> zipfile.ZipInfo:
        try:
            return _entries(self.archive)[self.inside]
        except KeyError:
            raise UserError(f"{self}: not in the archive. Download the archive again.") from None


def _entries(archive: Path) -> dict[str, zipfile.ZipInfo]:
    return _opened(archive, os.getpid()).NameToInfo


@lru_cache(maxsize=16)
def _opened(archive: Path, pid: int) -> zipfile.ZipFile:
    """One open archive per process: forked workers would share its file position."""
    try:
        return zipfile.ZipFile(archive)
    except PermissionError as error:
        raise UserError(f"{archive}: cannot be read ({error.strerror}). Check its permissions.") from error
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{archive}: damaged or truncated, it cannot be opened as a zip archive ({error}). "
            f"Download it again."
        ) from error
