"""Views, windows and scales against networks whose answer is known, and against plain loops."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src.errors import UserError
from src.inference.views import Inference, resize_image, scaled, window_spans
from src.network.cgnet import CGNet
from src.network.segmenter import Segmenter

PLAIN = {
    "tta": {"scales": [1.0], "flip": False},
    "window": None,
    "stride": None,
    "input_scale": 1.0,
}


def image(height=48, width=80, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


def smooth_image(height, width):
    """Without noise, so that resizing loses little of it."""
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 5, width), indexing="ij")
    planes = torch.stack([y.sin(), (x + y).cos(), x.sin()])
    return ((planes + 1) * 127).to(torch.uint8)[None]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    segmenter = Segmenter(CGNet(num_classes=5, num_blocks=(1, 1)), mean=[110.0] * 3, std=[30.0] * 3).eval()
    for layer in segmenter.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return segmenter


def by_colour(pixels):
    """Looks at single pixels: logits that any resizing, window or flip carries along unchanged."""
    x = pixels.float() / 255
    return torch.stack([x[:, 0], x[:, 1] * 2, x[:, 2] - x[:, 0], x[:, 1] * x[:, 2]], 1)


def by_place(pixels):
    """Class 1 in the left half of what it sees, class 0 in the right one, whatever the picture."""
    left = torch.arange(pixels.shape[-1]) < pixels.shape[-1] // 2
    scores = torch.stack([~left, left]).float() * 6
    return scores[None, :, None].expand(len(pixels), -1, pixels.shape[-2], -1).clone()


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"tta": None},
        {"window": [48, 80]},
        {"window": [48, 80], "stride": [1, 1]},
        {"input_scale": 0.5, "tta": {"scales": [2.0], "flip": False}},
        {"input_scale": 1},
    ],
    ids=str,
)
def test_nothing_to_do_is_plain_evaluation_to_the_bit(network, keys):
    inference = Inference.from_config(network, PLAIN | keys)
    assert torch.equal(inference(image()), network(image()))


def test_a_class_that_depends_on_the_side_is_undecided_when_mirrored():
    scores = Inference(by_place, flip=True)(image(width=81))
    plain = Inference(by_place)(image(width=81)).softmax(1)
    assert torch.allclose(scores, (plain + plain.flip(-1)) / 2)
    assert torch.allclose(scores[..., 0], torch.tensor(0.5))
    assert torch.allclose(scores[..., 40], plain[..., 40]), "the middle column is its own mirror image"


def test_flip_changes_nothing_for_a_network_that_knows_no_sides():
    scores = Inference(by_colour, flip=True)(image())
    assert torch.allclose(scores, by_colour(image()).softmax(1))


def test_flip_makes_any_network_equivariant(network):
    inference = Inference(network, scales=(1.0, 0.5), flip=True)
    pixels = smooth_image(64, 96)
    mirrored = inference(pixels.flip(-1)).flip(-1)
    assert torch.allclose(inference(pixels), mirrored, atol=1e-5)
    assert not torch.allclose(network(pixels), network(pixels.flip(-1)).flip(-1), atol=1e-3)


def test_views_are_averaged_as_probabilities(network):
    pixels, scales = image(64, 96), (0.5, 1.0, 1.5)
    found = Inference(network, scales, flip=True)(pixels)
    expected = []
    for scale in scales:
        for mirrored in (False, True):
            size = (int(64 * scale), int(96 * scale))
            view = F.interpolate(pixels.float(), size, mode="bilinear", align_corners=False)
            view = (view + 0.5).floor().to(torch.uint8)
            logits = network(view.flip(-1)).flip(-1) if mirrored else network(view)
            expected.append(F.interpolate(logits, (64, 96), mode="bilinear").softmax(1))
    assert torch.allclose(found, torch.stack(expected).mean(0), atol=1e-5)
    assert torch.allclose(found.sum(1), torch.ones(2, 64, 96), atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.25, 1.5, 1.75, 2.0])
def test_images_are_resized_as_opencv_does(scale):
    pixels = image(50, 70, batch=1)
    size = scaled((50, 70), scale)
    found = resize_image(pixels, size)
    assert found.dtype == torch.uint8
    wanted = cv2.resize(pixels[0].permute(1, 2, 0).numpy(), size[::-1], interpolation=cv2.INTER_LINEAR)
    difference = np.abs(found[0].permute(1, 2, 0).numpy().astype(int) - wanted)
    assert difference.max() <= 1, "OpenCV rounds its weights, and on its way"
    assert (difference == 0).mean() > (1 - 1e-9 if scale == 0.5 else 0.85)


def test_a_single_view_at_another_scale_gives_logits_at_full_size():
    pixels = smooth_image(64, 96)
    for config in ({"input_scale": 0.5}, {"tta": {"scales": [0.5], "flip": False}}):
        scores = Inference.from_config(by_colour, PLAIN | config)(pixels)
        assert scores.shape == (1, 4, 64, 96)
        assert (scores - by_colour(pixels)).abs().max() < 0.08


def test_input_scale_multiplies_the_scales():
    seen = []

    def network(pixels):
        seen.append(tuple(pixels.shape[-2:]))
        return by_colour(pixels)

    config = PLAIN | {"input_scale": 0.5, "tta": {"scales": [1.0, 1.5], "flip": True}, "window": [40, 64]}
    Inference.from_config(network, config)(image(128, 192))
    half = [(40, 64)] * 4  # 64x96, in strides of [27, 43]
    assert seen == half * 2 + [(40, 64)] * 12 * 2, "96x144: rows from 0, 27, 54, 56; columns from 0, 43, 80"


@pytest.mark.parametrize(
    ("length", "window", "stride"),
    [
        (1024, 512, 341),
        (2048, 1024, 683),
        (100, 33, 33),
        (100, 33, 7),
        (99, 33, 33),
        (33, 33, 1),
        (20, 33, 5),
        (35, 33, 33),
        (34, 33, 1),
    ],
)
def test_windows_cover_every_pixel_and_stay_inside(length, window, stride):
    spans = list(window_spans(length, window, stride))
    seen = np.zeros(length, int)
    for span in spans:
        seen[span] += 1
        assert span.stop - span.start == min(window, length)
    assert seen.min() >= 1
    starts = [span.start for span in spans]
    assert starts[0] == 0
    assert spans[-1].stop == length
    assert len(set(starts)) == len(starts), "no window twice"
    assert all(b - a == stride for a, b in pairwise(starts[:-1]))
    # mmsegmentation's number of windows, EncoderDecoder.slide_inference
    assert len(spans) == max(length - window + stride - 1, 0) // stride + 1


@pytest.mark.parametrize(
    ("window", "stride"), [((32, 32), (13, 32)), ((40, 64), (27, 43)), ((48, 33), (1, 11))]
)
def test_overlapping_windows_are_averaged(network, window, stride):
    pixels = image(48, 80)
    found = Inference(network, window=window, stride=stride)(pixels)
    total, count = torch.zeros(2, 5, 48, 80, dtype=torch.float64), torch.zeros(48, 80)
    top = 0
    while True:
        y = min(top, 48 - window[0])
        left = 0
        while True:
            x = min(left, 80 - window[1])
            part = slice(y, y + window[0]), slice(x, x + window[1])
            total[..., *part] += network(pixels[..., *part])
            count[part] += 1
            if x + window[1] >= 80:
                break
            left += stride[1]
        if y + window[0] >= 48:
            break
        top += stride[0]
    assert count.min() >= 1
    assert torch.allclose(found.double(), total / count, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window": (32, 32), "stride": (13, 32)},
        {"window": (40, 64), "stride": (27, 43)},
        {"window": (48, 33), "stride": (1, 11)},
        {"window": (33, 80), "stride": (33, 80)},
        {"scales": (0.75,), "window": (32, 48), "stride": (20, 20)},
        {"scales": (0.75, 1.0), "flip": True},
    ],
    ids=str,
)
def test_the_class_map_is_that_of_the_scores(network, options):
    inference = Inference(network, **options)
    for pixels in (image(48, 80), image(67, 101, batch=1)):
        found = inference.class_map(pixels)
        assert found.dtype == torch.uint8
        assert torch.equal(found, inference(pixels).argmax(1))


def test_windows_of_a_class_map_hold_one_row_of_windows(network, monkeypatch):
    pixels = image(32 * 9, 80, batch=1)
    inference = Inference(network, window=(32, 40), stride=(32, 20))
    largest = 0
    zeros = torch.Tensor.new_zeros

    def watched(tensor, *size):
        nonlocal largest
        made = zeros(tensor, *size)
        largest = max(largest, made.numel())
        return made

    monkeypatch.setattr(torch.Tensor, "new_zeros", watched)
    inference.class_map(pixels)
    assert largest == 5 * 32 * 80


def test_a_view_smaller_than_the_window_is_seen_whole(network):
    pixels = image(64, 96)
    found = Inference(network, (0.5, 1.0), window=(64, 96), stride=(43, 64))(pixels)
    assert torch.equal(found, Inference(network, (0.5, 1.0))(pixels))


def test_the_image_is_left_as_it_was(network):
    pixels = image()
    before = pixels.clone()
    Inference(network, (0.75, 1.0), flip=True, window=(32, 48), stride=(16, 16))(pixels)
    assert torch.equal(pixels, before)


def test_images_too_small_for_a_scale_or_a_window():
    sizes = [(64, 128), (64, 96)]
    Inference(by_colour, (0.5, 1.0), window=(64, 128), stride=(1, 1)).check_sizes(sizes)
    with pytest.raises(UserError, match=r"128x64 pixels times 0\.4 .* are 51x26, .* at least 32x32"):
        Inference(by_colour, (1.0, 0.4)).check_sizes(sizes)
    with pytest.raises(UserError, match=r"window=\[65, 128\].* at most \[64, 128\] pixels at these scales"):
        Inference(by_colour, window=(65, 128), stride=(1, 1)).check_sizes(sizes)
    Inference(by_colour, (2.0,), window=(65, 128), stride=(1, 1)).check_sizes(sizes)
    with pytest.raises(UserError, match=r"window=\[16, 64\]: the network needs at least 32x32"):
        Inference(by_colour, window=(16, 64), stride=(8, 8)).check_sizes(sizes)

    class Deep(torch.nn.Identity):
        min_size = 96

    with pytest.raises(UserError, match="the network needs at least 96x96"):
        Inference(Deep()).check_sizes(sizes)


def test_default_stride_is_two_thirds_of_the_window():
    inference = Inference.from_config(by_colour, PLAIN | {"window": [769, 512]})
    assert inference.stride == (513, 341)  # as mmsegmentation's Cityscapes configs have it for 769
