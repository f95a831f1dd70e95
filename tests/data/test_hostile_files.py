"""Archives and images from anywhere: nothing is written, nothing unpacks to any size."""

import json
import stat
import struct
import zipfile
import zlib

import pytest

from src.data.checks.pairs import check_pairs
from src.data.dataset import SegmentationDataset
from src.data.files import png_header
from src.data.layouts import find_pairs
from src.data.statistics import class_counts
from src.data.zips import ZipPath
from src.errors import UserError
from src.labels import CITYSCAPES

IMAGES, LABELS = "leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"


@pytest.fixture
def root(street_root, tmp_path):
    """Two archives of the street, to put more into."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in (IMAGES, LABELS):
        top = name.partition("_")[0]
        with zipfile.ZipFile(folder / name, "w") as archive:
            for path in sorted((street_root / top / "train").rglob("*.png")):
                archive.write(path, f"{top}/train/{path.parent.name}/{path.name}")
    return folder


def _add(root, name, member, content):
    with zipfile.ZipFile(root / name, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)


def _everything_read(root):
    pairs = find_pairs("cityscapes", root, "train")
    check_pairs(pairs, CITYSCAPES)
    samples = SegmentationDataset(pairs, CITYSCAPES)
    return [samples[0, index]["name"] for index in range(len(samples))]


@pytest.mark.parametrize(
    "member",
    ["../../x_leftImg8bit.png", "/etc/x_leftImg8bit.png", "leftImg8bit/train/../../../x_leftImg8bit.png"],
)
def test_names_that_lead_outside_are_never_written(root, tmp_path, member):
    before = set(tmp_path.rglob("*"))
    _add(root, IMAGES, member, b"hostile")
    assert len(_everything_read(root)) == 12  # of no place where images belong
    assert set(tmp_path.rglob("*")) == before


def test_a_parent_folder_for_a_city(root, street_root, tmp_path):
    """At the right depth, so that it is an image: read where it is, as any other."""
    before = set(tmp_path.rglob("*"))
    image = min((street_root / "leftImg8bit/train").rglob("*.png"))
    label = min((street_root / "gtFine/train").rglob("*_labelIds.png"))
    _add(root, IMAGES, "leftImg8bit/train/../up_leftImg8bit.png", image.read_bytes())
    _add(root, LABELS, "gtFine/train/../up_gtFine_labelIds.png", label.read_bytes())
    assert "up" in _everything_read(root)
    assert set(tmp_path.rglob("*")) == before


def test_a_link_in_an_archive_is_a_file_like_any_other(root, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    link = zipfile.ZipInfo("leftImg8bit/train/trainstadt/trainstadt_000000_000000_leftImg8bit.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(root / IMAGES, "a") as archive:
        archive.writestr(link, str(secret))
    with pytest.raises(UserError, match="not a PNG file"):
        _everything_read(root)


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_an_image_that_would_fill_the_memory(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(_png(2**15, 2**15))
    with pytest.raises(UserError, match="32768x32768 pixels, more than any camera's image"):
        png_header(path)
    path.write_bytes(_png(8192, 8192))
    assert png_header(path).size == (8192, 8192)


@pytest.mark.slow
def test_a_file_that_unpacks_to_gigabytes(tmp_path):
    archive = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("a/bomb.png", "w", force_zip64=True) as member,
    ):
        for _ in range(1040):
            member.write(bytes(2**20))
    assert archive.stat().st_size < 2e6
    with pytest.raises(UserError, match=r"bomb\.png: unpacks to 1\.09 GB"):
        ZipPath(archive, "a/bomb.png").read_bytes()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"counts": "x"}', '{"counts": [1, -2]}'])
def test_class_counts_that_somebody_has_changed_are_counted_anew(street_root, tmp_path, content):
    pairs = find_pairs("cityscapes", street_root, "val")
    counts = class_counts(pairs, CITYSCAPES, tmp_path)
    (kept,) = tmp_path.glob("class-counts-*.json")
    kept.write_text(content)
    assert class_counts(pairs, CITYSCAPES, tmp_path) == counts
    assert json.loads(kept.read_text())["counts"] == counts
