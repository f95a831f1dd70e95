import cv2
import numpy as np
import pytest

from src.data.augment import PhotometricDistortion, SeededTransform

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


def test_close_to_float_arithmetic():
    blurred = cv2.GaussianBlur(COLORS, (7, 7), 0)
    image = np.vstack([COLORS, blurred])  # vivid colours, and those near grey
    for params in drawn_params(60):
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


def test_the_label_is_left_alone():
    mask = np.random.default_rng(0).integers(0, 19, (64, 64), dtype=np.uint8)
    for index in range(5):
        assert np.array_equal(
            SeededTransform([PhotometricDistortion()], 0)(COLORS, mask, 0, index)["target"], mask
        )
