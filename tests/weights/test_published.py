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

from src.network.segmenter import Segmenter
from src.weights.checkpoint_files import read_weights_file
from src.weights.published import read_published

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


@pytest.mark.sampled(9)
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


def test_other_tensors(networks, tmp_path):
    """Parameters, views of one memory, and the memory of convolutions in NHWC."""
    network = networks["ssseg"]
    state = network.float().state_dict()
    together = torch.cat([value.flatten() for value in state.values() if value.is_floating_point()])
    begin, views = 0, {}
    for key, value in state.items():
        if value.is_floating_point():
            views[key] = together[begin : begin + value.numel()].view(value.shape)
            begin += value.numel()
    forms = {
        "parameters": {k: torch.nn.Parameter(v) for k, v in state.items() if v.is_floating_point()},
        "views": views,
        "NHWC": {k: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in state.items()},
        "bfloat16": {k: v.bfloat16() for k, v in state.items()},
    }
    for name, form in forms.items():
        for archive in (True, False):
            torch.save({"model": form}, tmp_path / "w", _use_new_zipfile_serialization=archive)
            assert difference(read(tmp_path / "w"), network) < (0.1 if name == "bfloat16" else 1e-6), name


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


def test_averages_beside_the_weights(networks, tmp_path):
    """mmcv 1's among the weights, mmengine's and SSSegmentation's in a dict of their own, torch's alone."""
    mmseg, ssseg = (networks[name].float().state_dict() for name in ("mmseg", "ssseg"))
    others = {key: value + 1 for key, value in mmseg.items()}
    other_ssseg = {key: value + 1 for key, value in ssseg.items()}
    among = {f"ema_{key.replace('.', '_')}": value for key, value in others.items()}
    beside = {"steps": torch.tensor(7)} | prefixed(others)
    files = {
        "mmcv 1": ("mmseg", {"meta": {"epoch": 1}, "state_dict": mmseg | among}),
        "mmengine": ("mmseg", {"ema_state_dict": beside, "state_dict": mmseg}),
        "SSSegmentation": ("ssseg", {"model_ema": other_ssseg, "model": ssseg}),
        "torch": ("mmseg", {"n_averaged": torch.tensor(7)} | prefixed(mmseg)),
        "mmengine's alone": ("mmseg", {"ema_state_dict": {"steps": torch.tensor(7)} | prefixed(mmseg)}),
    }
    for name, (family, content) in files.items():
        torch.save(content, tmp_path / "w")
        assert difference(read(tmp_path / "w"), networks[family]) < 1e-6, name


def test_the_author_s_own_file(real_data):
    published = read(real_data / "weights/cgnet_camvid_author.pth")
    state = torch.load(real_data / "weights/cgnet_camvid_author.pth", "cpu", weights_only=True)["model"]
    network = AuthorsNetwork(11)
    network.load_state_dict(state)
    assert published.model["num_blocks"] == [3, 21]
    assert difference(published, network.eval(), CAMVID) < 1e-6
