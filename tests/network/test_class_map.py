"""The class map without full-size logits equals that of the full-size logits, bit for bit."""

import pytest
import torch

from src.network import upsample as module
from src.network.upsample import best_class, class_map, upsample


@pytest.mark.parametrize("strip", [1, 20_000, 2**30], ids=["row by row", "some rows", "whole"])
@pytest.mark.parametrize(
    ("coarse", "size"),
    [
        ((13, 17), (104, 136)),
        ((13, 17), (52, 68)),
        ((13, 17), (13, 17)),
        ((13, 17), (97, 133)),
        ((1, 1), (8, 8)),
    ],
    ids=str,
)
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
def test_it_is_that_of_the_whole_logits(monkeypatch, strip, coarse, size, format):
    monkeypatch.setattr(module, "_STRIP", strip)
    logits = torch.randn(2, 5, *coarse, generator=torch.Generator().manual_seed(0))
    logits[:, 1] = logits[:, 0]  # ties
    logits = logits.contiguous(memory_format=format)
    found = class_map(logits, size)
    assert found.dtype == torch.uint8
    assert torch.equal(found, upsample(logits, size).argmax(1).to(torch.uint8))


def test_only_a_strip_of_logits_exists_at_a_time(monkeypatch):
    sizes = []

    def counted(scores):
        sizes.append(scores.numel())
        return best_class(scores)

    monkeypatch.setattr(module, "best_class", counted)
    class_map(torch.zeros(1, 19, 128, 256), (1024, 2048))
    assert max(sizes) * 4 <= module._STRIP
