"""`load(path)(image)`: what docs/prediction.md shows to those who never train."""

import numpy as np
import pytest
import torch

from src.errors import UserError
from src.inference import load
from src.labels import CITYSCAPES


@pytest.fixture(scope="module")
def checkpoint(trained_checkpoint):
    return str(trained_checkpoint)


@pytest.fixture(scope="module")
def network(checkpoint):
    return load(checkpoint, device="cpu")


def image(height=64, width=96):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_one_image_and_a_batch(network):
    alone = network(image())
    assert (alone.dtype, alone.shape) == (np.uint8, (64, 96))
    batch = np.stack([image(), image()[::-1]]).transpose(0, 3, 1, 2)
    together = network(np.ascontiguousarray(batch))
    assert np.array_equal(together[0], alone)
    assert not np.array_equal(together[1], alone)
    assert np.array_equal(network(torch.from_numpy(image())), alone)


def test_a_mirrored_view_of_an_array_is_taken(network):
    assert np.array_equal(network(image()[:, ::-1]), network(image()[:, ::-1].copy()))


def test_logits_and_probabilities(network):
    logits, probabilities = network.logits(image()), network.probabilities(image())
    assert logits.shape == probabilities.shape == (19, 64, 96)
    assert logits.dtype == probabilities.dtype == np.float32
    assert np.allclose(probabilities.sum(0), 1, atol=1e-5)
    assert np.array_equal(logits.argmax(0), network(image()))
    exponentials = np.exp(logits - logits.max(0))
    assert np.allclose(probabilities, exponentials / exponentials.sum(0), atol=1e-5)


def test_classes_and_colours_are_those_of_the_training(network):
    assert network.classes == CITYSCAPES.class_names
    assert np.array_equal(network.colors, CITYSCAPES.colors)
    assert network.provenance["trained_on"] == [{"data": "street_tiny", "split": "train"}]


def test_views_and_windows(checkpoint, network):
    views = load(checkpoint, device="cpu", tta={"scales": [0.75, 1.0], "flip": True})
    assert np.allclose(views.probabilities(image()).sum(0), 1, atol=1e-5)
    assert np.array_equal(views.probabilities(image()).argmax(0), views(image()))
    with pytest.raises(ValueError, match="probabilities"):
        views.logits(image())
    windows = load(checkpoint, device="cpu", window=(64, 64), stride=(64, 32))
    assert np.array_equal(windows(image()), windows.logits(image()).argmax(0))
    assert not np.array_equal(windows.logits(image()), network.logits(image()))


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (np.zeros((64, 96, 3)), "float64: expected uint8"),
        (np.zeros((64, 96), np.uint8), "(64, 96)"),
        (np.zeros((64, 96, 4), np.uint8), "(64, 96, 4)"),
        (np.zeros((1, 64, 96, 3), np.uint8), "(B, 3, H, W)"),
        (None, "cv2.imread returns None"),
        ("photo.png", "photo.png"),
        (np.zeros((0, 96, 3), np.uint8), "it has no pixels"),
    ],
)
def test_what_is_no_image_is_refused(network, wrong, part):
    with pytest.raises(ValueError, match=r"^image (is|has shape) ") as error:
        network(wrong)
    assert part in str(error.value)


@pytest.mark.parametrize(
    ("views", "said"),
    [
        ({"window": (64, 64), "stride": (96, 64)}, "a stride larger than the window"),
        ({"stride": (32, 32)}, "give window="),
        ({"input_scale": 0}, "input_scale=0: expected"),
        ({"tta": {"flips": True}}, "tta.flips does not exist: tta has scales and flip"),
        ({"tta": {"scales": [0.5, 5.0]}}, "tta.scales=[0.5, 5.0]: expected"),
    ],
)
def test_what_the_commands_refuse_is_refused(checkpoint, views, said):
    with pytest.raises(UserError) as error:
        load(checkpoint, **views)
    assert said in error.value.text


def test_a_path_and_an_array_that_is_read_only(trained_checkpoint, network, recwarn):
    pixels = image()
    pixels.flags.writeable = False
    assert np.array_equal(load(trained_checkpoint, device="cpu")(pixels), network(image()))
    assert not [str(w.message) for w in recwarn if "writable" in str(w.message)]


def test_a_file_that_is_not_there():
    with pytest.raises(UserError, match=r"nowhere\.ckpt"):
        load("nowhere.ckpt")
