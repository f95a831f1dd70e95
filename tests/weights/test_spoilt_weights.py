"""Weights that nothing can be computed with are refused where they are read, by evaluation and training."""

import copy
import math
import shutil

import pytest
import torch
from front_doors import TINY
from published_networks import MmsegNetwork, randomized

QUIET = (*TINY, "callbacks=ema", "callbacks.summary=null", "callbacks.pictures=null", "trainer.max_epochs=1")
NORM = "segmenter.network.stage2.0.f_joi.norm"
VARIANCE, WEIGHT = f"{NORM}.running_var", "segmenter.network.stage1.1.conv.weight"
COUNT = f"{NORM}.num_batches_tracked"


def _with(key, change):
    return lambda checkpoint: checkpoint["state_dict"].update({key: change(checkpoint["state_dict"][key])})


def _one(value):
    def change(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[3] = value
        return tensor

    return change


SPOILT = {
    "NaN": (_with(WEIGHT, _one(math.nan)), WEIGHT, "NaN or infinity, 1 of 9,216 numbers"),
    "infinity": (_with(WEIGHT, _one(math.inf)), WEIGHT, "NaN or infinity, 1 of"),
    "beyond float32": (_with(WEIGHT, lambda t: _one(1e300)(t.double())), WEIGHT, "NaN or infinity, 1 of"),
    "negative variance": (_with(VARIANCE, _one(-1e-12)), VARIANCE, "negative variances, 1 of 64 numbers"),
    "int8": (_with(WEIGHT, lambda t: t.char()), WEIGHT, "numbers of type int8, expected float32"),
    "a switch": (_with(WEIGHT, lambda t: t > 0), WEIGHT, "numbers of type bool, expected float32"),
    "complex": (_with(WEIGHT, lambda t: t.to(torch.complex64)), "", "ComplexFloatStorage"),
    "quantized": (
        _with(WEIGHT, lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)),
        "",
        "QInt8Storage",
    ),
    "sparse": (_with(WEIGHT, lambda t: t.to_sparse()), WEIGHT, "_rebuild_sparse_tensor"),
    "meta": (_with(WEIGHT, lambda t: t.to("meta")), WEIGHT, "_rebuild_meta_tensor"),
    "expanded": (
        _with(WEIGHT, lambda t: t.flatten()[:1].expand(t.numel()).view(t.shape)),
        WEIGHT,
        "a stride of 0",
    ),
    "a broken counter": (_with(COUNT, lambda t: t + 0.5), COUNT, "expected int64"),
}


@pytest.fixture(scope="module")
def trained(module_doors):
    outcome = module_doors("train", *QUIET, name="trained")
    assert outcome.code == 0, outcome.err
    return outcome


@pytest.fixture(scope="module")
def content(trained):
    return torch.load(trained.directory / "checkpoints/last.ckpt", weights_only=True)


def _spoilt(content, change, path):
    changed = copy.deepcopy(content)
    change(changed)
    torch.save(changed, path)
    return path


def _refused(outcome, *named):
    assert outcome.code == 2, outcome.out
    assert "Traceback" not in outcome.out + outcome.err
    assert "learning rate" not in outcome.err
    for text in named:
        assert text in outcome.err, outcome.err


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", SPOILT)
def test_an_evaluation_refuses(doors, content, tmp_path, kind):
    change, name, problem = SPOILT[kind]
    path = _spoilt(content, change, tmp_path / "spoilt.ckpt")
    outcome = doors("eval", f"checkpoint={path}", "trainer.accelerator=cpu")
    _refused(outcome, f"checkpoint={path}", name.removeprefix("segmenter."), problem)
    assert not outcome.directory.exists()


def test_finite_weights_that_are_too_large_for_the_arithmetic(doors, content, tmp_path):
    path = _spoilt(content, lambda c: c["state_dict"][WEIGHT].fill_(1e38), tmp_path / "large.ckpt")
    outcome = doors("eval", f"checkpoint={path}", "trainer.accelerator=cpu", "pictures=0")
    _refused(
        outcome,
        f"checkpoint={path}: its network's logits for an image are NaN or infinite",
        "trainer.precision=32-true",
    )
    assert "metrics.json" not in outcome.files


