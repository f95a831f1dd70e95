import pickle

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from src.data.checks.pairs import check_pairs
from src.data.dataset import SegmentationDataset, read_target
from src.data.files import read_image, read_label
from src.data.layouts import Pair, find_pairs
from src.labels import CAMVID, CITYSCAPES, IGNORE

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
OUTSIDE = {"one id": [77], "two ids": [34, 200]}


def label_of(*ids, shape=(32, 48)):
    return np.resize(np.array(ids, np.uint8), shape)


def street_pairs(root, split="train"):
    return find_pairs("cityscapes", root, split)


def rewrite(path, change):
    """Store changed pixels under the same name."""
    cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def to_train_ids(ids):
    return CITYSCAPES.to_train_id[ids]


# ---- targets


def test_train_ids_are_the_official_ones(write_pair):
    official = pytest.importorskip("cityscapesscripts.helpers.labels")
    ids = np.arange(34)
    target = read_target(write_pair(IMAGE, label_of(*ids)), CITYSCAPES)
    expected = np.array([official.id2label[number].trainId for number in ids])
    assert np.array_equal(target, np.resize(expected, target.shape))
    assert [official.trainId2label[i].name for i in range(19)] == list(CITYSCAPES.class_names)
    assert [official.trainId2label[i].color for i in range(19)] == [tuple(c) for c in CITYSCAPES.colors[:19]]


def test_camvid_ids_stay_and_void_is_ignored(write_pair):
    target = read_target(write_pair(IMAGE, label_of(*range(12))), CAMVID)
    assert np.array_equal(target, label_of(*range(11), IGNORE))
    assert target.dtype == np.uint8


@pytest.mark.parametrize("table", [CITYSCAPES, CAMVID])
@pytest.mark.parametrize("ids", OUTSIDE.values(), ids=OUTSIDE)
def test_ids_outside_the_table(write_pair, refused, table, ids):
    pair = write_pair(IMAGE, label_of(0, *ids, 3))
    with refused(pair.label, ids, f"table of '{table.name}'", "data.labels"):
        read_target(pair, table)


def test_255_is_recognised_as_label_train_ids(write_pair, refused):
    pair = write_pair(IMAGE, label_of(0, 18, 255))
    with refused(pair.label, "255", "labelTrainIds", "labelIds"):
        read_target(pair, CITYSCAPES)


# ---- samples


def test_a_sample_is_what_the_files_hold(street_root):
    pair = street_pairs(street_root)[4]
    sample = SegmentationDataset([pair], CITYSCAPES)[7, 0]
    assert sample["name"] == pair.name
    assert sample["image"].dtype == sample["target"].dtype == torch.uint8
    assert np.array_equal(sample["image"].permute(1, 2, 0), read_image(pair.image))
    assert np.array_equal(sample["target"], to_train_ids(read_label(pair.label)))


def test_without_a_label_everything_is_ignored(write_pair):
    sample = SegmentationDataset([write_pair(IMAGE, None)], CITYSCAPES)[0, 0]
    assert sample["target"].shape == (32, 48)
    assert (sample["target"] == IGNORE).all()


def test_sizes_that_differ(write_pair, refused):
    pair = write_pair(IMAGE, label_of(26, shape=(32, 40)))
    for look in (
        lambda: SegmentationDataset([pair], CITYSCAPES)[0, 0],
        lambda: check_pairs([pair], CITYSCAPES),
    ):
        with refused(pair.label, pair.image.name, "40x32", "48x32", "same release"):
            look()


def test_goes_to_workers_that_start_afresh(street_root):
    """Workers are spawned, not forked, on macOS, on Windows and from Python 3.14 on."""
    dataset = SegmentationDataset(street_pairs(street_root), CITYSCAPES)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[0, 3]["target"], dataset[0, 3]["target"])


def too_small(ids):
    return ids[:-2]


def with_77(ids):
    ids[5, 5] = 77
    return ids


@pytest.mark.parametrize(
    ("change", "parts"), [(with_77, ["[77]", "data.labels"]), (too_small, ["128x62", "128x64"])]
)
def test_an_error_in_a_worker_reads_the_same(street, refused, change, parts):
    pairs = street_pairs(street)
    rewrite(pairs[3].label, change)
    dataset = SegmentationDataset(pairs, CITYSCAPES)
    keys = [(0, index) for index in range(len(pairs))]
    with refused(pairs[3].label, *parts) as here:
        dataset[keys[3]]
    with refused(pairs[3].label) as there:
        list(DataLoader(dataset, sampler=keys, batch_size=2, num_workers=2))
    assert there.text == here.text


def test_a_worker_keeps_a_message_of_several_lines_and_its_cause_out(street, refused):
    pairs = street_pairs(street)
    pairs[0].label.unlink()  # raises from an OSError
    with refused(pairs[0].label, "cannot be read") as shown:
        next(iter(DataLoader(SegmentationDataset(pairs, CITYSCAPES), sampler=[(0, 0)], num_workers=1)))
    assert shown.text.startswith(str(pairs[0].label))


