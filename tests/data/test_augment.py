import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from src.data.augment import PhotometricDistortion, RandomScaledCrop, SeededTransform
from src.data.dataset import SegmentationDataset
from src.data.layouts import find_pairs
from src.data.samplers import TrainSampler
from src.labels import CITYSCAPES, IGNORE

FILL = (72.39, 82.91, 73.16)
FILLED = [72, 83, 73]


def smooth_frame(height=200, width=400):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 31) + np.cos(y / 23), np.cos(x / 41), np.sin((x + y) / 37)]
    return np.stack([(wave / 2 + 1) * 100 for wave in waves], -1).astype(np.uint8)


def blocks(height=200, width=400, size=25, classes=19, seed=0):
    """A label of squares."""
    coarse = np.random.default_rng(seed).integers(0, classes, (height // size, width // size), dtype=np.uint8)
    return coarse.repeat(size, 0).repeat(size, 1)


def crop_of(seed=0, size=(64, 96), **options):
    crop = RandomScaledCrop(size, **{"fill": FILL, "max_category_ratio": 1, **options})
    crop.set_random_seed(seed)
    return crop


def draw(crop, image, mask):
    """The drawn window and scaled size, and what the transform makes of them."""
    params = crop.get_params_dependent_on_data({"shape": image.shape}, {"mask": mask})
    return params, crop.apply(image, **params), crop.apply_to_mask(mask, **params)


# ---- the whole chain is a function of (seed, epoch, index)


def transform(seed=0):
    steps = [RandomScaledCrop((48, 64), fill=FILL), A.HorizontalFlip(p=0.5), PhotometricDistortion()]
    return SeededTransform(steps, seed)


def batches_by_epoch(root, epochs, workers, seed=0):
    """{epoch: images, targets and names in their order}, from one DataLoader."""
    dataset = SegmentationDataset(find_pairs("cityscapes", root, "train"), CITYSCAPES, transform(seed))
    sampler = TrainSampler(len(dataset), batch_size=4, seed=seed)
    loader = DataLoader(
        dataset, batch_size=4, sampler=sampler, num_workers=workers, persistent_workers=workers > 0, drop_last=True
    )
    found = {}
    for epoch in epochs:
        sampler.set_epoch(epoch)
        batches = list(loader)
        found[epoch] = (
            torch.cat([batch["image"] for batch in batches]),
            torch.cat([batch["target"] for batch in batches]),
            sum((batch["name"] for batch in batches), []),
        )
    return found


def assert_same(one, other):
    assert one[2] == other[2]
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(street_root, workers):
    here, there = (batches_by_epoch(street_root, (0, 1, 2), n) for n in (0, workers))
    for epoch in here:
        assert_same(here[epoch], there[epoch])


def test_a_restart_at_a_later_epoch_changes_nothing(street_root):
    whole = batches_by_epoch(street_root, (0, 1, 2), workers=0)
    rest = batches_by_epoch(street_root, (2,), workers=2)
    assert_same(whole[2], rest[2])


def outcomes(keys, seed=0):
    image, mask = smooth_frame(), blocks()
    chain = transform(seed)
    return [chain(image, mask, epoch, index)["image"].tobytes() for epoch, index in keys]


def test_seed_epoch_and_index_each_matter():
    keys = [(epoch, index) for epoch in range(5) for index in range(5)]
    found = outcomes(keys) + outcomes(keys, seed=1)
    assert len(set(found)) == 50


def test_samples_do_not_depend_on_those_before():
    keys = [(epoch, index) for epoch in range(3) for index in range(3)]
    assert outcomes(keys) == outcomes(keys[::-1])[::-1]


# ---- RandomScaledCrop


@pytest.mark.parametrize("frame", [(200, 400), (40, 50), (64, 96), (30, 300)])
@pytest.mark.parametrize("size", [(64, 96), (96, 64), (33, 47)])
def test_the_size_is_always_as_asked(frame, size):
    crop, image, mask = crop_of(size=size), smooth_frame(*frame), np.zeros(frame, np.uint8)
    for _ in range(20):
        _, cut, label = draw(crop, image, mask)
        assert cut.shape == (*size, 3)
        assert label.shape == size
        assert cut.dtype == label.dtype == np.uint8


def test_padding_lies_at_the_bottom_and_the_right():
    crop = crop_of(size=(64, 96), scale=(0.5, 0.5))
    _, cut, label = draw(crop, np.full((100, 160, 3), 200, np.uint8), np.full((100, 160), 4, np.uint8))
    assert (cut[:50, :80] == 200).all()
    assert (label[:50, :80] == 4).all()
    assert np.unique(cut[50:].reshape(-1, 3), axis=0).tolist() == [FILLED]
    assert np.unique(cut[:, 80:].reshape(-1, 3), axis=0).tolist() == [FILLED]
    assert (label[50:] == IGNORE).all()
    assert (label[:, 80:] == IGNORE).all()


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


@pytest.mark.parametrize("scale", [(0.5, 0.5), (0.73, 0.73), (1.0, 1.0), (1.37, 1.37), (2.0, 2.0), (0.2, 0.4)])
def test_the_same_as_resizing_the_whole_frame_first(scale):
    image, mask = smooth_frame(400, 800), blocks(400, 800, size=100)
    crop, equal = crop_of(size=(128, 192), scale=scale), []
    for _ in range(10):
        params, cut, label = draw(crop, image, mask)
        (top, left, bottom, right), (height, width) = params["window"], params["scaled"]
        whole = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)[top:bottom, left:right]
        ids = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)[top:bottom, left:right]
        inside = np.s_[: bottom - top, : right - left]
        assert np.abs(cut[inside].astype(int) - whole).mean() < 1
        equal.append((label[inside] == ids).mean())
    assert np.mean(equal) > 0.99
    assert min(equal) > 0.98


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
    """A white disc and its label keep the same centre: cv2.INTER_NEAREST would move the label half a pixel."""
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
    chain = SeededTransform([RandomScaledCrop((64, 96), (1, 1), max_category_ratio=1), A.HorizontalFlip(p=0.5)], 0)
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
    mask[::2, ::2] = 5
    assert number_of_draws(mask) == 10  # one class, though it covers a quarter
    mask[1::2, 1::2] = 6
    assert number_of_draws(mask) == 1


