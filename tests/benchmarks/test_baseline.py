"""The baseline does what its name says, or a ratio to it means nothing."""

from random import Random

import albumentations as A
import cv2
import numpy as np
import pytest

from src.benchmarks.baseline import Recipe, ResizeThenCrop
from src.benchmarks.variants import Frames, open_variants
from src.data.augment import PhotometricDistortion, RandomScaledCrop
from src.data.checks.pairs import check_pairs
from src.data.dataset import read_pair
from src.data.layouts import find_pairs
from src.data.windows import cut_image
from src.errors import UserError
from src.labels import CITYSCAPES, IGNORE


@pytest.fixture
def pairs(street_root):
    return find_pairs("cityscapes", street_root, "train")


def _baseline(**changes):
    crop = RandomScaledCrop(size=(32, 48), max_category_ratio=1)
    return ResizeThenCrop(
        Recipe(**({"crop": crop, "flip": 0.0, "colour": None, "fill": (1, 2, 3)} | changes)),
        CITYSCAPES.to_train_id,
    )


def test_it_decodes_what_the_product_decodes(pairs):
    baseline, pair = _baseline(), pairs[0]
    image, target = baseline.decode(baseline.read(pair.image), baseline.read(pair.label))
    expected = read_pair(pair, CITYSCAPES)
    assert np.array_equal(image, expected[0])
    assert np.array_equal(target, expected[1])


def test_a_window_is_one_of_the_resized_frame(pairs):
    image, target = read_pair(pairs[0], CITYSCAPES)
    baseline = _baseline()
    scaled, labels = baseline.resize(image, target, 1.5)
    assert scaled.shape[:2] == labels.shape == (96, 192)
    assert np.array_equal(scaled, cv2.resize(image, (192, 96), interpolation=cv2.INTER_LINEAR))
    random = Random(5)
    top, left = random.randint(0, 96 - 32), random.randint(0, 192 - 48)
    window, label = baseline.cut(scaled, labels, Random(5))
    assert np.array_equal(window, scaled[top : top + 32, left : left + 48])
    assert np.array_equal(label, labels[top : top + 32, left : left + 48])
    ours = cut_image(image, (top, left, top + 32, left + 48), (96, 192))
    assert np.abs(window.astype(int) - ours).mean() < 1  # the product's bound is a shift of 1/32 pixel


def test_a_small_frame_is_padded_at_the_lower_right():
    baseline = _baseline()
    image, target = np.full((20, 30, 3), 9, np.uint8), np.zeros((20, 30), np.uint8)
    window, label = baseline.pad(*baseline.cut(image, target, Random(0)))
    assert window.shape == (32, 48, 3)
    assert (window[:20, :30] == 9).all()
    assert (window[20:] == (1, 2, 3)).all()
    assert (label[20:] == IGNORE).all()
    assert (label[:, 30:] == IGNORE).all()


def test_a_window_of_one_class_is_drawn_again():
    target = np.zeros((64, 400), np.uint8)
    target[:, 380:] = np.arange(20, dtype=np.uint8) % 3
    image = np.zeros((64, 400, 3), np.uint8)
    crop = RandomScaledCrop(size=(32, 20), max_category_ratio=0.99)
    varied = [len(np.unique(_baseline(crop=crop).cut(image, target, Random(s))[1])) > 1 for s in range(60)]
    free = RandomScaledCrop(size=(32, 20), max_category_ratio=1)
    before = [len(np.unique(_baseline(crop=free).cut(image, target, Random(s))[1])) > 1 for s in range(60)]
    assert sum(varied) > sum(before)


def test_colour_leaves_the_range_alone_and_can_be_none():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    strong = PhotometricDistortion(brightness=200, contrast=(0.1, 4), saturation=(0.1, 4))
    for seed in range(20):
        out = _baseline().distort(image, strong, Random(seed))
        assert (out.dtype, out.shape) == (np.uint8, image.shape)
    none = PhotometricDistortion(brightness=0, contrast=(1, 1), saturation=(1, 1), hue=0)
    out = _baseline().distort(image, none, Random(0))
    assert np.abs(out.astype(int) - image).max() <= 6  # the way to HSV and back


def test_brightness_saturates():
    bright = PhotometricDistortion(brightness=0, contrast=(10, 10), saturation=(1, 1), hue=0)
    image = np.full((2, 2, 3), 100, np.uint8)
    values = {int(_baseline().distort(image, bright, Random(seed)).max()) for seed in range(20)}
    assert values == {100, 255}


def test_samples_are_those_of_a_training(pairs, street_root, tmp_path):
    steps = {
        "crop": RandomScaledCrop(size=(32, 48)),
        "flip": A.HorizontalFlip(p=0.5),
        "color": PhotometricDistortion(),
    }
    frames = Frames(street_root, pairs, check_pairs(pairs, CITYSCAPES), CITYSCAPES, steps, seed=1)
    variants, _ = open_variants(frames, tmp_path)
    for index in range(len(pairs)):
        samples = {name: variant.sample((3, index)) for name, variant in variants.items()}
        for sample in samples.values():
            assert sample["image"].shape == (3, 32, 48)
            assert sample["target"].shape == (32, 48)
            assert sample["name"] == pairs[index].name
            assert set(np.unique(sample["target"])) <= {*range(19), IGNORE}
        for name in samples.keys() - {"opencv", "png"}:  # ours draw the same windows
            assert samples[name]["image"].equal(samples["png"]["image"])
            assert samples[name]["target"].equal(samples["png"]["target"])


def test_a_step_that_it_does_not_know_is_refused():
    with pytest.raises(UserError, match=r"augment\.blur=Blur"):
        Recipe.of({"crop": RandomScaledCrop(size=(8, 8)), "blur": A.Blur()})
    with pytest.raises(UserError, match="no RandomScaledCrop"):
        Recipe.of({"flip": A.HorizontalFlip(p=0.5)})
