"""What `data.cache=` means: where the frames go, whether they fit, and what happens where they do not."""

import errno
import itertools
import os
import shutil

import pytest

from src.data.checks.pairs import check_pairs
from src.data.frame_cache import cache as cache_module
from src.data.frame_cache import frames
from src.data.frame_cache.cache import NoPlaceError
from src.data.frame_cache.modes import open_cache
from src.data.layouts import find_pairs
from src.labels import CITYSCAPES


def test_every_dataset_has_a_folder_of_its_own(street_root, tmp_path, caplog):
    caplog.set_level("INFO")
    copies = [shutil.copytree(street_root, tmp_path / name / "street") for name in ("a", "b")]
    for copy in copies:
        pairs = find_pairs("cityscapes", copy, "val")
        open_cache("disk", tmp_path, copy, CITYSCAPES, pairs, check_pairs(pairs, CITYSCAPES))
    assert len(list((tmp_path / "frames").glob("street-*"))) == 2
    assert "(delete them if not needed): street-" in caplog.text


def room(monkeypatch, free):
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage)


def test_an_evaluation_takes_what_is_there_and_adds_nothing(street_module, tmp_path):
    def evaluated_from_files():
        module = street_module(cache="auto")
        module.setup("validate")
        module.cache_frames()
        return "read_pair" in str(module.val_set.read)

    assert evaluated_from_files()
    assert not list(tmp_path.rglob("*.frame"))
    module = street_module(cache="auto")
    module.setup("fit")
    assert not list(tmp_path.rglob("*.frame")), "before everything else has been checked"
    module.cache_frames()
    assert not evaluated_from_files()


def opened(street, tmp_path, mode):
    pairs = find_pairs("cityscapes", street, "train")
    sizes = check_pairs(pairs, CITYSCAPES)
    return open_cache(mode, tmp_path, street, CITYSCAPES, pairs, sizes)


def test_not_enough_room_is_said_before_anything_is_made(street_root, tmp_path, monkeypatch, refused):
    needed = 12 * (64 * 128 * 4 + 128)
    room(monkeypatch, needed)
    with refused(tmp_path / "frames", "0.000395 GB", "free", "cache_dir=", "data.cache=none"):
        opened(street_root, tmp_path, "disk")
    assert not list(tmp_path.rglob("*.frame"))
    room(monkeypatch, needed / 0.95)
    assert opened(street_root, tmp_path, "disk") is not None


def test_auto_leaves_half_of_the_room_and_reads_the_files_otherwise(
    street_root, tmp_path, monkeypatch, caplog
):
    needed = 12 * (64 * 128 * 4 + 128)
    room(monkeypatch, 2 * needed - 1)
    assert opened(street_root, tmp_path, "auto") is None
    assert "Reading the files as they are" in caplog.text
    room(monkeypatch, 2 * needed)
    assert opened(street_root, tmp_path, "auto") is not None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up(street_root, tmp_path, monkeypatch, number):
    written = itertools.count()

    def full():
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(frames.os, "fsync", lambda _: full() if next(written) > 4 else None)
        with pytest.raises(NoPlaceError, match="cannot be written"):
            opened(street_root, tmp_path, "disk")
        assert opened(street_root, tmp_path, "auto") is None
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".frame", ".tmp")]
    assert opened(street_root, tmp_path, "auto") is not None


def test_no_place_for_it(street_root, tmp_path, refused):
    (tmp_path / "frames").write_text("a file")
    with refused(tmp_path / "frames", "cannot be written", "cache_dir=", "data.cache=none"):
        opened(street_root, tmp_path, "disk")


def test_auto_reads_the_files_where_nothing_may_be_written(street_root, tmp_path, caplog):
    (tmp_path / "frames").write_text("a file")
    assert opened(street_root, tmp_path, "auto") is None
    assert "Reading the files as they are" in caplog.text