def test_the_share_is_that_of_the_scaled_window():
    """On a frame drawn at twice its size the window covers half as much of it."""
    mask = blocks(200, 200, size=25, classes=4)
    crop = crop_of(size=(50, 50), scale=(2.0, 2.0), max_category_ratio=0.6)
    image = np.zeros((200, 200, 3), np.uint8)
    assert np.mean([largest_share(draw(crop, image, mask)[2]) < 0.62 for _ in range(300)]) > 0.95


# ---- PhotometricDistortion

NOTHING = {"added": 0.0, "contrast": 1.0, "contrast_first": True, "saturation": 1.0, "hue": 0}
COLORS = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def distort(image, **drawn):
    before = image.copy()
    found = PhotometricDistortion().apply(image, **{**NOTHING, **drawn})
    assert found.dtype == np.uint8
    assert np.array_equal(image, before)
    return found


def float_distortion(image, added, contrast, contrast_first, saturation, hue):
    """mmsegmentation's order of operations, with colours as float numbers throughout."""
    image = np.clip(image.astype(np.float32) + added, 0, 255)
    if contrast_first:
        image = np.clip(image * contrast, 0, 255)
    hsv = cv2.cvtColor(image / 255, cv2.COLOR_RGB2HSV)  # hue in degrees, saturation in 0-1
    hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0, 1)
    hsv[..., 0] = (hsv[..., 0] + 2 * hue) % 360
    image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
    if not contrast_first:
        image = np.clip(image * contrast, 0, 255)
    return image


