"""A run that was stopped, whenever and however, ends to the bit as one that was not."""

import signal

import pytest
from front_doors import early_stopping
from resumed import EVERYTHING, PLAIN, assert_same
from spy import Crash

from src.training.callbacks.last_checkpoint import LastCheckpoint
from src.training.module import SegmentationModule
from src.weights.checkpoint_files import load_checkpoint


def step(doors, name="run"):
    checkpoint = load_checkpoint(doors.folder / "train" / name / "checkpoints/last.ckpt")
    return checkpoint["epoch"], checkpoint["global_step"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("hook", "at", "saved"),
    [
        ("setup", 1, (0, 1)),  # before the first step
        ("on_train_batch_start", 1, (0, 1)),  # of two accumulated batches: the second comes first
        ("on_train_batch_end", 4, (0, 2)),
        ("on_train_batch_end", 8, (0, 4)),  # the last of the epoch
        ("on_validation_batch_start", 2, (0, 4)),
        ("on_validation_end", 1, (0, 4)),
        ("on_train_batch_start", 9, (1, 5)),
    ],
)
def test_sigterm_saves_within_the_batch(doors, stop, whole, faulty_conf, hook, at, saved):
    assert stop(*EVERYTHING, hook=hook, at=at, what="SIGTERM") == 143
    assert step(doors) == saved
    run = doors("train", f"--config-dir={faulty_conf}", *EVERYTHING)
    assert "Resuming from" in run.out
    assert_same(run, whole(*EVERYTHING))


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("what", "code"), [("SIGUSR1", 138), ("SIGINT", 130), ("SIGHUP", 129)])
def test_the_exit_code_says_which_signal(doors, stop, what, code):
    assert stop(*PLAIN, hook="on_train_batch_start", at=2, what=what) == code
    assert step(doors) == (0, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hook", "at", "saved"),
    [
        ("on_train_batch_start", 2, None),  # before the first checkpoint: from the beginning
        ("on_train_batch_start", 8, (0, 3)),
        ("on_validation_batch_end", 2, (0, 4)),
        ("on_validation_end", 1, (0, 4)),
        ("on_train_epoch_start", 2, (0, 4)),
        ("on_validation_end", 2, (1, 8)),
    ],
)
def test_a_crash_costs_one_checkpoint_interval(doors, stop, whole, faulty_conf, hook, at, saved):
    often = (*EVERYTHING, "callbacks.last.every_n_train_steps=3")
    assert stop(*often, hook=hook, at=at, what="Crash") == "Crash"
    if saved:
        assert step(doors) == saved
    assert_same(doors("train", f"--config-dir={faulty_conf}", *often), whole(*EVERYTHING))


@pytest.mark.slow
@pytest.mark.parametrize("many", [2000, 0])
@pytest.mark.parametrize(("hook", "saved"), [("save", (0, 3)), ("on_train_epoch_end", (0, 4))])
def test_a_kill_right_after_a_checkpoint_loses_no_row(
    doors, whole, faulty_conf, monkeypatch, hook, saved, many
):
    """Also where so many rows are there that new ones wait."""
    monkeypatch.setattr("src.training.loggers.csv._MANY", many)
    monkeypatch.setattr("src.training.loggers.csv._WAIT", 1e9)

    def then_killed(*args):
        saves(*args)
        raise Crash

    often = (*EVERYTHING, f"callbacks.last.every_n_train_steps={3 if hook == 'save' else 100}")
    saves = getattr(LastCheckpoint, hook)
    monkeypatch.setattr(LastCheckpoint, hook, then_killed)
    with pytest.raises(Crash):
        doors("train", f"--config-dir={faulty_conf}", *often)
    monkeypatch.setattr(LastCheckpoint, hook, saves)
    assert step(doors) == saved
    assert_same(doors("train", f"--config-dir={faulty_conf}", *often), whole(*EVERYTHING))


@pytest.mark.slow
def test_the_last_batch_of_an_epoch_is_not_saved_without_the_epoch_s_end(doors, faulty_conf, monkeypatch):
    """A run that resumed between the two would never log the mean of this epoch's losses."""

    def then_killed(self, trainer):
        saves(self, trainer)
        raise Crash

    keys = (*PLAIN, "callbacks.last.every_n_train_steps=4", "trainer.check_val_every_n_epoch=2")
    saves = LastCheckpoint.save
    monkeypatch.setattr(LastCheckpoint, "save", then_killed)
    with pytest.raises(Crash):
        doors("train", f"--config-dir={faulty_conf}", *keys)
    assert not (doors.folder / "train/run/checkpoints/last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "hook", "at"),
    [
        (("trainer.val_check_interval=2",), "on_train_batch_end", 2),  # validations within epochs
        (("trainer.val_check_interval=2",), "on_validation_batch_start", 1),
        (("trainer.val_check_interval=2",), "on_train_batch_end", 7),
        (("trainer.max_steps=6",), "on_train_batch_end", 6),  # the very last step, within an epoch
        (("trainer.max_steps=6",), "on_validation_batch_start", 4),
        (("trainer.check_val_every_n_epoch=2",), "on_train_batch_end", 4),  # an epoch without validation
    ],
)
@pytest.mark.parametrize("what", ["SIGTERM", "Crash"])
def test_other_places_of_validation(doors, stop, whole, faulty_conf, overrides, hook, at, what):
    often = (*PLAIN, "callbacks.last.every_n_train_steps=1", *overrides)
    ended = stop(*often, hook=hook, at=at, what=what)
    final = "max_steps" in overrides[0] and what == "SIGTERM"  # what is left is finished first
    assert ended == ("Crash" if what == "Crash" else 0 if final else 143)
    run = doors("train", f"--config-dir={faulty_conf}", *often)
    assert ("is finished" in run.out) == final
    assert_same(run, whole(*PLAIN, *overrides))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hook", "at", "saved"), [("on_train_batch_start", 6, (0, 4)), ("on_validation_batch_start", 5, (1, 8))]
)
def test_max_steps_resumes_after_a_whole_epoch(doors, stop, whole, faulty_conf, hook, at, saved):
    """Lightning by itself would end the first epoch twice, and lose the other batches of the second one."""
    keys = (*PLAIN, "trainer.max_epochs=-1", "trainer.max_steps=10")
    assert stop(*keys, hook=hook, at=at, what="Crash") == "Crash"
    assert step(doors) == saved
    assert_same(doors("train", f"--config-dir={faulty_conf}", *keys), whole(*keys))


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "monitor"), [("max", "val/mIoU"), ("min", "val/loss")])
def test_best_ckpt_in_the_place_of_a_damaged_last_ckpt_with_early_stopping(
    doors, stop, whole, faulty_conf, mode, monitor
):
    keys = (*PLAIN, early_stopping(mode, 9, monitor))
    assert stop(*keys, hook="on_train_batch_start", at=6, what="Crash") == "Crash"
    folder = doors.folder / "train/run/checkpoints"
    (folder / "last.ckpt").write_bytes((folder / "best.ckpt").read_bytes())
    assert_same(doors("train", f"--config-dir={faulty_conf}", *keys), whole(*keys))


@pytest.mark.slow
def test_sigterm_ends_an_evaluation_at_once(doors, module_doors, whole, monkeypatch):
    checkpoint = whole(*PLAIN).directory / "checkpoints/best.ckpt"
    steps = []

    def stopped_in(*args):
        steps.append(args)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(SegmentationModule, "validation_step", stopped_in)
    with pytest.raises(SystemExit) as ended:
        doors("eval", f"checkpoint={checkpoint}", "trainer.accelerator=cpu")
    assert ended.value.code == 143
    assert len(steps) == 1
