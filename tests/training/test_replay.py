"""A run that has become NaN leaves the step, and one command replays it and names the operation to blame."""

import re

import cv2
import pytest
import torch
from faults import fault
from front_doors import TINY

from scripts.replay import main
from src.training.replay.replay import replay
from src.weights.checkpoint_files import load_checkpoint

QUIET = ("callbacks.summary=null", "callbacks.pictures=null", "report.images=0")


@pytest.fixture
def train_planted(doors, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/planted.yaml").write_text(
        "_target_: planted.Planted\nnum_classes: ${data.num_classes}\nat: 7\nkind: forward\ndropout: 0.5\n"
        "preprocessing: {mean: '${data.mean}', std: '${data.std}'}\n"
    )
    tiny = [override for override in TINY if "num_blocks" not in override]
    given = (f"--config-dir={tmp_path}", *tiny, *QUIET, "model=planted")
    return lambda *overrides, **how: doors("train", *given, *overrides, **how)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("kind", "operation", "bad"),
    [("backward", "SqrtBackward0 (aten::div), backward", 8), ("forward", "aten::sqrt, forward", 7)],
)
def test_the_planted_operation_is_found(train_planted, capsys, kind, operation, bad):
    """In step 7. Its gradients spoil the weights, so that the loss of step 8 is the first that is NaN."""
    trained = train_planted(f"model.kind={kind}")
    assert f"The loss is nan in step {bad} (epoch 2)" in trained.err
    assert f"python -m scripts.replay {trained.directory}\n" in trained.err
    assert cv2.imread(str(trained.directory / "nan/step_7.jpg")).shape[1] > 256
    assert main([str(trained.directory)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^Step 7 \(epoch 2\), replayed on cpu in 32-true$", out, re.MULTILINE)
    assert ("step 8 was not finite, because this step spoilt the weights" in out) == (kind == "backward")
    assert re.search(r"^  loss +\S+, the same as in the run$", out, re.MULTILINE), "with dropout"
    assert re.search(rf"^  FIRST +{re.escape(operation)}$", out, re.MULTILINE)
    assert re.search(r"^  module +segmenter.network.planted \(Root\)$", out, re.MULTILINE)
    assert re.search(r"^  code +tests/planted.py, line \d+: return x \+ torch.sqrt", out, re.MULTILINE)
    assert re.search(r"^  weights before  finite", out, re.MULTILINE)
    assert re.search(r"^  gradients +\d of 6 are not finite", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.slow
def test_a_replayed_step_ends_with_the_weights_of_the_run(doors, capsys):
    """Of a step that was finite, until a callback has spoilt the weights after it."""
    every = (
        "{_target_: pytorch_lightning.callbacks.ModelCheckpoint, dirpath: '${run_dir}/all', save_top_k: -1}"
    )
    healthy = doors("train", *TINY, *QUIET, f"+callbacks.all={every}", name="healthy")
    assert healthy.code == 0, healthy.err
    assert not (healthy.directory / "nan").exists()
    spoilt = doors("train", *TINY, *QUIET, *fault("SpoilWeights", step=4))
    assert "The weights are NaN or infinite after step 4 (epoch 1)" in spoilt.err
    result = replay(spoilt.directory / "nan/step_4.pt")
    (after_4,) = healthy.directory.glob("all/*step=4.ckpt")
    expected = load_checkpoint(after_4)["state_dict"]
    floats = {name: float(t.abs().max()) for name, t in expected.items() if t.is_floating_point()}
    assert result.after == floats
    assert result.before != floats
    assert result.loss == result.kept["losses"][4]
    assert main([str(spoilt.directory)]) == 1
    assert "All is finite this time" in capsys.readouterr().out


@pytest.mark.slow
def test_a_learning_rate_that_is_much_too_high(doors, capsys):
    """It overflows in BatchNorm's variance, which the loss does not show."""
    trained = doors("train", *TINY, *QUIET, "optimizer=sgd", "optimizer.lr=100")
    assert "The weights are NaN or infinite after step 4" in trained.err
    assert main([str(trained.directory)]) == 0
    out = capsys.readouterr().out
    assert "aten::native_batch_norm, forward" in out
    assert re.search(r"code +src/network/cgnet.py, line \d+: ", out)
    assert ".running_var" in out


@pytest.mark.slow
def test_a_step_of_two_devices_and_accumulated_batches(train_planted, capsys):
    """It is replayed on one device, which computes the same step."""
    devices = ("trainer.devices=2", "trainer.accumulate_grad_batches=2")
    planted = ("model.kind=backward", "model.at=13", "model.dropout=0")
    trained = train_planted(*devices, *planted, own_process=True)
    assert "The loss is nan in step 8" in trained.err, trained.err
    result = replay(trained.directory)
    assert [len(batch["name"]) for batch in result.kept["batches"]] == [2, 2]
    assert result.loss == pytest.approx(result.kept["losses"][7], rel=1e-5)
    assert main([str(trained.directory)]) == 0
    assert "2 in the run, their batches joined here" in capsys.readouterr().out
    assert "SqrtBackward0" in result.found.operation


def test_what_cannot_be_replayed(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert f"{tmp_path}: expected the directory of a run" in capsys.readouterr().err
    (tmp_path / "nan").mkdir()
    torch.save({"weights": 1}, tmp_path / "nan/step_3.pt")
    assert main([str(tmp_path)]) == 2
    assert "step_3.pt: damaged, or not a step" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_keeps_no_steps(doors):
    none_kept = "callbacks.nan_guard.directory=null"
    trained = doors("train", *TINY, *QUIET, *fault("SpoilFirst", step=5), none_kept)
    assert "The loss is nan in step 6" in trained.err
    assert "trainer.detect_anomaly=true" in trained.err
    assert not (trained.directory / "nan").exists()
