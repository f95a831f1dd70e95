"""Ways to damage a dataset. Each takes its root and returns the paths that a report has to name."""

import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from src.labels import CITYSCAPES

IMAGES, LABELS = "leftImg8bit/train/*/*.png", "gtFine/train/*/*_labelIds.png"
Paths = Sequence[Path]
Inflict = Callable[[Path], Paths]


def frames(root: Path, pattern: str, count: int = 2) -> list[Path]:
    return sorted(root.glob(pattern))[:count]


def each(pattern: str, change: Callable[[Path], object], count: int = 2) -> Callable[[Path], Paths]:
    """Two files are damaged, so that a report of the first one alone does not pass."""

    def inflict(root: Path) -> Paths:
        paths = frames(root, pattern, count)
        for path in paths:
            change(path)
        return paths

    return inflict


def pixels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], object]:
    return lambda path: cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def content(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, mode: int, rows: bytes, palette: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, mode, 0, 0, 0)
    colors = chunk(b"PLTE", palette) if palette else b""
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + colors + body + chunk(b"IEND", b"")


def middle(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes(255 - byte for byte in data[at : at + 20]) + data[at + 20 :]


def to_train_ids(ids: np.ndarray) -> np.ndarray:
    return CITYSCAPES.to_train_id[ids]


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("not-fetched"))


def link_to(target: str) -> Callable[[Path], object]:
    """ "": to itself."""

    def change(path: Path) -> None:
        path.unlink()
        path.symlink_to(target or path.name)

    return change


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def locked(name: str, mode: int = 0) -> Callable[[Path], Paths]:
    """Without permission; a city that is not there is one that nothing else tells of."""

    def inflict(root: Path) -> Paths:
        if not (root / name).exists():
            (root / name).mkdir()
        (root / name).chmod(mode)
        return [root / name] if name != "." else [root]

    return inflict


def not_utf8(root: Path) -> Paths:
    for path in (frames(root, IMAGES, 1)[0], frames(root, LABELS, 1)[0]):
        path.rename(path.with_name(path.name.replace("trainstadt", "st\udce4dt")))
    return []


def stray_not_utf8(root: Path) -> Paths:
    (root / "leftImg8bit/train/st\udce4dt.txt").touch()
    return []


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def another_city(root: Path) -> Paths:
    image = frames(root, IMAGES, 1)[0]
    (image.parent.parent / "bochum").mkdir()
    return [image, image.rename(image.parent.parent / "bochum" / image.name)]


def without_cities(root: Path) -> Paths:
    for path in frames(root, IMAGES, 99):
        path.rename(path.parent.parent / path.name)
    return [root / "leftImg8bit/train"]


def renamed(pattern: str, old: str, new: str) -> Callable[[Path], Paths]:
    def inflict(root: Path) -> Paths:
        paths = frames(root, pattern, 99)
        for path in paths:
            path.rename(path.with_name(path.name.replace(old, new)))
        return [paths[0].with_name(paths[0].name.replace(old, new))]

    return inflict


def gone(name: str) -> Callable[[Path], Paths]:
    def inflict(root: Path) -> Paths:
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()
        return [root / name]

    return inflict


def no_labels(name: str) -> Callable[[Path], Paths]:
    def inflict(root: Path) -> Paths:
        gone(name)(root)
        return [root]

    return inflict


def emptied(root: Path) -> Paths:
    shutil.rmtree(root / "leftImg8bit/val")
    (root / "leftImg8bit/val").mkdir()
    return [root / "leftImg8bit/val"]


def copied(source: str, target: str) -> Callable[[Path], Paths]:
    def inflict(root: Path) -> Paths:
        paths = frames(root, source, 1)[0], frames(root, target, 3)[-1]
        shutil.copyfile(*paths)
        return paths

    return inflict


def strays(root: Path) -> Paths:
    paths = [root / "leftImg8bit/train/Thumbs.db", root / "gtFine/train/trainstadt/notes.txt"]
    for path in paths:
        path.write_text("not read")
    return paths


def hidden(root: Path) -> Paths:
    for path in frames(root, IMAGES):
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    return []


def in_test_split(root: Path) -> Paths:
    path = root / "leftImg8bit/test/teststadt/teststadt_000000_000000_leftImg8bit.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    return [path]


def cut_archive(root: Path) -> Paths:
    archive = root / "leftImg8bit_trainvaltest.zip"
    archive.write_bytes(archive.read_bytes()[:-500])
    return [archive]


def byte_in_archive(root: Path) -> Paths:
    archive = root / "leftImg8bit_trainvaltest.zip"
    inside = "leftImg8bit/train/trainstadt/trainstadt_000001_000000_leftImg8bit.png"
    with zipfile.ZipFile(archive) as file:
        start = file.getinfo(inside).header_offset + 500
    data = bytearray(archive.read_bytes())
    data[start] ^= 255
    archive.write_bytes(data)
    return [archive / inside]


def other_archive(root: Path) -> Paths:
    shutil.copyfile(root / "gtFine_trainvaltest.zip", root / "leftImg8bit_trainvaltest.zip")
    return [root / "leftImg8bit_trainvaltest.zip"]


def nothing(root: Path) -> Paths:
    return []


def shrunk(root: Path) -> Paths:
    pairs = zip(frames(root, IMAGES), frames(root, LABELS), strict=True)
    for pair in pairs:
        for path in pair:
            pixels(lambda a: a[:16])(path)
    return frames(root, IMAGES)


PNG_64X32 = {
    "palette": png(64, 32, 8, 3, (b"\0" + bytes([3] * 64)) * 32, bytes(range(48))),
    "bits": png(64, 32, 4, 0, (b"\0" + bytes([0x77] * 32)) * 32),
    "cut body": png(64, 32, 8, 2, bytes(100)),
    "gigapixels": png(60000, 60000, 8, 2, bytes(100)),
}