# ---- checks before the start


def test_sizes_in_the_order_of_the_pairs(write_pair):
    shapes = [(32, 48), (40, 32), (32, 64)]
    pairs = [
        write_pair(np.zeros((*shape, 3), np.uint8), label_of(7, 26, shape=shape), f"frame_{i}")
        for i, shape in enumerate(shapes)
    ]
    unlabelled = write_pair(np.zeros((33, 35, 3), np.uint8), None, "frame_3")
    assert check_pairs([*pairs, unlabelled], CITYSCAPES) == [*shapes, (33, 35)]


def test_intact_datasets_pass(street_root, camvid_root):
    assert set(check_pairs(street_pairs(street_root, "trainval"), CITYSCAPES)) == {(64, 128)}
    assert len(check_pairs(find_pairs("camvid", camvid_root, "trainval"), CAMVID)) == 19


def test_all_bad_files_are_named_at_once(street, refused):
    pairs = street_pairs(street)
    pairs[0].image.write_bytes(pairs[0].image.read_bytes()[:-1])
    pairs[5].label.write_bytes(b"")
    pairs[7].label.unlink()
    rewrite(pairs[9].label, too_small)
    with refused(pairs[0].image, "truncated", pairs[5].label, "not a PNG", pairs[7].label, "cannot be read",
                 pairs[9].label, "128x62"):  # fmt: skip
        check_pairs(pairs, CITYSCAPES)


def test_a_long_list_is_cut(street, refused):
    pairs = street_pairs(street)
    for pair in pairs:
        pair.image.write_bytes(pair.image.read_bytes()[:-1])
    with refused(*(pair.image for pair in pairs[:5]), "... and 7 more") as shown:
        check_pairs(pairs, CITYSCAPES)
    assert shown.text.count("truncated") == 5


def test_a_folder_under_the_name_of_an_image(street, refused):
    pairs = street_pairs(street)
    pairs[1].image.unlink()
    pairs[1].image.mkdir()
    with refused(pairs[1].image, "cannot be read", "permissions"):
        check_pairs(pairs, CITYSCAPES)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda ids: np.full_like(ids, 77), ["[77]", "data.labels"]),
        (to_train_ids, ["255", "labelTrainIds"]),
        (lambda ids: np.minimum(to_train_ids(ids), 18), ["labelTrainIds", "gtFine_trainvaltest.zip"]),
        (lambda ids: np.dstack([ids] * 3), ["one channel", "colour"]),
        (lambda ids: ids.astype(np.uint16) * 1000, ["16-bit grey", "instanceIds"]),
    ],
    ids=["unknown id", "train ids", "train ids without 255", "colour", "16 bit"],
)
def test_wrong_labels_are_found_before_the_start(street, refused, change, parts):
    pairs = street_pairs(street)
    for pair in pairs:
        rewrite(pair.label, change)
    with refused(pairs[0].label, *parts):
        check_pairs(pairs, CITYSCAPES)


def test_damage_inside_a_file_is_found_where_it_is_read(street, refused):
    pairs = street_pairs(street)
    data = bytearray(pairs[2].image.read_bytes())
    data[len(data) // 2] ^= 0xFF
    pairs[2].image.write_bytes(data)
    check_pairs(pairs, CITYSCAPES)  # headers and ends are intact
    with refused(pairs[2].image, "damaged", "again"):
        SegmentationDataset(pairs, CITYSCAPES)[0, 2]


@pytest.mark.parametrize("count", [15, 16, 31, 32, 500])
def test_the_look_into_labels_is_short_and_reaches_the_end(street_root, monkeypatch, count):
    looked_into, decoded = [], []
    monkeypatch.setattr(
        "src.data.checks.pairs.to_target", lambda label, pair, _: looked_into.append(pair) or label
    )
    monkeypatch.setattr(
        "src.data.checks.pairs.read_mask", lambda path, _: decoded.append(path) or np.array([26])
    )
    first = street_pairs(street_root)[0]
    pairs = [Pair(str(i), first.image, first.label) for i in range(count)]
    check_pairs(pairs, CITYSCAPES)
    assert len(decoded) == len(looked_into) <= 16
    assert int(looked_into[-1].name) >= count * 0.8


def test_real_frames(real_data):
    pairs = find_pairs("cityscapes", real_data / "kitti", "val")
    sizes = check_pairs(pairs, CITYSCAPES)
    assert len(set(sizes)) > 1
    for index in (0, 7):
        sample = SegmentationDataset(pairs, CITYSCAPES)[0, index]
        assert tuple(sample["target"].shape) == sizes[index]
        assert set(sample["target"].unique().tolist()) <= {*range(19), IGNORE}
    assert set(check_pairs(find_pairs("camvid", real_data / "camvid", "val"), CAMVID)) == {(360, 480)}
