"""The cache of decoded frames: the same samples, made once, made anew when their files change."""

import dataclasses
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from src.data.checks.pairs import check_pairs
from src.data.dataset import SegmentationDataset, read_pair
from src.data.frame_cache.cache import FrameCache
from src.data.layouts import find_pairs
from src.labels import CAMVID, CITYSCAPES


@pytest.fixture
def made(street, tmp_path):
    """A filled cache of a street that may be damaged: (cache, pairs, sizes)."""
    pairs = find_pairs("cityscapes", street, "train")
    sizes = check_pairs(pairs, CITYSCAPES)
    cache = FrameCache(tmp_path / "frames", street, CITYSCAPES)
    cache.fill(pairs, sizes)
    return cache, pairs, sizes


def assert_correct(cache, pairs, others=0):
    """Every frame is there and holds what its files hold."""
    assert cache.missing(pairs, thorough=True) == {}
    for pair in pairs:
        for kept, decoded in zip(cache.read(pair), read_pair(pair, cache.table), strict=True):
            assert np.array_equal(kept, decoded)
    assert len(list(cache.directory.glob("*.frame"))) == len({pair.image for pair in pairs}) + others
    assert not list(cache.directory.glob(".*.tmp"))


def written(cache, pairs):
    """When and as which file each frame was written."""
    status = [cache.path(pair).stat() for pair in pairs]
    return [(file.st_ino, file.st_mtime_ns) for file in status]


# ---- the same samples


@pytest.mark.sampled(4)
@pytest.mark.parametrize("mode", ["auto", "disk"])
@pytest.mark.parametrize("name", ["street", "camvid"])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_kind_of_cache_gives_the_same_samples(
    ready, module_for, street_root, camvid_root, name, mode, workers
):
    root = street_root if name == "street" else camvid_root
    plain, cached = (
        ready(module_for(name, root, cache=kind, num_workers=number))
        for kind, number in (("none", 0), (mode, workers))
    )
    for loader in ("train_dataloader", "val_dataloader"):
        for one, other in zip(getattr(plain, loader)(), getattr(cached, loader)(), strict=True):
            assert torch.equal(one["image"], other["image"])
            assert torch.equal(one["target"], other["target"])
            assert one["name"] == other["name"]


def test_frames_of_differing_sizes(write_pair, tmp_path):
    rng = np.random.default_rng(0)
    pairs = []
    for number, size in enumerate([(5, 9), (64, 48), (1, 1), (33, 100)]):
        label = rng.integers(0, 34, size, dtype=np.uint8)
        pairs.append(write_pair(rng.integers(0, 256, (*size, 3), dtype=np.uint8), label, f"frame{number}"))
    pairs.append(write_pair(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8), None, "without_label"))
    cache = FrameCache(tmp_path / "frames", tmp_path, CITYSCAPES)
    cache.fill(pairs, [(0, 0)] * len(pairs))
    assert_correct(cache, pairs)


def test_samples_may_be_written_to_and_outlive_the_file(made):
    cache, pairs, _ = made
    dataset = SegmentationDataset(pairs, CITYSCAPES, read=cache.read)
    sample = dataset[0, 0]
    sample["image"][:], sample["target"][:] = 7, 7
    assert_correct(cache, pairs)
    with pytest.raises(ValueError, match="read-only"):
        cache.read(pairs[0])[0][0, 0, 0] = 1


def test_splits_share_their_frames(made, street):
    cache, pairs, _ = made
    before = written(cache, pairs)
    both = find_pairs("cityscapes", street, "trainval")
    cache.fill(both, check_pairs(both, CITYSCAPES))
    assert_correct(cache, both)
    assert written(cache, pairs) == before


def test_one_name_in_two_splits(camvid, tmp_path):
    for kind in ("val", "valannot"):
        shutil.rmtree(camvid / kind)
        (camvid / kind).mkdir()
    for kind, other in (("train", "val"), ("trainannot", "valannot")):
        source = camvid / kind / "trainstadt_000000_000000.png"
        cv2.imwrite(str(camvid / other / source.name), cv2.imread(str(source), cv2.IMREAD_UNCHANGED)[::-1])
    pairs = find_pairs("camvid", camvid, "trainval")
    cache = FrameCache(tmp_path / "frames", camvid, CAMVID)
    cache.fill(pairs, check_pairs(pairs, CAMVID))
    assert_correct(cache, pairs)


# ---- made once, and anew when the files change


def test_a_second_start_makes_nothing_and_writes_nothing(made):
    cache, pairs, sizes = made
    before = written(cache, pairs)
    (cache.directory / ".lock").unlink()  # a cache that others keep may be read-only
    cache.fill(pairs, sizes)
    assert written(cache, pairs) == before
    assert not (cache.directory / ".lock").exists()


def flip(path):
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::-1])


def flip_in_the_same_size(path):
    """Other pixels under a time of change that is a second younger."""
    moment = path.stat().st_mtime_ns
    flip(path)
    os.utime(path, ns=(moment, moment + 1_000_000_000))


