"""The first weights: whose they are said to be."""

import math

import pytest
import torch
from torch import nn

from src.network.cgnet import CGNet

DRAWS = 5


def rms(init, name):
    torch.manual_seed(0)
    values = [CGNet(init=init, classifier_bias=True).state_dict()[name] for _ in range(DRAWS)]
    return float(torch.stack(values).double().square().mean().sqrt())


# Kaiming normal: sqrt(2 / fan). PyTorch's own is uniform within 1 / sqrt(fan in).
STEM, DEPTHWISE, LINEAR, CLASSIFIER = (
    "stage1.0.conv.weight", "stage2.0.f_sur.weight", "stage3.0.f_glo.fc1.weight", "classifier.weight",
)  # fmt: skip
EXPECTED = {
    "authors": {
        STEM: math.sqrt(2 / 27),
        DEPTHWISE: math.sqrt(2 / 9),
        LINEAR: 1 / math.sqrt(3 * 128),
        CLASSIFIER: math.sqrt(2 / 256),
    },
    "torch": {
        STEM: 1 / math.sqrt(3 * 27),
        DEPTHWISE: 1 / math.sqrt(3 * 9),
        LINEAR: 1 / math.sqrt(3 * 128),
        CLASSIFIER: 1 / math.sqrt(3 * 256),
    },
    "mmsegmentation": {
        STEM: math.sqrt(2 / (32 * 9)),
        DEPTHWISE: math.sqrt(2 / (32 * 9)),
        LINEAR: math.sqrt(2 / 8),
        CLASSIFIER: 0.01,
    },
}


@pytest.mark.parametrize("init", EXPECTED)
def test_spread_of_the_weights(init):
    for name, expected in EXPECTED[init].items():
        assert rms(init, name) == pytest.approx(expected, rel=0.06), name


@pytest.mark.parametrize(("init", "slope"), [("authors", 0.25), ("torch", 0.25), ("mmsegmentation", 0.0)])
def test_slopes_and_biases(init, slope):
    network = CGNet(init=init, classifier_bias=True)
    slopes = [m.weight for m in network.modules() if isinstance(m, nn.PReLU)]
    assert all((values == slope).all() for values in slopes)
    assert bool(network.classifier.bias.any()) == (init == "torch")
    linear = [m.bias for m in network.modules() if isinstance(m, nn.Linear)]
    assert all(bool(bias.any()) == (init != "mmsegmentation") for bias in linear)


def test_without_saying_they_are_the_authors():
    """Checkpoints of before do not say it."""
    torch.manual_seed(3)
    one = CGNet().state_dict()
    torch.manual_seed(3)
    other = CGNet(init="authors").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="init"):
        CGNet(init="nobody")
