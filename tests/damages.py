"""Kinds of damaged dataset, each with what the doctor and training have to say about it."""

import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from src.labels import CITYSCAPES

IMAGES, LABELS = "leftImg8bit/train/*/*.png", "gtFine/train/*/*_labelIds.png"
Paths = Sequence[Path]


@dataclass
class Damage:
    """Exit code 2 of doctor and training, or with `remark` exit code 0 of both.

    `inflict` damages the dataset at a root and returns the paths that must be named. `says` must stand in
    the findings about them, and in training's message.
    """

    name: str
    inflict: Callable[[Path], Paths]
    says: tuple[str, ...]
    remark: bool = False
    late: bool = False  # headers and listings do not tell: training finds it when it reads the file
    data: str = "cityscapes"
    zipped: bool = False
    root: str = "."  # data.root, relative to the dataset


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
        return [root / "gtFine/train"]

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


def test_split(root: Path) -> Paths:
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


AGAIN = "Download or extract it again"
PNG_64X32 = {
    "palette": png(64, 32, 8, 3, (b"\0" + bytes([3] * 64)) * 32, bytes(range(48))),
    "bits": png(64, 32, 4, 0, (b"\0" + bytes([0x77] * 32)) * 32),
    "cut body": png(64, 32, 8, 2, bytes(100)),
    "gigapixels": png(60000, 60000, 8, 2, bytes(100)),
}