@pytest.mark.parametrize("first", [True, False])
def test_nothing_drawn_changes_nothing(first):
    assert np.array_equal(distort(COLORS, contrast_first=first), COLORS)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("added", [-32, 17])
def test_brightness_is_added(added, first):
    expected = np.clip(COLORS.astype(int) + added, 0, 255)
    assert np.array_equal(distort(COLORS, added=float(added), contrast_first=first), expected)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("contrast", [0.5, 1.5])
def test_contrast_is_a_factor(contrast, first):
    expected = np.clip(COLORS * contrast, 0, 255).astype(np.uint8)
    assert np.array_equal(distort(COLORS, contrast=contrast, contrast_first=first), expected)


def test_contrast_comes_before_or_after_the_colours():
    # Cut off at white before the saturation grows: it has nothing left to work on.
    image = np.full((1, 1, 3), (220, 175, 200), np.uint8)
    early = distort(image, contrast=1.5, saturation=1.5, contrast_first=True)
    late = distort(image, contrast=1.5, saturation=1.5, contrast_first=False)
    assert np.ptp(early) == 0
    assert np.ptp(late) > 0


def test_hue_turns_red_into_green():
    red = np.full((2, 2, 3), (200, 0, 0), np.uint8)
    assert distort(red, hue=60)[0, 0].tolist() == [0, 200, 0]
    assert distort(red, hue=-60)[0, 0].tolist() == [0, 0, 200]


def test_saturation_leaves_grey_and_the_brightest_channel():
    grey = np.full((2, 2, 3), 90, np.uint8)
    assert np.array_equal(distort(grey, saturation=1.5), grey)
    assert np.array_equal(distort(COLORS, saturation=0.6).max(-1), COLORS.max(-1))


def drawn_params(count=2000, **options):
    step = PhotometricDistortion(**options)
    step.set_random_seed(0)
    return [step.get_params() for _ in range(count)]


@pytest.mark.parametrize("chunk", range(4))
def test_close_to_float_arithmetic(chunk):
    image = cv2.resize(smooth_frame(), (100, 50))
    for params in drawn_params(40)[chunk::4]:
        difference = np.abs(distort(image, **params) - float_distortion(image, **params))
        assert difference.mean() < 2
        assert difference.max() < 12  # 8 bits hold a hue to 2 degrees


@pytest.mark.parametrize(
    ("key", "low", "high", "neutral"),
    [("added", -32, 32, 0), ("contrast", 0.5, 1.5, 1), ("saturation", 0.5, 1.5, 1), ("hue", -18, 18, 0)],
)
def test_ranges_and_chances(key, low, high, neutral):
    values = np.array([params[key] for params in drawn_params()])
    drawn = values[values != neutral]
    chance = 0.5 * (36 / 37 if key == "hue" else 1)
    assert len(drawn) / len(values) == pytest.approx(chance, abs=0.05)
    margin = 0.03 * (high - low)
    assert low <= drawn.min() < low + margin
    assert high - margin < drawn.max() <= high
    assert drawn.mean() == pytest.approx(neutral, abs=margin)


def test_contrast_comes_first_in_half_of_the_cases():
    assert np.mean([params["contrast_first"] for params in drawn_params()]) == pytest.approx(0.5, abs=0.05)


def test_ranges_are_options():
    for params in drawn_params(200, brightness=0, contrast=(1, 1), saturation=(1.0, 1.2), hue=0):
        assert params["added"] == params["hue"] == 0
        assert params["contrast"] == 1
        assert 1 <= params["saturation"] <= 1.2


def test_distortion_leaves_the_label_alone():
    mask = blocks(64, 64, size=8)
    for index in range(5):
        assert np.array_equal(SeededTransform([PhotometricDistortion()], 0)(COLORS, mask, 0, index)["target"], mask)
