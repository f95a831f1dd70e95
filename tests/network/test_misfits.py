"""Files that are not a published CGNet, or not a whole one: which keys, which shapes."""

from collections import OrderedDict

import pytest
import torch
from published_networks import MmsegNetwork, randomized

from src.errors import UserError
from src.weights.checkpoint_files import read_weights_file
from src.weights.published import read_published

SIZE = {"m": 2, "n": 3}


def read(path):
    return read_published(read_weights_file(path))


class LogBuffer:
    """Stands for the classes of a training's logs, which a reader does not have."""


def changed(network, change):
    state = OrderedDict(network.float().state_dict())
    change(state)
    return {"state_dict": state}


MISFITS = {
    "missing": (
        lambda s: s.pop("backbone.level2.1.f_sur.weight"),
        "backbone.level2.1.f_sur.weight (64, 1, 3, 3)",
    ),
    "no head": (
        lambda s: s.pop("decode_head.conv_seg.weight"),
        "decode_head.conv_seg.weight (19, 256, 1, 1)",
    ),
    "a gap": (lambda s: [s.pop(k) for k in list(s) if ".level2.1." in k], "missing (17)"),
    "a shape": (
        lambda s: s.update({"backbone.level1.1.bn.weight": torch.zeros(7)}),
        "backbone.level1.1.bn.weight: (7,), expected (64,)",
    ),
    "unknown": (lambda s: s.update({"decode_head.convs.0.conv.weight": torch.zeros(3)}), "unknown (1)"),
    "NaN": (lambda s: s["backbone.stem.0.bn.bias"].fill_(torch.nan), "NaN"),
    "whole numbers": (lambda s: s.update({"backbone.stem.0.bn.bias": torch.zeros(32).int()}), "type int32"),
    "no tensor": (lambda s: s.update({"backbone.stem.0.bn.bias": LogBuffer()}), "LogBuffer"),
    "depth without end": (
        lambda s: s.update({"backbone.level2.99999.f_loc.weight": torch.zeros(3)}),
        "num_blocks=[2, 100000] is not allowed",
    ),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_what_does_not_fit_is_named(tmp_path, kind):
    change, text = MISFITS[kind]
    torch.save(changed(randomized(MmsegNetwork(**SIZE)), change), tmp_path / "w")
    with pytest.raises(UserError, match="mmsegmentation's keys, but") as error:
        read(tmp_path / "w")
    assert text in error.value.text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            {"state_dict": {"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}},
            "conv1.weight, fc.bias",
        ),
        ({"meta": 1}, "these 1 keys: meta"),
        ([1, 2], "holds a list, no dict of weights"),
        (torch.nn.Conv2d(1, 1, 1), "holds torch.nn.modules.conv.Conv2d, no dict of weights"),
    ],
)
def test_files_of_no_family(tmp_path, content, text):
    torch.save(content, tmp_path / "w")
    with pytest.raises(UserError) as error:
        read(tmp_path / "w")
    assert text in error.value.text
    assert "nothing in the file was executed" in error.value.text
