"""Weights of others, in every shape that they are saved in, give the logits of their own networks."""

import argparse
import pickle
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from published_networks import (
    CAMVID,
    CITYSCAPES,
    AuthorsNetwork,
    MmsegNetwork,
    SssegNetwork,
    logits,
    paddle_arrays,
    prefixed,
    randomized,
    save_pickle,
)

from src.checkpoints import read_weights_file
from src.errors import UserError
from src.network.published import read_published
from src.network.segmenter import Segmenter

SIZE = {"m": 2, "n": 3}
NETWORKS = {"authors": AuthorsNetwork, "mmseg": MmsegNetwork, "ssseg": SssegNetwork}
FAMILY = {"authors": "the authors' code", "mmseg": "mmsegmentation", "ssseg": "SSSegmentation"}


def image(height=45, width=67):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=generator)


def read(path):
    return read_published(read_weights_file(path))


def segmenter(published):
    made = Segmenter.from_config(published.model)
    made.load_state_dict(published.weights)
    return made.eval().double()


@torch.no_grad()
def difference(published, network, mean=CITYSCAPES, order="rgb"):
    """Largest, relative to the logits' spread."""
    expected = logits(network, image(), mean, order)
    return ((segmenter(published)(image()) - expected).abs().max() / expected.std()).item()


@pytest.fixture(scope="module")
def networks():
    return {name: randomized(make(**SIZE)) for name, make in NETWORKS.items()}


class HistoryBuffer:
    """Stands for the classes of a training's logs, which a reader does not have."""

    def __init__(self):
        self.values = np.arange(3.0)


def surrounded(state):
    """As a training saves it: beside its optimizer, logs, arguments and numbers of all kinds."""
    return {
        "meta": {"epoch": np.float64(3), "cfg": argparse.Namespace(lr=1), "time": "now"},
        "message_hub": {"log_scalars": OrderedDict(loss=HistoryBuffer()), "runtime": defaultdict(list)},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "state_dict": state,
        "cur_epoch": 3,
    }


WRAPPINGS = {
    "bare": lambda state: state,
    "model": lambda state: {"epoch": 300, "model": state},
    "state_dict": lambda state: {"state_dict": state},
    "of a training": surrounded,
    "module": lambda state: {"model": prefixed(state)},
    "twice": lambda state: {"state_dict": {"model": prefixed(state, "_orig_mod.module.")}},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("family", NETWORKS)
def test_logits_are_the_family_s_own(networks, tmp_path, family, wrapping, legacy):
    path = tmp_path / "weights.pth"
    content = WRAPPINGS[wrapping](networks[family].float().state_dict())
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    published = read(path)
    assert published.family == FAMILY[family]
    assert published.model["num_blocks"] == [2, 3]
    assert difference(published, networks[family]) < 1e-6


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_paddle_s_arrays(networks, tmp_path, protocol):
    arrays = paddle_arrays(networks["authors"])
    save_pickle(
        arrays | {"StructuredToParameterName@@": {key: key for key in arrays}}, tmp_path / "p", protocol
    )
    published = read(tmp_path / "p")
    assert published.family == "a PaddlePaddle conversion"
    assert published.skipped == ("StructuredToParameterName@@",)
    assert difference(published, networks["authors"]) < 1e-6


class AsTuple:
    """PaddlePaddle since 2.1 saves a tensor as `tuple` of one argument, (name, array)."""

    def __init__(self, *content):
        self.content = content

    def __reduce__(self):
        return tuple, (self.content,)


def test_paddle_s_other_forms(networks, tmp_path):
    arrays = paddle_arrays(networks["authors"])
    forms = {
        "tuples": pickle.dumps({key: AsTuple(key, array) for key, array in arrays.items()}, 2),
        "numpy 1": pickle.dumps(arrays, 2).replace(b"numpy._core.", b"numpy.core."),
        "nested": pickle.dumps({"model": OrderedDict(arrays)}, 4),
        "big-endian": pickle.dumps({key: array.astype(">f4") for key, array in arrays.items()}, 4),
        "float64": pickle.dumps({key: array.astype(float) for key, array in arrays.items()}, 5),
    }
    for name, content in forms.items():
        (tmp_path / "p").write_bytes(content)
        assert difference(read(tmp_path / "p"), networks["authors"]) < 1e-6, name
    torch.save({key: torch.from_numpy(array.copy()) for key, array in arrays.items()}, tmp_path / "p")
    assert difference(read(tmp_path / "p"), networks["authors"]) < 1e-6


@pytest.mark.parametrize("classifier", ["", "0", "1"])
def test_the_authors_classifier_has_several_names(tmp_path, classifier):
    network = randomized(AuthorsNetwork(**SIZE, classifier=classifier))
    torch.save({"model": network.state_dict()}, tmp_path / "w")
    assert difference(read(tmp_path / "w"), network) < 1e-6


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-2), (torch.float64, 1e-6)])
def test_other_precisions_become_float32(networks, tmp_path, dtype, tolerance):
    network = networks["mmseg"]
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in network.float().state_dict().items()}
    torch.save(state, tmp_path / "w")
    published = read(tmp_path / "w")
    assert {v.dtype for v in published.weights.values()} == {torch.float32, torch.int64}
    assert difference(published, network) < tolerance