ERRORS = [
    Damage("label missing", each(LABELS, Path.unlink), ("missing label", "extract")),
    Damage("image missing", each(IMAGES, Path.unlink), ("missing image", "extract")),
    Damage("image in another city's folder", another_city, ("it lies in",)),
    Damage("no labels at all", no_labels("gtFine"), ("extract",)),
    Damage("no val", gone("leftImg8bit/val"), ("no images of the split 'val'", "data.root")),
    Damage("val empty", emptied, ("no images of the split 'val'", "data.root")),
    Damage("no city folders", without_cities, ("It holds other files", "*/*_leftImg8bit.png")),
    Damage("images as .jpg", renamed(IMAGES, ".png", ".jpg"), ("It holds other files",)),
    Damage("upper-case suffix", renamed(IMAGES, ".png", ".PNG"), ("It holds other files",)),
    Damage(
        "labelTrainIds files alone", renamed(LABELS, "labelIds", "labelTrainIds"), ("labelIds.png files",)
    ),
    Damage("root too high", nothing, ("But there is", "data.root="), root=".."),
    Damage("root too deep", nothing, ("But there is", "data.root="), root="leftImg8bit"),
    Damage("root not there", nothing, ("no Cityscapes here", "experiment=demo"), root="nowhere"),
    Damage("empty image", each(IMAGES, content(lambda _: b"")), ("not a PNG file (empty)", AGAIN)),
    Damage("empty label", each(LABELS, content(lambda _: b"")), ("not a PNG file (empty)", AGAIN)),
    Damage("half an image", each(IMAGES, content(lambda d: d[: len(d) // 2])), ("truncated", AGAIN)),
    Damage("last bytes missing", each(LABELS, content(lambda d: d[:-3])), ("truncated", AGAIN)),
    Damage("damaged image", each(IMAGES, content(middle), 4), ("cannot be decoded", AGAIN), late=True),
    Damage("damaged label", each(LABELS, content(middle)), ("cannot be decoded", AGAIN)),
    Damage(
        "body too short",
        each(IMAGES, content(lambda _: PNG_64X32["cut body"]), 4),
        ("cannot be decoded",),
        late=True,
    ),
    Damage("gigapixels", each(IMAGES, content(lambda _: PNG_64X32["gigapixels"])), ("60000x60000",)),
    Damage("web page", each(IMAGES, content(lambda _: b"<html>404</html>" * 9)), ("(a web page)", AGAIN)),
    Damage("JPEG named PNG", each(IMAGES, content(lambda _: b"\xff\xd8\xff" * 99)), ("(a JPEG)", AGAIN)),
    Damage(
        "Git LFS", each(IMAGES, content(lambda _: b"version https://git-lfs.github.com")), ("git lfs pull",)
    ),
    Damage("dangling link", each(IMAGES, link_to_nowhere), ("cannot be read", "Check the path")),
    Damage("folder in place of a file", each(LABELS, folder), ("cannot be read", "Check the path")),
    Damage("no permission", each(IMAGES, lambda p: p.chmod(0)), ("cannot be read", "permissions")),
    Damage("colour label", each(LABELS, pixels(lambda a: np.dstack([a] * 3))), ("8-bit RGB", "one channel")),
    Damage(
        "instanceIds", each(LABELS, pixels(lambda a: a.astype(np.uint16) * 99)), ("16-bit", "instanceIds")
    ),
    Damage("palette label", each(LABELS, content(lambda _: PNG_64X32["palette"])), ("8-bit palette",)),
    Damage("label of 4 bits", each(LABELS, content(lambda _: PNG_64X32["bits"])), ("4-bit grey",)),
    Damage("sizes differ", each(LABELS, pixels(lambda a: a[:-2])), ("64x30", "64x32", "same release")),
    Damage("unknown id", each(LABELS, pixels(lambda a: np.where(a == 7, 77, a).astype(np.uint8))), ("[77]",)),
    Damage("train ids with 255", each(LABELS, pixels(to_train_ids)), ("255", "labelTrainIds")),
    Damage(
        "train ids without 255",
        lambda root: each(LABELS, pixels(lambda a: np.minimum(to_train_ids(a), 18)), 9)(root)[:1],
        ("labelTrainIds", "gtFine_trainvaltest.zip"),
    ),
    Damage(
        "nothing labelled",
        lambda root: each(LABELS, pixels(lambda a: a * 0), 9)(root)[:1],
        ("not one labelled pixel", "Extract the labels again"),
    ),
    Damage("frames too small", lambda root: _shrunk(root), ("64x16", "32x32")),
    Damage("CamVid: label missing", each("trainannot/*.png", Path.unlink), ("missing label",), data="camvid"),
    Damage(
        "CamVid: another table's ids",
        each("trainannot/*.png", pixels(lambda a: a + 7)),
        ("not in the table of 'camvid'", "data.labels"),
        data="camvid",
    ),
    Damage("CamVid: root too high", nothing, ("no such folder", "But there is"), data="camvid", root=".."),
    Damage("archive cut off", cut_archive, ("damaged or truncated", "Download it again"), zipped=True),
    Damage(
        "byte damaged in an archive",
        byte_in_archive,
        ("cannot be read out of the archive", "CRC"),
        late=True,
        zipped=True,
    ),
    Damage("no archive of labels", no_labels("gtFine_trainvaltest.zip"), ("extract",), zipped=True),
    Damage("another archive under the name", other_archive, ("no images of the split",), zipped=True),
]


def _shrunk(root: Path) -> Paths:
    pairs = zip(frames(root, IMAGES), frames(root, LABELS), strict=True)
    for pair in pairs:
        for path in pair:
            pixels(lambda a: a[:16])(path)
    return frames(root, IMAGES)


REMARKS = [
    Damage("grey image", each(IMAGES, pixels(lambda a: a[..., 0])), ("8-bit grey",)),
    Damage("16-bit image", each(IMAGES, pixels(lambda a: a.astype(np.uint16) * 257)), ("16-bit RGB",)),
    Damage("alpha image", each(IMAGES, pixels(lambda a: np.dstack([a, a[..., 0]]))), ("RGB and alpha",)),
    Damage("black image", each(IMAGES, pixels(np.zeros_like)), ("black",)),
    Damage("grey of one value", each(IMAGES, pixels(lambda a: a * 0 + 9)), ("RGB (9, 9, 9)",)),
    Damage("the same image twice", copied(IMAGES, IMAGES), ("the same file as",)),
    Damage(
        "a training frame in val", copied(IMAGES, IMAGES.replace("train", "val")), ("the validation judges",)
    ),
    Damage("one label void", each(LABELS, pixels(lambda a: a * 0), 1), ("not one labelled pixel",)),
    Damage(
        "some train ids", each(LABELS, pixels(lambda a: np.minimum(to_train_ids(a), 18))), ("labelTrainIds",)
    ),
    Damage("files that nothing reads", strays, ("read by nothing",)),
    Damage("damage in the test split", test_split, ("not a PNG file (empty)",)),
    Damage("macOS's hidden files", hidden, ()),
]
for damage in REMARKS:
    damage.remark = True
