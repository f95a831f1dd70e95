import copy

import albumentations as A
import cv2
import numpy as np
import pytest
from hydra.utils import instantiate

from src.data.augment import RandomScaledCrop, SeededTransform
from src.labels import IGNORE


def smooth_frame(height=200, width=400):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 31) + np.cos(y / 23), np.cos(x / 41), np.sin((x + y) / 37)]
    return np.stack([(wave / 2 + 1) * 100 for wave in waves], -1).astype(np.uint8)


def blocks(height=200, width=400, size=25, classes=19, seed=0):
    """A label of squares."""
    coarse = np.random.default_rng(seed).integers(0, classes, (height // size, width // size), dtype=np.uint8)
    return coarse.repeat(size, 0).repeat(size, 1)


def crop_of(seed=0, size=(64, 96), **options):
    crop = RandomScaledCrop(size, **{"max_category_ratio": 1, **options})
    crop.set_random_seed(seed)
    return crop


def draw(crop, image, mask):
    """The drawn window and scaled size, and what the transform makes of them."""
    params = crop.get_params_dependent_on_data({"shape": image.shape}, {"mask": mask})
    return params, crop.apply(image, **params), crop.apply_to_mask(mask, **params)


@pytest.mark.parametrize("frame", [(200, 400), (40, 50), (64, 96), (30, 300)])
@pytest.mark.parametrize("size", [(64, 96), (96, 64), (33, 47)])
def test_the_size_is_as_asked_or_that_of_a_smaller_scaled_frame(frame, size):
    crop, image, mask = crop_of(size=size), smooth_frame(*frame), np.zeros(frame, np.uint8)
    for _ in range(20):
        params, cut, label = draw(crop, image, mask)
        expected = tuple(min(pair) for pair in zip(size, params["scaled"], strict=True))
        assert cut.shape == (*expected, 3)
        assert label.shape == expected
        assert cut.dtype == label.dtype == np.uint8


@pytest.mark.parametrize("name", ["street", "camvid", "cityscapes"])
def test_padding_is_the_mean_at_the_bottom_and_the_right_after_flip_and_colour(shipped, name):
    data, augment = copy.deepcopy(shipped[name])
    augment["crop"] |= {"size": [64, 96], "scale": [0.5, 0.5]}
    augment["pad"] |= {"min_height": 64, "min_width": 96}
    chain = SeededTransform([instantiate(step) for step in augment.values()], seed=0)
    image, label = smooth_frame(100, 160), np.full((100, 160), 4, np.uint8)
    pictures = set()
    for index in range(20):
        cut, target = chain(image, label, 0, index).values()
        assert cut.shape == (64, 96, 3)
        padding = np.ones((64, 96), bool)
        padding[:50, :80] = False
        assert np.unique(cut[padding], axis=0).tolist() == [[round(value) for value in data["mean"]]]
        assert (target == np.where(padding, IGNORE, 4)).all()
        pictures.add(cut.tobytes())
    assert len(pictures) > 10  # flips and colours happened


def factors(count=2000, **options):
    crop = crop_of(size=(32, 32), **options)
    params = {"shape": (1000, 2000, 3)}
    scaled = [crop.get_params_dependent_on_data(params, {})["scaled"] for _ in range(count)]
    assert all(abs(width - 2 * height) <= 1 for height, width in scaled)
    return np.array([height / 1000 for height, _ in scaled])


def test_factors_are_uniform():
    drawn = factors(scale=(0.5, 2.0))
    assert drawn.min() == pytest.approx(0.5, abs=0.01)
    assert drawn.max() == pytest.approx(2.0, abs=0.01)
    assert drawn.mean() == pytest.approx(1.25, abs=0.04)  # 4 standard errors
    assert drawn.std() == pytest.approx(1.5 / np.sqrt(12), abs=0.02)


@pytest.mark.parametrize(
    ("scale", "step", "expected"),
    [
        ((0.5, 2.0), 0.1, np.arange(5, 21) / 10),
        ((0.5, 0.75), 0.25, [0.5, 0.75]),
        ((0.5, 0.78), 0.1, [0.5, 0.6, 0.7]),  # the range is a limit where the step does not divide it
        ((1.0, 1.0), 0.1, [1.0]),
    ],
)
def test_factors_in_steps(scale, step, expected):
    drawn, counts = np.unique(factors(scale=scale, scale_step=step), return_counts=True)
    assert drawn == pytest.approx(expected)
    assert counts.min() > 0.65 * counts.mean()


def test_windows_are_uniform():
    crop = crop_of(size=(50, 60), scale=(1.0, 1.0))
    windows = np.array([
        crop.get_params_dependent_on_data({"shape": (60, 90)}, {})["window"] for _ in range(4000)
    ])  # fmt: skip
    for start, last in ((windows[:, 0], 10), (windows[:, 1], 30)):
        counts = np.bincount(start, minlength=last + 1)
        assert len(counts) == last + 1
        chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        assert chi_square < 2.2 * last + 10  # beyond the 99.9 % quantile for 10 and for 30 degrees of freedom
    assert np.unique(windows[:, 2:] - windows[:, :2], axis=0).tolist() == [[50, 60]]


def test_labels_are_never_mixed():
    mask = np.random.default_rng(0).choice(np.array([3, 11, IGNORE], np.uint8), (200, 400))
    crop = crop_of()
    for _ in range(30):
        assert set(np.unique(draw(crop, smooth_frame(), mask)[2])) <= {3, 11, IGNORE}


def centre(weights):
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return np.array([(y * weights).sum(), (x * weights).sum()]) / weights.sum()


@pytest.mark.parametrize("scale", [0.52, 0.77, 1.0, 1.3, 1.9])
def test_image_and_label_stay_aligned(scale):
    """A white disc and its label keep their common centre; cv2.INTER_NEAREST would move the label."""
    mask = cv2.circle(np.zeros((200, 200), np.uint8), (100, 100), 30, 1, cv2.FILLED)
    image = np.dstack([mask * 255] * 3)
    steps = [RandomScaledCrop((150, 150), (scale, scale), max_category_ratio=1), A.HorizontalFlip(p=0.5)]
    chain = SeededTransform(steps, seed=0)
    distances = []
    for index in range(30):
        cut, label = chain(image, mask, 0, index).values()
        distances.append(centre(cut[..., 0]) - centre(label == 1))
    assert np.abs(distances).max() < 0.45
    assert np.abs(np.mean(distances, 0)).max() < 0.1


def test_the_flip_is_part_of_the_chain():
    image, mask = smooth_frame(64, 96), blocks(50, 75).repeat(2, 0)[:64, :72]
    mask = np.pad(mask, ((0, 0), (0, 24)))
    chain = SeededTransform(
        [RandomScaledCrop((64, 96), (1, 1), max_category_ratio=1), A.HorizontalFlip(p=0.5)], 0
    )
    flipped = 0
    for index in range(40):
        found_image, found_mask = chain(image, mask, 0, index).values()
        turn = np.fliplr if not np.array_equal(found_mask, mask) else np.asarray
        flipped += turn is np.fliplr
        assert np.array_equal(found_mask, turn(mask))
        assert np.array_equal(found_image, turn(image))
    assert 10 <= flipped <= 30


# ---- the limit for one category


def largest_share(label):
    counts = np.bincount(label[label != IGNORE], minlength=1)
    return counts.max() / counts.sum()


def one_corner():
    """200x200 of class 0, and others in the lower right corner, about a tenth of the area."""
    mask = np.zeros((200, 200), np.uint8)
    mask[-64:, -64:] = blocks(64, 64, size=8, seed=1) + 1
    return mask


def shares(mask, count=1500, **options):
    crop = crop_of(size=(50, 50), scale=(1.0, 1.0), **options)
    image = np.zeros((*mask.shape, 3), np.uint8)
    return np.array([largest_share(draw(crop, image, mask)[2]) for _ in range(count)])


@pytest.mark.parametrize("limit", [0.75, 0.5])
def test_windows_of_one_class_are_drawn_again(limit):
    """Ten draws find a fitting window unless all ten miss."""
    fits = (shares(one_corner(), max_category_ratio=1) < limit).mean()
    assert 0.02 < fits < 0.2
    found = (shares(one_corner(), max_category_ratio=limit) < limit).mean()
    assert found == pytest.approx(1 - (1 - fits) ** 10, abs=0.08)


class CountingCrop(RandomScaledCrop):
    drawn = 0

    def _draw_window(self, height, width):
        self.drawn += 1
        return super()._draw_window(height, width)


def number_of_draws(mask, limit=0.75):
    crop = CountingCrop((50, 50), (1.0, 1.0), max_category_ratio=limit)
    crop.set_random_seed(0)
    draw(crop, np.zeros((*mask.shape, 3), np.uint8), mask)
    return crop.drawn


def test_gives_up_after_ten_windows():
    assert number_of_draws(np.zeros((200, 200), np.uint8)) == 10
    assert number_of_draws(np.full((200, 200), IGNORE, np.uint8)) == 10


def test_takes_the_first_window_that_fits():
    assert number_of_draws(blocks(200, 200, size=10)) == 1
    assert number_of_draws(np.zeros((200, 200), np.uint8), limit=1) == 1


def test_ignored_pixels_do_not_count():
    mask = np.full((200, 200), IGNORE, np.uint8)
    mask[::5, ::5] = 5
    assert number_of_draws(mask, limit=0.99) == 10  # all that is labelled is of one class
    mask[1::5, 1::5] = 6
    assert number_of_draws(mask, limit=0.6) == 1  # half and half of what is labelled, though it is little


def test_the_share_is_that_of_the_scaled_window():
    """On a frame drawn at twice its size the window covers half as much of it."""
    mask = blocks(200, 200, size=25, classes=4)
    crop = crop_of(size=(50, 50), scale=(2.0, 2.0), max_category_ratio=0.6)
    image = np.zeros((200, 200, 3), np.uint8)
    assert np.mean([largest_share(draw(crop, image, mask)[2]) < 0.62 for _ in range(300)]) > 0.95
