"""A loss or weights that are not finite end the training, and no checkpoint takes them in."""

import pytest
import torch
from faults import fault
from front_doors import TINY

from src.training.callbacks.nan_guard import _to_host
from src.training.module import SegmentationModule
from src.weights.checkpoint_files import load_checkpoint

QUIET = ("callbacks.summary=null", "callbacks.pictures=null")


def _is_finite(path) -> bool:
    return all(bool(value.isfinite().all()) for value in load_checkpoint(path)["state_dict"].values())


def _explode_after(step: int, monkeypatch, value: float = float("nan")) -> None:
    """The loss of that step (from 0) is the value, and with it the weights from then on."""
    training_step = SegmentationModule.training_step

    def spoilt(module, batch, batch_idx):
        loss = training_step(module, batch, batch_idx)
        if module.trainer.global_step != step:
            return loss
        module._sums[-1][0, 0] *= value
        return loss * value

    monkeypatch.setattr(SegmentationModule, "training_step", spoilt)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("step", "value", "said"),
    [(4, float("nan"), "nan"), (7, float("inf"), "inf")],
    ids=["in mid-epoch", "right before the checkpoint"],
)
def test_a_loss_that_is_not_finite(doors, monkeypatch, step, value, said):
    _explode_after(step, monkeypatch, value)
    outcome = doors("train", *TINY, *QUIET)
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    assert f"The loss is {said} in step {step + 1} (epoch 2), at a learning rate of " in outcome.err
    names = outcome.err.partition("on all devices:\n")[2].partition("To replay")[0].split()
    assert len(set(names)) == 4
    assert all(name.startswith("trainstadt_") for name in names)
    for advice in ("optimizer.lr=", "gradient_clip_val", "-m scripts.replay", "src.doctor", "nan_guard=null"):
        assert advice in outcome.err
    for name in ("best.ckpt", "last.ckpt"):
        path = outcome.directory / "checkpoints" / name
        assert load_checkpoint(path)["global_step"] == 4
        assert _is_finite(path)
    assert not outcome.metrics
    page = (outcome.directory / "report.html").read_text()
    assert "The training was broken off in epoch 2 of 2, at " in page
    assert "refresh" not in page


@pytest.mark.slow
def test_the_operation_that_makes_a_nan_is_named(doors, monkeypatch):
    _explode_after(4, monkeypatch, float("nan"))
    outcome = doors("train", *TINY, *QUIET, "trainer.detect_anomaly=true")
    assert outcome.code == 2, outcome.err
    assert "Backward0' returned nan values in its" in outcome.err
    assert "last.ckpt, saved" in outcome.err


def test_weights_that_are_spoilt_by_a_gradient(doors):
    outcome = doors("train", *TINY, *QUIET, *fault("SpoilWeights", step=4), "callbacks=ema")
    assert outcome.code == 2, outcome.err
    assert "The weights are NaN or infinite after step 4 (epoch 1)" in outcome.err
    assert not list(outcome.directory.glob("checkpoints/*"))


@pytest.mark.slow
def test_it_can_be_switched_off(doors, monkeypatch):
    _explode_after(4, monkeypatch)
    outcome = doors("train", *TINY, *QUIET, "callbacks.nan_guard=null")
    assert outcome.code == 0, outcome.err
    assert not _is_finite(outcome.directory / "checkpoints/last.ckpt")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_device_is_not_waited_for():
    loss = torch.ones((), device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        host, copied = _to_host(loss)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert copied is not None
    copied.synchronize()
    assert host.item() == 1
