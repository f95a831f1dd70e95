"""Checkpoints from anywhere: nothing in them runs, is resolved, or is written where it says."""

import copy
import math
import pickle

import pytest
import torch
from front_doors import TINY

from src.weights.checkpoint_files import AtomicCheckpointIO

QUIET = ("callbacks.summary=null", "callbacks.pictures=null")


class Bomb:
    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return open, (self.trace, "w")


@pytest.fixture
def judged(doors, trained_checkpoint, tmp_path):
    """Evaluates a checkpoint in which `change` has altered something."""
    content = torch.load(trained_checkpoint, weights_only=True)

    def judge(change, *overrides):
        changed = copy.deepcopy(content)
        change(changed)
        path = tmp_path / "given.ckpt"
        torch.save(changed, path)
        return doors("eval", f"checkpoint={path}", "trainer.accelerator=cpu", "pictures=0", *overrides)

    return judge


def _refused(outcome, *named: str) -> None:
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err + outcome.out
    for text in named:
        assert text in outcome.err, outcome.err
    assert not outcome.directory.exists()


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_bomb_does_not_go_off_in_an_evaluation(doors, tmp_path, write):
    path, trace = tmp_path / "bomb.ckpt", tmp_path / "trace"
    write({"state_dict": Bomb(trace)}, path)
    _refused(doors("eval", f"checkpoint={path}"), str(path), "nothing in the file was executed")
    assert not trace.exists()


def test_a_bomb_does_not_go_off_when_a_run_goes_on(doors, tmp_path):
    run = doors("train", *TINY, *QUIET)
    (run.directory / "metrics.json").unlink()
    trace, last = tmp_path / "trace", run.directory / "checkpoints/last.ckpt"
    torch.save({"state_dict": Bomb(trace)}, last)
    again = doors("train", *TINY, *QUIET)
    assert again.code == 2
    assert "nothing in the file was executed" in again.err
    assert "copy best.ckpt over it" in again.err
    assert "Traceback" not in again.err
    assert not trace.exists()


def _model(**changes):
    return lambda checkpoint: checkpoint["hyper_parameters"]["model"].update(changes)


def _data(**changes):
    return lambda checkpoint: checkpoint["hyper_parameters"]["data"].update(changes)


def _recorded(**changes):
    return lambda checkpoint: checkpoint["hyper_parameters"].update(changes)