@pytest.mark.parametrize("kind", ["image", "label"])
@pytest.mark.parametrize("change", [flip, flip_in_the_same_size])
def test_only_the_frame_of_a_changed_file_is_made_anew(made, kind, change):
    cache, pairs, sizes = made
    before = written(cache, pairs)
    change(getattr(pairs[4], kind))
    assert list(cache.missing(pairs)) == [4]
    cache.fill(pairs, sizes)
    assert_correct(cache, pairs)
    changed = [one != other for one, other in zip(written(cache, pairs), before, strict=True)]
    assert changed == [index == 4 for index in range(len(pairs))]


def test_another_table_of_labels_makes_all_anew(made):
    cache, pairs, _ = made
    other = FrameCache(cache.directory, Path(cache.root), CAMVID)
    assert len(other.missing(pairs)) == len(pairs)
    other.path(pairs[0]).write_bytes(b"another process, with the other table")
    assert_correct(cache, pairs, others=1)


# ---- damage


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path):
    with path.open("ab") as file:
        file.write(b"x")


def empty(path):
    path.write_bytes(b"")


def header_only(path):
    os.truncate(path, 128)


def zeros(path):
    path.write_bytes(b"\0" * path.stat().st_size)


def another_format(path):
    path.write_bytes(b"CGNFRM99" + path.read_bytes()[8:])


def another_size(path):
    data = bytearray(path.read_bytes())
    data[56:60] = (1000).to_bytes(4, "little")
    path.write_bytes(data)


def one_pixel(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def one_id(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


SHAPELESS = [truncate, lengthen, empty, header_only, zeros, another_format, another_size]


@pytest.mark.parametrize("damage", [*SHAPELESS, one_pixel, one_id])
def test_a_damaged_frame_is_made_anew_with_a_warning(made, caplog, damage):
    cache, pairs, sizes = made
    before = written(cache, pairs)
    damage(cache.path(pairs[5]))
    cache.fill(pairs, sizes)
    assert_correct(cache, pairs)
    assert f"{cache.path(pairs[5])}: damaged" in caplog.text
    assert [a == b for a, b in zip(written(cache, pairs), before, strict=True)].count(False) == 1


@pytest.mark.parametrize("damage", SHAPELESS)
def test_damage_while_it_is_in_use_is_one_clear_message(made, refused, damage):
    cache, pairs, _ = made
    damage(cache.path(pairs[5]))
    with refused(cache.path(pairs[5]), "damaged", "The same command makes it again", "data.cache=none"):
        cache.read(pairs[5])


def test_a_cache_that_is_deleted_while_it_is_in_use(made, refused):
    cache, pairs, _ = made
    shutil.rmtree(cache.directory)
    with refused(cache.path(pairs[0]), "deleted", "The same command makes it again"):
        cache.read(pairs[0])


def test_a_bit_that_fell_over_by_itself_is_found_by_a_thorough_check(made):
    cache, pairs, _ = made
    path = cache.path(pairs[2])
    moment = path.stat().st_mtime_ns
    one_pixel(path)
    os.utime(path, ns=(moment, moment))
    assert cache.missing(pairs) == {}
    assert list(cache.missing(pairs, thorough=True)) == [2]


def test_a_copied_cache_is_compared_once_and_kept(made):
    cache, pairs, sizes = made
    before = written(cache, pairs)
    for path in cache.directory.glob("*.frame"):
        os.utime(path)  # as cp does
    assert written(cache, pairs) != before
    cache.fill(pairs, sizes)
    assert written(cache, pairs) == before


def test_a_frame_that_another_process_has_replaced_is_not_taken_for_the_old_one(made, refused):
    cache, pairs, sizes = made
    flip(pairs[3].image)
    FrameCache(cache.directory, Path(cache.root), CITYSCAPES).fill(pairs, sizes)
    with refused(cache.path(pairs[3]), "another process has made this cached frame again"):
        cache.read(pairs[3])
    cache.fill(pairs, sizes)
    assert_correct(cache, pairs)


def test_one_root_however_it_is_typed(made, monkeypatch):
    cache, pairs, _ = made
    monkeypatch.chdir(cache.root)
    for root in (Path(), Path("../street"), Path(cache.root) / "gtFine" / ".."):
        again = find_pairs("cityscapes", root, "train")
        other = FrameCache(cache.directory, root, CITYSCAPES)
        assert [other.path(p) for p in again] == [cache.path(p) for p in pairs]


def test_files_older_than_1970(made):
    cache, pairs, sizes = made
    os.utime(pairs[0].image, ns=(-(10**18), -(10**18)))
    cache.fill(pairs, sizes)
    assert_correct(cache, pairs)


def test_a_name_that_no_file_system_takes(write_pair, tmp_path):
    pair = dataclasses.replace(write_pair(np.zeros((8, 8, 3), np.uint8), None), name="long" * 60)
    cache = FrameCache(tmp_path / "frames", tmp_path, CITYSCAPES)
    cache.fill([pair], [(8, 8)])
    assert_correct(cache, [pair])


def test_bad_files_are_named_and_the_good_ones_kept(street, tmp_path, refused):
    pairs = find_pairs("cityscapes", street, "train")
    sizes = check_pairs(pairs, CITYSCAPES)
    bad = [pairs[index].image for index in (2, 7)]
    for path in bad:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
    cache = FrameCache(tmp_path / "frames", street, CITYSCAPES)
    with refused(*bad, "damaged"):
        cache.fill(pairs, sizes)
    assert list(cache.missing(pairs)) == [2, 7]
