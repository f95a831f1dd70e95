"""Cityscapes' train_extra: images with coarse labels, beside those with fine ones."""

import shutil
import zipfile

import pytest

from src.data.layouts import find_pairs, list_split


@pytest.fixture
def coarse(street):
    """The street with its training images as train_extra, too."""
    for kind, end, place, coarse_end in (
        ("leftImg8bit", "_leftImg8bit.png", "leftImg8bit", "_leftImg8bit.png"),
        ("gtFine", "_gtFine_labelIds.png", "gtCoarse", "_gtCoarse_labelIds.png"),
    ):
        for path in (street / kind / "train").glob(f"*/*{end}"):
            target = street / place / "train_extra/extra" / (path.name.removesuffix(end) + coarse_end)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return street


def test_train_extra_has_coarse_labels(coarse):
    extra = find_pairs("cityscapes", coarse, "train_extra")
    assert len(extra) == 12
    assert {pair.label.parent.parent.parent.name for pair in extra} == {"gtCoarse"}
    assert len(find_pairs("cityscapes", coarse, "train")) == 12
    assert len(find_pairs("cityscapes", coarse, "trainval")) == 19, "without train_extra"
    assert list_split("cityscapes", coarse, "train_extra")["train_extra"].strays() == []


def test_train_extra_in_archives(coarse):
    before = find_pairs("cityscapes", coarse, "train_extra")
    for folder, archive in (("leftImg8bit", "leftImg8bit_trainextra.zip"), ("gtCoarse", "gtCoarse.zip")):
        with zipfile.ZipFile(coarse / archive, "w") as file:
            for path in sorted((coarse / folder / "train_extra").rglob("*.png")):
                file.write(path, path.relative_to(coarse))
        shutil.rmtree(coarse / folder / "train_extra")
    after = find_pairs("cityscapes", coarse, "train_extra")
    assert [pair.name for pair in after] == [pair.name for pair in before]
    assert len(find_pairs("cityscapes", coarse, "train")) == 12, "from the folders, as before"


def test_no_coarse_labels(street, refused):
    with refused("leftImg8bit/train_extra/", "leftImg8bit_trainextra.zip", "gtCoarse.zip"):
        find_pairs("cityscapes", street, "train_extra")
