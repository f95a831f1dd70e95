"""Files read whole: nothing damaged passes, and figures are exact."""

import cv2
import numpy as np
import pytest

from src.data.checks import inspection
from src.data.checks.inspection import inspect, inspect_pair
from src.data.files import broken_chunk, read_label
from src.data.layouts import find_pairs
from src.labels import CAMVID, CITYSCAPES

RNG = np.random.default_rng(2)
IMAGE = RNG.integers(0, 256, (40, 48, 3), np.uint8)


def test_a_sound_street(street_root):
    pairs = find_pairs("cityscapes", street_root, "train")
    result = inspect(pairs, CITYSCAPES)
    assert result.findings == []
    assert result.sizes == {(64, 128): 12}
    assert result.levels.sum(1).tolist() == [12 * 64 * 128] * 3
    assert result.classes.sum() == 12 * 64 * 128


def test_every_checksum_is_looked_at(tmp_path):
    data = cv2.imencode(".png", IMAGE)[1].tobytes()
    assert broken_chunk(memoryview(data)) == ""
    for position in range(8, len(data), 7):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        assert broken_chunk(memoryview(damaged)), position
    for length in range(8, len(data), 100):
        assert broken_chunk(memoryview(data[:length])), length


def test_libpng_says_nothing_of_its_own(street, capfd):
    pairs = find_pairs("cityscapes", street, "val")
    for pair in pairs:
        data = bytearray(pair.image.read_bytes())
        data[len(data) // 2] ^= 0xFF
        pair.image.write_bytes(data)
    assert len(inspect(pairs, CITYSCAPES).findings) == 7
    assert capfd.readouterr() == ("", "")


def test_both_files_of_a_pair_are_judged(write_pair):
    pair = write_pair(IMAGE, np.full((38, 48), 77, np.uint8))
    kinds = {finding.kind for finding in inspect_pair(pair, CITYSCAPES).findings}
    assert kinds == {inspection.UNKNOWN, inspection.SIZES}
    pair.image.write_bytes(b"")
    pair.label.write_bytes(b"")
    named = [finding.text.partition(":")[0] for finding in inspect_pair(pair, CITYSCAPES).findings]
    assert named == [str(pair.image), str(pair.label)]


def test_an_unknown_id_comes_with_its_pixels(write_pair):
    label = np.full((40, 48), 3, np.uint8)
    label[:2, :5] = 40
    finding = inspect_pair(write_pair(IMAGE, label), CAMVID).findings[0]
    assert "[40]" in finding.text
    assert "(10 of 1920 pixels)" in finding.text


def test_mean_and_std_are_exact(write_pair):
    """Sums of a dataset go beyond what float32, and squares of sums beyond what int64 holds."""
    result = inspect([write_pair(IMAGE, None)], CITYSCAPES)
    result.levels *= 10**13
    mean, std = result.mean_and_std()
    assert mean == pytest.approx(IMAGE.reshape(-1, 3).mean(0), rel=1e-14)
    assert std == pytest.approx(IMAGE.reshape(-1, 3).std(0), rel=1e-12)


def test_histograms_beyond_float32():
    """One class on more than 2^24 pixels: float32 would stop counting there."""
    picture = np.full((4100, 4100), 7, np.uint8)
    counts = inspection._histogram(picture, 0)
    assert counts.dtype == np.int64
    assert counts[7] == 4100 * 4100 > 2**24


def test_class_counts_follow_the_table(street_root):
    pairs = find_pairs("cityscapes", street_root, "val")
    counts = inspect(pairs, CITYSCAPES).class_counts(CITYSCAPES)
    ids = sum(np.bincount(read_label(pair.label).ravel(), minlength=256) for pair in pairs)
    assert counts[0] == ids[7]
    assert counts[18] == ids[33]
    assert sum(counts) == ids[[e.id for e in CITYSCAPES.train_labels]].sum()
