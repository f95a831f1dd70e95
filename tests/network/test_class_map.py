"""The class map without full-size logits equals that of the full-size logits, bit for bit."""

import pytest
import torch
import torch.nn.functional as F

from src.network import upsample as module
from src.network.upsample import best_class, class_map, upsample

FORMATS = pytest.mark.parametrize(
    "format", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"]
)


def noise(batch, classes, height, width, seed=0):
    return torch.randn(batch, classes, height, width, generator=torch.Generator().manual_seed(seed))


def regions(batch, classes, height, width):
    """Smooth logits, as those of a network: large parts of one class, and borders between them."""
    return F.interpolate(noise(batch, classes, 4, 5), (height, width), mode="bicubic")


@pytest.mark.parametrize("chunk", [1, 20_000, 2**30], ids=["one by one", "some", "whole"])
@pytest.mark.parametrize("logits", [noise, regions])
@pytest.mark.parametrize(
    ("coarse", "size"),
    [
        ((13, 17), (104, 136)),
        ((13, 17), (52, 68)),
        ((13, 17), (26, 34)),
        ((13, 17), (13, 17)),
        ((13, 17), (97, 133)),
        ((13, 17), (104, 68)),
        ((1, 1), (8, 8)),
        ((1, 7), (16, 112)),
    ],
    ids=str,
)
@FORMATS
def test_it_is_that_of_the_whole_logits(monkeypatch, chunk, logits, coarse, size, format):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    scores = logits(2, 5, *coarse).contiguous(memory_format=format)
    found = class_map(scores, size)
    assert found.dtype == torch.uint8
    assert torch.equal(found, upsample(scores, size).argmax(1).to(torch.uint8))


@pytest.mark.parametrize("change", [0.0, 1e-7, 1e-6, 1e-5], ids=str)
@FORMATS
def test_two_classes_that_rounding_decides(change, format):
    scores = noise(2, 5, 13, 16)
    scores[:, 1] = scores[:, 0] * (1 + change * noise(2, 1, 13, 16, seed=1)[:, 0])
    scores = scores.contiguous(memory_format=format)
    assert torch.equal(class_map(scores, (104, 128)), upsample(scores, (104, 128)).argmax(1))


def test_mixed_precision_rounds_no_logits():
    scores = regions(1, 11, 13, 16)
    expected = class_map(scores, (104, 128))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module._by_cells(scores, 8)[0], expected)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite(value):
    scores = noise(1, 5, 13, 16)
    scores[:, 2, 6, 7] = value
    assert torch.equal(class_map(scores, (104, 128)), best_class(upsample(scores, (104, 128))))


def test_one_class():
    assert not class_map(noise(1, 1, 5, 6), (40, 48)).any()


def test_what_is_not_exact_differs_where_rounding_decides_alone():
    scores = regions(1, 11, 32, 64)
    full = upsample(scores, (256, 512))
    found = class_map(scores, (256, 512), exact=False)
    lost = full.max(1).values - full.gather(1, found[:, None].long())[:, 0]
    assert (found == full.argmax(1)).double().mean() > 0.9999
    assert lost.max() < 1e-5


def test_full_size_logits_never_exist(monkeypatch):
    scores = regions(1, 19, 128, 256)
    largest = 0
    for name in ("upsample", "_best"):
        original = getattr(module, name)

        def watched(logits, *arguments, original=original):
            nonlocal largest
            result = original(logits, *arguments)
            largest = max(largest, logits.numel(), result.numel() if torch.is_tensor(result) else 0)
            return result

        monkeypatch.setattr(module, name, watched)
    class_map(scores, (1024, 2048))
    assert 0 < largest * 4 <= 2 * module._CHUNK, "all would be 159 MB"


def test_little_is_computed_away_from_borders(monkeypatch):
    computed = 0
    original = module._best

    def watched(logits, least):
        nonlocal computed
        computed += logits.shape[0] * logits.shape[-1] if logits.ndim == 3 else 0
        return original(logits, least)

    monkeypatch.setattr(module, "_best", watched)
    class_map(regions(1, 11, 64, 128), (512, 1024))
    assert 0 < computed < 512 * 1024 / 4
