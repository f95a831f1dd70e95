import math
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from src.data import statistics
from src.data.layouts import find_pairs
from src.data.statistics import class_counts, class_weights
from src.labels import CAMVID, CITYSCAPES

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture
def tiny(write_pair):
    """Two labels with 6 road, 3 sidewalk and 1 bicycle pixel, and 2 that are not learned."""
    image = np.zeros((2, 3, 3), np.uint8)
    labels = [[[7, 7, 7], [8, 8, 0]], [[7, 7, 7], [8, 33, 29]]]
    return [write_pair(image, np.array(label, np.uint8), f"frame_{i}") for i, label in enumerate(labels)]


@pytest.fixture
def reads(monkeypatch):
    """The label files that are read from here on."""
    seen = []

    def read_target(pair, table):
        seen.append(pair.label)
        return original(pair, table)

    original = statistics.read_target
    monkeypatch.setattr(statistics, "read_target", read_target)
    return seen


def test_counts_by_hand(tiny, tmp_path):
    counts = class_counts(tiny, CITYSCAPES, tmp_path / "cache")
    assert {index: count for index, count in enumerate(counts) if count} == {0: 6, 1: 3, 18: 1}
    assert len(counts) == 19


def test_weights_by_hand(tiny, tmp_path):
    weights = class_weights(tiny, CITYSCAPES, tmp_path / "cache")
    expected = {0: 1 / math.log(1.7), 1: 1 / math.log(1.4), 18: 1 / math.log(1.2)}
    assert weights == pytest.approx([expected.get(index, 10.492058687) for index in range(19)])


@pytest.mark.parametrize("layout", ["cityscapes", "camvid"])
def test_counts_like_a_loop_over_pixels(layout, street_root, camvid_root, tmp_path):
    root, table = (street_root, CITYSCAPES) if layout == "cityscapes" else (camvid_root, CAMVID)
    pairs = find_pairs(layout, root, "train")
    naive = Counter()
    for pair in pairs:
        naive.update(cv2.imread(str(pair.label), cv2.IMREAD_UNCHANGED).ravel().tolist())
    assert class_counts(pairs, table, tmp_path) == [naive[label.id] for label in table.train_labels]


def test_the_second_time_nothing_is_read(tiny, tmp_path, reads):
    first = class_weights(tiny, CITYSCAPES, tmp_path)
    assert len(reads) == 2
    assert class_weights(tiny, CITYSCAPES, tmp_path) == first
    assert len(reads) == 2


def test_other_labels_are_counted_anew(tiny, tmp_path, reads):
    before = class_counts(tiny, CITYSCAPES, tmp_path)
    cv2.imwrite(str(tiny[1].label), np.full((2, 3), 26, np.uint8))
    after = class_counts(tiny, CITYSCAPES, tmp_path)
    assert after != before
    assert after[13] == 6
    assert class_counts(tiny[:1], CITYSCAPES, tmp_path) != after  # a smaller set
    assert len(reads) == 2 + 2 + 1


def test_another_table_is_counted_anew(write_pair, tmp_path):
    pair = write_pair(np.zeros((2, 3, 3), np.uint8), np.full((2, 3), 8, np.uint8))
    assert class_counts([pair], CITYSCAPES, tmp_path)[1] == 6
    assert class_counts([pair], CAMVID, tmp_path)[8] == 6


def test_a_cache_that_cannot_be_written_stops_nothing(tiny, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    expected = class_counts(tiny, CITYSCAPES, tmp_path / "other")
    assert class_counts(tiny, CITYSCAPES, tmp_path / "cache") == expected
    assert str(tmp_path / "cache") in caplog.text


def test_no_labelled_pixel(write_pair, tmp_path, refused):
    pairs = [write_pair(np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8), name) for name in "ab"]
    with refused(pairs[0].label, "no labelled pixel", "1 other"):
        class_weights(pairs, CITYSCAPES, tmp_path)


def test_a_bad_label_is_named(tiny, tmp_path, refused):
    tiny[1].label.write_bytes(tiny[1].label.read_bytes()[:-20])
    with refused(tiny[1].label, "damaged"):
        class_weights(tiny, CITYSCAPES, tmp_path)
    assert not list(tmp_path.glob("class-counts*"))


def test_the_published_weights_follow_the_formula():
    """The shares behind them sum to 1: a mistyped number would break that."""
    weights = np.array(yaml.safe_load((CONF / "data" / "cityscapes.yaml").read_text())["class_weights"])
    shares = np.exp(1 / weights) - 1.10
    assert len(weights) == 19
    assert shares.min() > 0
    assert shares.sum() == pytest.approx(1, abs=1e-6)
    by_share = [CITYSCAPES.class_names[index] for index in shares.argsort()[::-1]]
    assert by_share[:4] == ["road", "building", "vegetation", "car"]
    assert by_share[-1] == "motorcycle"