def test_what_equality_would_catch(tmp_path):
    """Each mistake that a conversion could make moves the logits by a thousand times the tolerance above."""
    network = randomized(MmsegNetwork(**SIZE))
    torch.save(network.state_dict(), tmp_path / "w")
    published = read(tmp_path / "w")
    assert difference(published, network, mean=CAMVID) > 1e-3
    assert difference(published, network, order="bgr") > 1e-3
    other_eps = MmsegNetwork(**SIZE, eps=1e-5)
    other_eps.load_state_dict(network.state_dict())
    assert difference(published, other_eps.eval()) > 1e-3
    for mistake in ("bias", "loc_sur", "concatenation", "slopes"):
        wrong = randomized(MmsegNetwork(**SIZE))
        state = wrong.state_dict()
        if mistake == "bias":
            state["decode_head.conv_seg.bias"].zero_()
        elif mistake == "loc_sur":
            loc, sur = (state[f"backbone.level2.1.{key}.weight"] for key in ("f_loc", "f_sur"))
            loc.copy_(sur), sur.copy_(loc.clone())
        elif mistake == "concatenation":
            state["decode_head.conv_seg.weight"].copy_(state["decode_head.conv_seg.weight"].roll(128, 1))
        else:
            state["backbone.level1.1.activate.weight"].zero_()
        assert difference(published, wrong) > 1e-3, mistake


def test_classes_and_means(tmp_path):
    for make, classes, mean, known in (
        (AuthorsNetwork, 19, CITYSCAPES, True),
        (AuthorsNetwork, 11, CAMVID, True),
        (AuthorsNetwork, 5, CITYSCAPES, False),
        (MmsegNetwork, 11, CITYSCAPES, True),
        (SssegNetwork, 150, CITYSCAPES, True),
    ):
        network = randomized(make(classes, **SIZE))
        torch.save(network.state_dict(), tmp_path / "w")
        published = read(tmp_path / "w")
        assert (published.num_classes, published.mean_is_known) == (classes, known)
        assert difference(published, network, mean) < 1e-6


def test_any_depth_is_told_by_the_names(tmp_path):
    for make in NETWORKS.values():
        for m, n in ((1, 1), (3, 15), (3, 21)):
            torch.save(make(m=m, n=n).state_dict(), tmp_path / "w")
            assert read(tmp_path / "w").model["num_blocks"] == [m, n]


def test_counters_may_be_missing_and_heads_of_training_are_left_out(networks, tmp_path):
    network = networks["mmseg"]
    state = {k: v for k, v in network.float().state_dict().items() if "num_batches" not in k}
    state |= {
        "auxiliary_head.conv_seg.weight": torch.zeros(19, 128, 1, 1),
        "backbone.total_ops": torch.zeros(1),
    }
    torch.save(state, tmp_path / "w")
    published = read(tmp_path / "w")
    assert published.skipped == ("auxiliary_head.conv_seg.weight",)
    assert difference(published, network) < 1e-6


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
    "no tensor": (lambda s: s.update({"backbone.stem.0.bn.bias": HistoryBuffer()}), "HistoryBuffer"),
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


def test_the_author_s_own_file(real_data):
    published = read(real_data / "weights/cgnet_camvid_author.pth")
    state = torch.load(real_data / "weights/cgnet_camvid_author.pth", "cpu", weights_only=True)["model"]
    network = AuthorsNetwork(11)
    network.load_state_dict(state)
    assert published.model["num_blocks"] == [3, 21]
    assert difference(published, network.eval(), CAMVID) < 1e-6
