"""Cityscapes in the two archives as they are downloaded."""

import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from src.data import zips
from src.data.checks.pairs import check_pairs
from src.data.dataset import SegmentationDataset
from src.data.files import png_size, read_image, read_label, stamp
from src.data.layouts import find_pairs
from src.data.statistics import class_counts
from src.data.zips import ZipPath
from src.labels import CITYSCAPES

FOLDERS = ("leftImg8bit", "gtFine")


def pack(street, root, folder, method=zipfile.ZIP_DEFLATED):
    root.mkdir(exist_ok=True)
    archive = root / f"{folder}_trainvaltest.zip"
    with zipfile.ZipFile(archive, "w", method) as file:
        file.writestr("README", "as in the download")
        for path in sorted((street / folder).rglob("*")):  # folders have entries of their own, too
            file.write(path, f"{folder}/{path.relative_to(street / folder)}")
    return archive


@pytest.fixture(scope="session")
def zipped(street_root, tmp_path_factory):
    """Read-only: the street's files in two archives, one of them without compression."""
    root = tmp_path_factory.mktemp("data") / "zipped"
    pack(street_root, root, "leftImg8bit", zipfile.ZIP_STORED)
    pack(street_root, root, "gtFine")
    return root


def dataset(root):
    return SegmentationDataset(find_pairs("cityscapes", root, "train"), CITYSCAPES)


def test_the_same_samples_as_extracted(street_root, zipped):
    here, there = dataset(zipped), dataset(street_root)
    assert [p.name for p in here.pairs] == [p.name for p in there.pairs]
    for index in range(len(here)):
        assert torch.equal(here[0, index]["image"], there[0, index]["image"])
        assert torch.equal(here[0, index]["target"], there[0, index]["target"])


def test_sizes_counts_and_checks(street_root, zipped, tmp_path):
    pairs = find_pairs("cityscapes", zipped, "trainval")
    assert set(check_pairs(pairs, CITYSCAPES)) == {(64, 128)}
    extracted = find_pairs("cityscapes", street_root, "trainval")
    assert class_counts(pairs, CITYSCAPES, tmp_path) == class_counts(extracted, CITYSCAPES, tmp_path)


def test_one_extracted_and_one_not(street_root, zipped, tmp_path):
    shutil.copytree(street_root / "leftImg8bit", tmp_path / "leftImg8bit")
    (tmp_path / "gtFine_trainvaltest.zip").symlink_to(zipped / "gtFine_trainvaltest.zip")
    pair = find_pairs("cityscapes", tmp_path, "val")[0]
    assert pair.image == tmp_path / "leftImg8bit" / "val" / "valstadt" / f"{pair.name}_leftImg8bit.png"
    assert read_label(pair.label).shape == read_image(pair.image).shape[:2]


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_at_the_same_time(zipped, context):
    """A forked file handle would share its position with the other workers'."""
    samples = dataset(zipped)
    expected = [samples[0, index]["image"] for index in range(len(samples))]
    keys = [(0, index) for index in range(len(samples))] * 3
    loader = DataLoader(
        samples, sampler=keys, batch_size=None, num_workers=2, multiprocessing_context=context
    )
    for key, sample in zip(keys, loader, strict=True):
        assert torch.equal(sample["image"], expected[key[1]])


def test_paths_print_and_travel(zipped):
    path = find_pairs("cityscapes", zipped, "val")[0].image
    assert str(path).startswith(f"{zipped}/leftImg8bit_trainvaltest.zip/leftImg8bit/val/valstadt/valstadt_0")
    assert pickle.loads(pickle.dumps(path)) == path
    assert (path.archive.parent, ZipPath(path.archive, "leftImg8bit").is_dir()) == (zipped, True)
    assert not ZipPath(path.archive, "leftImg8").is_dir()


def test_the_stamp_is_that_of_the_content(street_root, tmp_path):
    stamps = []
    for number in range(2):
        root = tmp_path / str(number)
        for folder in FOLDERS:
            pack(street_root, root, folder)
        path = ZipPath(
            root / "gtFine_trainvaltest.zip", "gtFine/val/valstadt/valstadt_000000_000000_gtFine_labelIds.png"
        )
        stamps.append(stamp(path))
    assert stamps[0] == stamps[1]
    assert stamps[0][1] == len(path.read_bytes())


# ---- what can be wrong with them


def test_half_downloaded_archive(street_root, tmp_path, refused):
    pack(street_root, tmp_path / "root", "gtFine")
    archive = pack(street_root, tmp_path / "root", "leftImg8bit")
    archive.write_bytes(archive.read_bytes()[:-5000])
    with refused(archive, "damaged or truncated", "Download it again"):
        find_pairs("cityscapes", tmp_path / "root", "train")


def test_an_archive_that_may_not_be_read(zipped, refused, monkeypatch):
    def denied(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(zips.zipfile, "ZipFile", denied)
    zips._opened.cache_clear()
    with refused("cannot be read", "permissions"):
        find_pairs("cityscapes", zipped, "train")


def test_damaged_names_in_the_archive(street_root, tmp_path, refused):
    pack(street_root, tmp_path / "root", "gtFine")
    archive = pack(street_root, tmp_path / "root", "leftImg8bit")
    data = archive.read_bytes()
    start = data.index(b"PK\x01\x02", data.rindex(b"leftImg8bit") - 200)
    flags = bytearray(data)
    flags[start + 8 : start + 10] = (0x800).to_bytes(2, "little")  # the name is said to be UTF-8
    flags[start + 46] = 0xFF
    archive.write_bytes(flags)
    with refused(archive, "damaged", "Download it again"):
        find_pairs("cityscapes", tmp_path / "root", "train")


def test_no_archive_of_labels(street_root, tmp_path, refused):
    pack(street_root, tmp_path / "root", "leftImg8bit")
    with refused(tmp_path / "root", "neither gtFine/ nor gtFine_trainvaltest.zip", "241 MB"):
        find_pairs("cityscapes", tmp_path / "root", "train")


def test_another_archive_under_the_name(street_root, tmp_path, refused):
    archive = pack(street_root, tmp_path / "root", "gtFine")
    shutil.copy(archive, archive.with_name("leftImg8bit_trainvaltest.zip"))
    with refused("leftImg8bit_trainvaltest.zip/leftImg8bit/train", "no images"):
        find_pairs("cityscapes", tmp_path / "root", "train")


@pytest.mark.parametrize("read", [read_image, read_label])
def test_a_damaged_file_inside(street_root, tmp_path, refused, read):
    archive = pack(street_root, tmp_path / "root", "gtFine", zipfile.ZIP_STORED)
    inside = "gtFine/val/valstadt/valstadt_000002_000000_gtFine_labelIds.png"
    with zipfile.ZipFile(archive) as file:
        start = file.getinfo(inside).header_offset + 200
    data = np.fromfile(archive, np.uint8)
    data[start] ^= 255
    data.tofile(archive)
    path = ZipPath(archive, inside)
    with refused(path, "cannot be read out of the archive", "CRC", "Download the archive again"):
        read(path)


def test_a_file_that_is_not_in_it(zipped, refused):
    path = ZipPath(zipped / "gtFine_trainvaltest.zip", "gtFine/val/nowhere.png")
    for read in (png_size, read_label, stamp):
        with refused(path, "not in the archive"):
            read(path)
