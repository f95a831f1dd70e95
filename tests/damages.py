"""Kinds of damaged dataset, each with what the doctor and training have to say about it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from inflict import (
    IMAGES,
    LABELS,
    PNG_64X32,
    Inflict,
    another_city,
    byte_in_archive,
    content,
    copied,
    cut_archive,
    each,
    emptied,
    folder,
    gone,
    hidden,
    in_test_split,
    link_to,
    link_to_nowhere,
    locked,
    middle,
    no_labels,
    not_utf8,
    nothing,
    other_archive,
    pipe,
    pixels,
    renamed,
    shrunk,
    stray_not_utf8,
    strays,
    to_train_ids,
    without_cities,
)


@dataclass
class Damage:
    """Exit code 2 of doctor and training, or with `remark` exit code 0 of both.

    `inflict` damages the dataset at a root and returns the paths that must be named. `says` must stand in
    the findings about them, and in training's message.
    """

    name: str
    inflict: Inflict
    says: tuple[str, ...]
    remark: bool = False
    late: bool = False  # headers and listings do not tell: training finds it when it reads the file
    data: str = "cityscapes"
    zipped: bool = False
    root: str = "."  # data.root, relative to the dataset
    permissions: bool = False  # it is one of permissions, which root passes over


AGAIN = "Download or extract it again"
DENIED = ("cannot be read", "Permission denied", "permissions")
CITY = "leftImg8bit/train/trainstadt"
ERRORS = [
    Damage("label missing", each(LABELS, Path.unlink), ("missing label", "extract")),
    Damage("image missing", each(IMAGES, Path.unlink), ("missing image", "extract")),
    Damage("image in another city's folder", another_city, ("it lies in",)),
    Damage("no labels at all", no_labels("gtFine"), ("gtFine_trainvaltest.zip",)),
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
    Damage("no permission", each(IMAGES, lambda p: p.chmod(0)), DENIED, permissions=True),
    Damage("a city without permission", locked("leftImg8bit/train/another"), DENIED, permissions=True),
    Damage("a city that cannot be listed", locked(f"{CITY}", 0o111), DENIED, permissions=True),
    Damage("a city that cannot be entered", locked(f"{CITY}", 0o444), DENIED, permissions=True),
    Damage("labels without permission", locked("gtFine/train"), DENIED, permissions=True),
    Damage("root without permission", locked("."), DENIED, permissions=True),
    Damage("above the root no permission", locked("."), DENIED, root="leftImg8bit", permissions=True),
    Damage(
        "archive without permission",
        locked("leftImg8bit_trainvaltest.zip"),
        DENIED,
        zipped=True,
        permissions=True,
    ),
    Damage("CamVid: no permission", locked("valannot"), DENIED, data="camvid", permissions=True),
    Damage("pipes", each(IMAGES, pipe), ("cannot be read", "it is a pipe")),
    Damage("pipes as labels", each(LABELS, pipe), ("cannot be read", "it is a pipe")),
    Damage("links to a device", each(IMAGES, link_to("/dev/zero")), ("cannot be read", "it is a device")),
    Damage("links in a circle", each(LABELS, link_to("")), ("cannot be read", "symbolic links")),
    Damage("names that are no UTF-8", not_utf8, ("not valid UTF-8", "\\udce4", "Rename")),
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
    Damage("frames too small", shrunk, ("64x16", "32x32")),
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
    Damage("no archive of labels", no_labels("gtFine_trainvaltest.zip"), ("need not be",), zipped=True),
    Damage("another archive under the name", other_archive, ("no images of the split",), zipped=True),
]


REMARKS = [
    Damage("grey image", each(IMAGES, pixels(lambda a: a[..., 0])), ("8-bit grey",)),
    Damage("16-bit image", each(IMAGES, pixels(lambda a: a.astype(np.uint16) * 257)), ("16-bit RGB",)),
    Damage("alpha image", each(IMAGES, pixels(lambda a: np.dstack([a, a[..., 0]]))), ("RGB and alpha",)),
    Damage("black image", each(IMAGES, pixels(np.zeros_like)), ("black",)),
    Damage("grey of one value", each(IMAGES, pixels(lambda a: a * 0 + 9)), ("RGB (9, 9, 9)",)),
    Damage("the same image twice", copied(IMAGES, IMAGES), ("the same file as",)),
    Damage(
        "a training frame in val", copied(IMAGES, IMAGES.replace("train", "val")), ("the validation uses a",)
    ),
    Damage("one label void", each(LABELS, pixels(lambda a: a * 0), 1), ("not one labelled pixel",)),
    Damage(
        "some train ids", each(LABELS, pixels(lambda a: np.minimum(to_train_ids(a), 18))), ("labelTrainIds",)
    ),
    Damage("files that nothing reads", strays, ("nothing reads this file",)),
    Damage("a stray whose name is no UTF-8", stray_not_utf8, ("nothing reads this file", "\\udce4")),
    Damage("damage in the test split", in_test_split, ("not a PNG file (empty)",)),
    Damage("macOS's hidden files", hidden, ()),
]
for damage in REMARKS:
    damage.remark = True