CALL = {"_target_": "os.mkdir", "path": "made-by-a-checkpoint"}
INTERPOLATION = "${oc.env:CGNET_SECRET}"
HOSTILE = {
    "a foreign network": (_model(_target_="os.system"), "is not allowed"),
    "a network that is called": (_model(_target_="src.network.checks.refuse"), "is not allowed"),
    "a network that is no name": (_model(_target_=["os.system"]), "is not allowed"),
    "a target within": (_model(channels=CALL), "channels="),
    "a target in the preprocessing": (_model(preprocessing=CALL), "unknown argument '_target_'"),
    "a model that is none": (_recorded(model=["os.system"]), "hyper_parameters.model="),
    "endless blocks": (_model(num_blocks=[10**9, 10**9]), "integers from 1 to 128"),
    "blocks for hours": (_model(num_blocks=[4096, 4096]), "integers from 1 to 128"),
    "channels beyond memory": (_model(channels=[4096, 4096, 4096]), "do not fit the network"),
    "other classes": (_model(num_classes=200), "do not fit the network"),
    "a mean that is no number": (_model(preprocessing={"mean": [math.nan] * 3, "std": [1, 1, 1]}), "mean"),
    "data that is none": (_recorded(data=1), "hyper_parameters.data=1"),
    "data without a name": (lambda c: c["hyper_parameters"]["data"].pop("name"), "data.name is missing"),
    "a layout of another kind": (_data(layout=["camvid"]), "data.layout="),
    "labels of another kind": (_data(labels={}), "data.labels="),
    "classes of its own that are none": (
        _data(labels="classes", layout="folder", classes=[{"name": "a", "ids": [7, 10**9]}]),
        "data.classes[0].ids=",
    ),
    "a class for the terminal": (
        _data(labels="classes", classes=[{"name": "\x1b]0;x\x07", "ids": [1]}]),
        "data.classes[0].name=",
    ),
    "classes without end": (_data(labels="classes", classes=[{"name": "a"}] * 10**5), "data.classes: 100000"),
    "splits of another kind": (_data(splits={"train": ["x"]}), "data.splits.train="),
    "a pattern of another kind": (_data(images={"a": 1}), "data.images="),
    "a crop beyond memory": (_data(crop_size=[10**6, 10**6]), "data.crop_size="),
    "infinite numbers": (_data(std=[math.inf] * 3), "data.std="),
    "a root of another kind": (_data(root=3), "data.root=3"),
    "a street without end": (_data(street={"train": 10**12, "val": 1}), "data.street.train="),
    "workers without end": (_data(num_workers=10**6), "data.num_workers="),
    "an interpolated split": (_data(val_split=INTERPOLATION), "data.val_split='${oc.env:CGNET_SECRET}'"),
    "classes that are none": (_recorded(classes=7), "hyper_parameters.classes=7"),
    "an origin of another kind": (_recorded(began_from={"trained_on": 3}), "hyper_parameters.began_from="),
    "an origin for the terminal": (
        _recorded(began_from={"trained_on": [{"data": "\x1b]0;x\x07", "split": "val"}]}),
        "hyper_parameters.began_from=",
    ),
    "a precision of its own": (_recorded(precision="8-true"), "hyper_parameters.precision="),
    "an epoch that is none": (lambda c: c.update(epoch="x"), "epoch='x'"),
    "weights that are none": (lambda c: c.update(state_dict={"a": "b"}), "state_dict="),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_values_are_refused(judged, monkeypatch, tmp_path, kind):
    monkeypatch.setenv("CGNET_SECRET", "the-secret")
    change, named = HOSTILE[kind]
    outcome = judged(change)
    _refused(outcome, "checkpoint=" if "fit" in named else "", named)
    assert "the-secret" not in outcome.err


def test_recorded_strings_are_never_resolved(judged, monkeypatch):
    monkeypatch.setenv("CGNET_SECRET", "the-secret")
    outcome = judged(_data(street=None, root=f"/nowhere/{INTERPOLATION}"))
    _refused(outcome, f"/nowhere/{INTERPOLATION}")
    assert "the-secret" not in outcome.err + outcome.out


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["../../../etc/x", "street,camvid", "street hydra.run.dir=/x", "", "null"])
def test_a_recorded_group_is_looked_up_in_conf_alone(judged, name):
    outcome = judged(_data(name=name))
    assert outcome.code == 0, outcome.err  # all values are recorded, no group is needed


@pytest.mark.slow
def test_targets_in_what_only_training_uses_are_not_called(judged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = dict.fromkeys(("loss", "optimizer", "schedule", "augment"), CALL)
    assert judged(_recorded(training=training)).code == 0
    assert not (tmp_path / CALL["path"]).exists()


@pytest.mark.slow
def test_a_recorded_street_is_drawn_into_the_cache_alone(judged, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    outcome = judged(_data(root=str(elsewhere)))
    assert outcome.code == 0, outcome.err
    assert not elsewhere.exists()


def test_a_packed_checkpoint_is_refused(doors, tmp_path):
    import zipfile

    path = tmp_path / "packed.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**8))
    _refused(doors("eval", f"checkpoint={path}"), "compressed archive")


@pytest.mark.parametrize("name", ["", "../best.ckpt", "notes.txt"])
def test_a_path_in_a_checkpoint_deletes_nothing_else(tmp_path, name):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for file in (tmp_path / "best.ckpt", folder / "notes.txt", folder / "old.ckpt"):
        file.touch()
    AtomicCheckpointIO().remove_checkpoint(f"{folder}/{name}")
    assert len(list(tmp_path.rglob("*.*"))) == 3
    AtomicCheckpointIO().remove_checkpoint(folder / "old.ckpt")
    assert not (folder / "old.ckpt").exists()