@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", ["NaN", "negative variance"])
def test_fine_tuning_refuses(doors, content, tmp_path, kind):
    change, name, problem = SPOILT[kind]
    path = _spoilt(content, change, tmp_path / "spoilt.ckpt")
    _refused(
        doors("train", *QUIET, f"checkpoint={path}"), str(path), name.removeprefix("segmenter."), problem
    )


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("key", "change", "problem"),
    [
        ("backbone.level1.1.bn.running_var", _one(-0.5), "negative variances, 1 of"),
        ("backbone.stem.1.conv.weight", _one(math.inf), "NaN or infinity, 1 of"),
        ("backbone.stem.1.conv.weight", lambda t: _one(1e300)(t.double()), "NaN or infinity, 1 of"),
    ],
)
def test_published_weights_are_looked_at_alike(doors, tmp_path, key, change, problem):
    state = dict(randomized(MmsegNetwork(m=2, n=2)).state_dict())
    state[key] = change(state[key])
    path = tmp_path / "published.pth"
    torch.save({"state_dict": state}, path)
    _refused(doors("eval", f"checkpoint={path}", "trainer.accelerator=cpu"), str(path), key, problem)


def _first_state(checkpoint):
    return checkpoint["optimizer_states"][0]["state"][0]


def _best(checkpoint):
    return next(state for key, state in checkpoint["callbacks"].items() if key.startswith("RunCheckpoint"))


SPOILT_STATES = {
    "weights": (_with(WEIGHT, _one(math.nan)), f"state_dict.{WEIGHT}: NaN or infinity, 1 of"),
    "trained weights beside the average": (
        lambda c: c["current_model_state"].update({VARIANCE: -c["current_model_state"][VARIANCE]}),
        f"current_model_state.{VARIANCE}: negative variances",
    ),
    "a moment": (lambda c: _first_state(c)["exp_avg"].fill_(math.nan), "0.state.0.exp_avg: NaN or infinity"),
    "a moment of another shape": (
        lambda c: _first_state(c).update(exp_avg=torch.zeros(2)),
        "state.0.exp_avg=",
    ),
    "no step yet": (lambda c: _first_state(c).update(step=torch.tensor(-1.0)), "state.0.step="),
    "a learning rate": (
        lambda c: c["optimizer_states"][0]["param_groups"][0].update(lr="0.1"),
        "param_groups.0.lr='0.1'",
    ),
    "other weights": (lambda c: c["state_dict"].pop(WEIGHT), WEIGHT),
    "int8": (_with(WEIGHT, lambda t: t.char()), "numbers of type int8"),
    "a loop": (
        lambda c: c["loops"]["fit_loop"]["epoch_progress"]["total"].update(ready="2"),
        "total.ready='2'",
    ),
    "only weights": (
        lambda c: [c.pop(key) for key in ("optimizer_states", "lr_schedulers", "callbacks")],
        "callbacks, optimizer_states, lr_schedulers missing",
    ),
    "no counters": (
        lambda c: [c.pop(key) for key in ("epoch", "global_step", "loops")],
        "epoch, global_step, loops missing",
    ),
    "no loops": (lambda c: c["loops"].pop("fit_loop"), "loops.fit_loop is missing"),
    "a loop less": (
        lambda c: c["loops"]["fit_loop"].pop("epoch_progress"),
        "loops.fit_loop.epoch_progress is missing",
    ),
    "a switch of the optimizer": (
        lambda c: c["optimizer_states"][0]["param_groups"][0].update(capturable=True),
        "param_groups.0.capturable=True",
    ),
    "best.ckpt elsewhere": (lambda c: _best(c).update(best_model_path="x"), "best_model_path=x is not in"),
    "a best score less": (lambda c: _best(c).update(kth_best_model_path="x"), "kth_best_model_path=x"),
    "two best scores": (
        lambda c: _best(c).update(best_k_models=dict.fromkeys(_best(c)["best_k_models"], torch.zeros(2))),
        "a best score is not a number",
    ),
    "no groups": (
        lambda c: c.update(optimizer_states=[{1: 2}]),
        "optimizer_states.state=None",
    ),
    "no metrics": (lambda c: c.update(train_metrics=[1]), "train_metrics="),
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", SPOILT_STATES)
def test_a_run_does_not_go_on_from_them(module_doors, trained, content, kind):
    change, problem = SPOILT_STATES[kind]
    run = module_doors.folder / "train/stopped"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(trained.directory, run)
    (run / "metrics.json").unlink()
    _spoilt(content, change, run / "checkpoints/last.ckpt")
    outcome = module_doors("train", *QUIET, name="stopped")
    _refused(outcome, f"{run}/checkpoints/last.ckpt", problem, "copy best.ckpt over it")
    shutil.copyfile(run / "checkpoints/best.ckpt", run / "checkpoints/last.ckpt")  # the advice
    if kind == "weights":
        assert module_doors("train", *QUIET, name="stopped").code == 0
