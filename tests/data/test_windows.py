"""Crop first is resize first: the proofs that cutting before resizing changes the cost and nothing else."""

import cv2
import numpy as np
import pytest

from src.data.augment import RandomScaledCrop
from src.data.windows import cut_image, cut_label, source_window
from src.labels import IGNORE

RNG = np.random.default_rng(0)
FACTORS = [0.5, 0.73, 0.75, 0.9995, 1.0, 1.004, 1.1, 1.25, 1.37, 2.0, "any"]


def photograph(height=256, width=512):
    """Texture at every scale, from blobs to single pixels: a shift by half a pixel changes every value."""
    rng, image = np.random.default_rng(1), np.zeros((height, width, 3))
    for step in (64, 16, 4, 1):
        layer = rng.normal(0, 20 * step**0.3, (-(-height // step), -(-width // step), 3)).astype(np.float32)
        image += cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + 128, 0, 255).astype(np.uint8)


def nearest(label, scaled):
    """The whole label resized, by the definition: the source pixel under each centre."""
    rows, columns = (
        [(2 * i + 1) * length // (2 * size) for i in range(size)]
        for length, size in zip(label.shape, scaled, strict=True)
    )
    return label[rows][:, columns]


def windows(factor, count=25, size=(128, 256), frame=(256, 512)):
    """(window, scaled) as the transform draws them."""
    scale = (0.5, 2.0) if factor == "any" else (factor, factor)
    crop = RandomScaledCrop(size, scale, max_category_ratio=1)
    crop.set_random_seed(3)
    for _ in range(count):
        params = crop.get_params_dependent_on_data({"shape": frame}, {})
        yield params["window"], params["scaled"]


@pytest.mark.parametrize("factor", FACTORS)
def test_the_image_is_that_of_the_whole_resized_frame(factor):
    image = photograph()
    for window, scaled in windows(factor):
        top, left, bottom, right = window
        whole = cv2.resize(image, scaled[::-1], interpolation=cv2.INTER_LINEAR)[top:bottom, left:right]
        off = np.abs(cut_image(image, window, scaled).astype(int) - whole)
        assert off.shape == (bottom - top, right - left, 3)
        assert off.mean() < 1
        assert off.max() <= 16
        border = np.ones(off.shape[:2], bool)
        border[1:-1, 1:-1] = False
        assert off[border].mean() < 1.2  # no seam either


def test_half_a_pixel_would_be_seen():
    """The bound above has something to find: what the plain resized window is off by."""
    image, off = photograph(), []
    for window, scaled in windows("any"):
        top, left, bottom, right = window
        whole = cv2.resize(image, scaled[::-1], interpolation=cv2.INTER_LINEAR)[top:bottom, left:right]
        y, x, y_end, x_end = source_window(window, scaled, image.shape[:2])
        plain = cv2.resize(image[y:y_end, x:x_end], whole.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        off.append(np.abs(plain.astype(int) - whole).mean())
    assert np.mean(off) > 2


@pytest.mark.parametrize("factor", FACTORS)
def test_the_label_is_that_of_the_whole_resized_frame(factor):
    label = RNG.integers(0, 256, (256, 512), dtype=np.uint8)
    for window, scaled in windows(factor):
        top, left, bottom, right = window
        cut = cut_label(label, window, scaled)
        assert np.array_equal(cut, nearest(label, scaled)[top:bottom, left:right])


@pytest.mark.parametrize("factor", sorted(set(FACTORS[:-1]) - {0.75, 1.25}))  # there every third is a tie
def test_the_label_is_opencvs_but_for_ties(factor):
    label = RNG.integers(0, 256, (256, 512), dtype=np.uint8)
    for window, scaled in windows(factor):
        top, left, bottom, right = window
        whole = cv2.resize(label, scaled[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        assert (cut_label(label, window, scaled) == whole[top:bottom, left:right]).mean() > 0.95


@pytest.mark.parametrize("frame", [(1, 1), (7, 300), (300, 7), (33, 47), (128, 256)])
def test_frames_of_any_size(frame):
    image = RNG.integers(0, 256, (*frame, 3), dtype=np.uint8)
    for window, scaled in windows("any", frame=frame):
        size = window[2] - window[0], window[3] - window[1]
        assert cut_image(image, window, scaled).shape == (*size, 3)
        assert cut_label(image[..., 0], window, scaled).shape == size
        y, x, y_end, x_end = source_window(window, scaled, frame)
        assert 0 <= y < y_end <= frame[0]
        assert 0 <= x < x_end <= frame[1]


@pytest.mark.parametrize("scale", [(0, 1), (-1, 2), (2, 1), (0.5, 17)])
def test_factors_that_make_no_sense(refused, scale):
    with refused("RandomScaledCrop", scale[0], scale[1]):
        RandomScaledCrop((32, 32), scale)


# ---- the distribution, against a plain resize-first crop with generators of its own


def resize_first(rng, frame, size, scale=(0.5, 2.0)):
    """(factor, share of the frame's width left of the crop, aspect of the visible part) of one crop."""
    factor = rng.uniform(*scale)
    height, width = (round(length * factor) for length in frame)
    top = rng.integers(0, max(0, height - size[0]) + 1)
    left = rng.integers(0, max(0, width - size[1]) + 1)
    visible = min(height - top, size[0]), min(width - left, size[1])
    return factor, left / width, top / height, visible[1] / visible[0]


@pytest.mark.parametrize(("frame", "size"), [((1024, 2048), (512, 1024)), ((360, 480), (360, 360))])
def test_scale_position_and_aspect_have_the_distribution_of_resize_first(frame, size):
    ours = [
        (scaled[0] / frame[0], left / scaled[1], top / scaled[0], (right - left) / (bottom - top))
        for (top, left, bottom, right), scaled in windows("any", 3000, size, frame)
    ]
    rng = np.random.default_rng(5)
    theirs = [resize_first(rng, frame, size) for _ in range(3000)]
    for mine, other in zip(np.transpose(ours), np.transpose(theirs), strict=True):
        grid = np.union1d(mine, other)
        cdf = [np.searchsorted(np.sort(values), grid, side="right") / 3000 for values in (mine, other)]
        distance = np.abs(cdf[0] - cdf[1]).max()  # Kolmogorov-Smirnov
        assert distance < 1.95 * np.sqrt(2 / 3000)  # beyond the 99.9 % quantile


# ---- the image is not touched before the label has decided


class Untouchable:
    """Stands for an image whose pixels must not be looked at."""

    shape = (200, 400, 3)

    def __getattr__(self, name):
        raise AssertionError(f"the image's {name} was used")


def test_the_label_alone_decides():
    crop = RandomScaledCrop((64, 96), max_category_ratio=0.75)
    crop.set_random_seed(0)
    label = np.zeros((200, 400), np.uint8)
    label[:, 250:] = RNG.integers(0, 19, (200, 150))
    label[:50] = IGNORE
    for _ in range(20):
        params = crop.get_params_dependent_on_data(
            {"shape": Untouchable.shape}, {"image": Untouchable(), "mask": label}
        )
        ids = cut_label(label, params["window"], params["scaled"])
        counts = np.bincount(ids[ids != IGNORE], minlength=19)
        assert counts.max() < 0.77 * counts.sum()
