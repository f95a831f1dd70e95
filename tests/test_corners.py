"""What users combine and frameworks forget: ends in mid-epoch, rare validation, moved folders."""

import shutil

import pytest
import torch
from front_doors import TINY, early_stopping

from src.training.callbacks.best_checkpoint import RunCheckpoint
from src.weights.checkpoint_files import load_checkpoint


def _judged_as_recorded(doors, run, name: str) -> bool:
    judged = doors(
        "eval", f"checkpoint={run.directory}/checkpoints/{name}", "trainer.accelerator=cpu", name=name
    )
    assert judged.code == 0, judged.err
    recorded = run.metrics["last"] if name == "last.ckpt" else run.metrics
    assert judged.metrics["epoch"] == recorded["epoch"]
    return judged.metrics["confusion_matrix"] == recorded["confusion_matrix"]


@pytest.mark.slow
def test_max_steps_inside_an_epoch_still_validates_the_last_weights(doors):
    run = doors("train", *TINY, "trainer.max_epochs=-1", "trainer.max_steps=6")
    assert run.code == 0, run.err
    assert load_checkpoint(run.directory / "checkpoints/last.ckpt")["global_step"] == 6
    assert _judged_as_recorded(doors, run, "last.ckpt")
    assert _judged_as_recorded(doors, run, "best.ckpt")


@pytest.mark.slow
def test_a_last_epoch_without_validation_has_no_figures(doors):
    run = doors("train", *TINY, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2")
    assert run.code == 0, run.err
    assert (run.metrics["epoch"], run.metrics["last"]["epoch"]) == (2, 3)
    assert run.metrics["last"]["mIoU"] is None
    judged = doors("eval", f"checkpoint={run.directory}/checkpoints/last.ckpt", "trainer.accelerator=cpu")
    assert judged.code == 0, judged.err
    assert judged.metrics["epoch"] == 3


def test_a_moved_run_remembers_its_best(tmp_path):
    """Lightning would forget the score with the old path, and a worse epoch would replace best.ckpt."""
    old, new = (str(tmp_path / name / "checkpoints") for name in ("old", "new"))
    best = RunCheckpoint(dirpath=old, filename="best", monitor="val/mIoU", mode="max")
    best.best_model_score = torch.tensor(0.7)
    best.best_model_path = f"{old}/best.ckpt"
    best.best_k_models = {f"{old}/best.ckpt": torch.tensor(0.7)}
    (tmp_path / "new/checkpoints").mkdir(parents=True)
    (tmp_path / "new/checkpoints/best.ckpt").touch()
    moved = RunCheckpoint(dirpath=new, filename="best", monitor="val/mIoU", mode="max")
    moved.load_state_dict(best.state_dict())
    assert moved.best_model_score == 0.7
    assert moved.best_k_models == {f"{new}/best.ckpt": 0.7}
    assert moved.best_model_path == f"{new}/best.ckpt"


@pytest.mark.slow
def test_another_runs_dir_is_the_same_run(doors, module_doors):
    run = module_doors("train", *TINY, "trainer.max_epochs=1", name="run")
    (run.directory / "metrics.json").unlink()  # as if it had been stopped before its end
    doors.folder.mkdir(exist_ok=True)
    shutil.copytree(run.directory, doors.folder / "train/run")
    again = doors("train", *TINY, "trainer.max_epochs=1")
    assert again.code == 0, again.err
    assert "Resuming from" in again.out
    assert again.metrics["confusion_matrix"] == run.metrics["confusion_matrix"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("name=7", "Quote it"),
        ("trainer.strategy=ddp_spawn", "expected auto or ddp"),
        ("name=", "expected a name for the run"),
        ("sweep=seeds", "add -m"),
        ("trainer.max_epochs=abc", "a whole number"),
        ("trainer.val_check_interval=1000", "val_check_interval"),
        ("trainer.limit_train_batches=0.001", "limit_train_batches"),
        ("data.labels=ade20k", "choose one of cityscapes, camvid"),
    ],
)
def test_values_that_cannot_work(doors, override, said):
    outcome = doors(
        "train", *TINY, override, name=override.removeprefix("name=") if "name=" in override else "x"
    )
    assert outcome.code == 2
    assert said in outcome.err


@pytest.mark.slow
def test_an_unknown_split_is_named(doors, module_doors):
    run = module_doors("train", *TINY, "trainer.max_epochs=1", name="one")
    checkpoint = f"checkpoint={run.directory}/checkpoints/best.ckpt"
    outcome = doors("eval", checkpoint, "data.split=testing", "trainer.accelerator=cpu")
    assert outcome.code == 2
    assert "data.split=testing: expected train, val, test, trainval, train_extra or null" in outcome.err


@pytest.mark.slow
def test_overfitting_a_batch(doors):
    run = doors("train", *TINY, "trainer.overfit_batches=1")
    assert run.code == 0, run.err


@pytest.mark.slow
def test_a_callback_of_one_s_own(doors):
    run = doors("train", *TINY, "trainer.max_epochs=1", f"+{early_stopping('max', 3)}")
    assert run.code == 0, run.err
