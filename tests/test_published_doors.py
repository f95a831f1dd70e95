"""Published checkpoints through `python -m src.eval`: what is said, recorded and refused."""

import cv2
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
    randomized,
    save_pickle,
)

from src.data.dataset import read_target
from src.data.layouts import find_pairs
from src.labels import LABEL_TABLES

CPU = ("trainer.accelerator=cpu", "pictures=0", "data.num_workers=0")
SIZE = {"m": 2, "n": 2}


def _matrix(network, mean, layout, root, table):
    """The confusion matrix that the family's own network gets, by itself."""
    classes = table.num_classes
    matrix = np.zeros((classes, classes), np.int64)
    for pair in find_pairs(layout, root, "val"):
        image = torch.from_numpy(cv2.imread(str(pair.image))[..., ::-1].transpose(2, 0, 1).copy())[None]
        predicted = logits(network, image, mean).argmax(1)[0].numpy()
        target = read_target(pair, table)
        known = target != 255
        np.add.at(matrix, (target[known], predicted[known]), 1)
    return matrix


@pytest.mark.sampled(1)
@pytest.mark.parametrize("family", ["authors", "mmseg", "ssseg", "paddle"])
def test_eval_is_the_family_s_own_evaluation(doors, tmp_path, street_root, camvid_root, family):
    """From the file alone, which tells its dataset by the number of classes."""
    path, camvid = tmp_path / "weights", family in ("authors", "paddle")
    make = {"mmseg": MmsegNetwork, "ssseg": SssegNetwork}.get(family, AuthorsNetwork)
    network = randomized(make(11 if camvid else 19, **SIZE))
    if family == "paddle":
        save_pickle(paddle_arrays(network), path)
    else:
        torch.save({"model": network.state_dict()}, path)
    root = camvid_root if camvid else street_root
    judged = doors("eval", f"checkpoint={path}", f"data.root={root}", *CPU)
    assert judged.code == 0, judged.err
    facts = {
        key: judged.metrics[key]
        for key in ("checkpoint", "trained_on", "epoch", "precision", "data", "split")
    }
    assert facts == {
        "checkpoint": str(path),
        "trained_on": None,
        "epoch": None,
        "precision": "32-true",
        "data": "camvid" if camvid else "cityscapes",
        "split": "val",
    }
    assert f"published by {judged.metrics['family']}" in judged.out
    unknown = "nobody recorded which images these weights were trained on"
    assert f"{unknown} ({judged.metrics['family']})" in judged.out
    name = "camvid" if camvid else "cityscapes"
    mean = CAMVID if camvid else CITYSCAPES
    expected = _matrix(network, mean, name, root, LABEL_TABLES[name])
    found = np.array(judged.metrics["confusion_matrix"])
    assert found.sum() == expected.sum() > 0
    assert np.abs(found - expected).sum() <= 4, "beyond the rounding of float32"
    assert (found.sum(0) > 0).sum() > 2, "several classes are predicted, or equality says little"


def _weights(path, network):
    torch.save({"state_dict": network.state_dict()}, path)
    return path


def _refused(outcome, *texts):
    assert outcome.code == 2, outcome.out
    assert "Traceback" not in outcome.err
    for text in texts:
        assert text in outcome.err, outcome.err
    assert not outcome.directory.exists()


def test_other_classes_than_the_dataset_s(doors, tmp_path, camvid_root, street_root):
    path = _weights(tmp_path / "w", MmsegNetwork(19, **SIZE))
    outcome = doors("eval", f"checkpoint={path}", "data=camvid", f"data.root={camvid_root}", *CPU)
    _refused(outcome, "a network for 19 classes (those of cityscapes)", "data=cityscapes data.root=...")
    path = _weights(tmp_path / "w", MmsegNetwork(5, **SIZE))
    outcome = doors("eval", f"checkpoint={path}", f"data.root={street_root}", *CPU)
    _refused(outcome, "a network for 5 classes", "has 19 of its own")


@pytest.mark.slow
def test_classes_that_no_dataset_is_known_by(doors, tmp_path, street_root, monkeypatch):
    """As for a user's own table in src/labels.py."""
    from src.weights import recorded_network, trained_network

    for module in (recorded_network, trained_network):
        monkeypatch.setattr(module, "DATASETS", {})
    path = _weights(tmp_path / "w", randomized(AuthorsNetwork(5, **SIZE)))
    _refused(doors("eval", f"checkpoint={path}", f"data.root={street_root}", *CPU), "for 5 classes, but")
    path = _weights(tmp_path / "w", randomized(SssegNetwork(19, **SIZE)))
    judged = doors("eval", f"checkpoint={path}", f"data.root={street_root}", *CPU)
    assert judged.code == 0, judged.err
    assert "Their order is taken to be that of cityscapes" in judged.out


@pytest.mark.slow
def test_an_unknown_mean_is_the_dataset_s(doors, tmp_path, street_root, monkeypatch):
    from src.weights import published

    def unknown(family, weights, classifier, model=published.model_of):
        return model(family, weights, classifier)[0], False

    monkeypatch.setattr(published, "model_of", unknown)
    network = randomized(AuthorsNetwork(19, **SIZE))
    path = _weights(tmp_path / "w", network)
    root = f"data.root={street_root}"
    judged = doors("eval", f"checkpoint={path}", root, "data.mean=[90.0,80.0,70.0]", *CPU)
    assert "data.mean=[90.0, 80.0, 70.0] is" in judged.out
    table = LABEL_TABLES["cityscapes"]
    expected = _matrix(network, (90, 80, 70), "cityscapes", street_root, table)
    assert np.abs(np.array(judged.metrics["confusion_matrix"]) - expected).sum() <= 4


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "trainval"])
def test_any_split_may_have_been_seen(doors, tmp_path, street_root, split):
    path = _weights(tmp_path / "w", MmsegNetwork(**SIZE))
    judged = doors("eval", f"checkpoint={path}", f"data.root={street_root}", f"data.split={split}", *CPU)
    assert f"They may have seen '{split}' of cityscapes" in judged.out


def test_files_that_are_no_checkpoint(doors, tmp_path):
    path = tmp_path / "w"
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, path)
    _refused(doors("eval", f"checkpoint={path}", *CPU), f"checkpoint={path}: no CGNet in it", "conv1.weight")
    whole = _weights(path, MmsegNetwork(**SIZE)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    _refused(doors("eval", f"checkpoint={path}", *CPU), f"checkpoint={path}", "damaged")


@pytest.mark.slow
def test_the_authors_camvid_weights_reach_what_the_authors_code_measures(doors, real_data):
    """Measured with their code on these 101 images; the network was trained on them."""
    weights = real_data / "weights/cgnet_camvid_author.pth"
    root = f"data.root={real_data / 'camvid'}"
    judged = doors("eval", f"checkpoint={weights}", "data=camvid", root, "data.split=val")
    assert judged.metrics["mIoU"] == pytest.approx(0.8568, abs=5e-4)
    assert judged.metrics["num_images"] == 101
