"""A run that was stopped, whenever and however, ends to the bit as one that was not."""

import csv
import json
import random
import shutil
import signal
import subprocess
import time

import pytest
import torch
from front_doors import REPOSITORY, TINY
from spy import Crash

from src.checkpoints import load_checkpoint
from src.training.module import SegmentationModule

# Four steps an epoch, two epochs; dropout draws from the global generator.
PLAIN = (
    *TINY,
    "callbacks=faulty",
    "trainer.num_sanity_val_steps=0",
    "callbacks.pictures=null",
    "model.dropout=0.5",
)
EVERYTHING = (
    *PLAIN,
    "trainer.accumulate_grad_batches=2",
    "trainer.gradient_clip_val=1.0",
    "data.num_workers=1",
)


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    """A user's own callbacks: the EMA's, and a fault that strikes where a test says so."""
    folder = tmp_path_factory.mktemp("conf")
    (folder / "callbacks").mkdir()
    (folder / "callbacks/faulty.yaml").write_text(
        "defaults: [ema, _self_]\nfault: {_target_: spy.Fault, orders: '${runs_dir}/fault.json'}\n"
    )
    return folder


@pytest.fixture
def stop(doors, conf):
    """Runs a command that a fault ends; returns what it exits with."""

    def run(*overrides, hook, at, what):
        orders = doors.folder / "fault.json"
        orders.write_text(json.dumps({"hook": hook, "at": at, "what": what, "rank": 0}))
        try:
            ended = doors("train", f"--config-dir={conf}", *overrides).code
        except SystemExit as stopped:
            ended = stopped.code
        except Crash:
            ended = "Crash"
        assert not orders.exists(), "the fault did not strike"
        return ended

    return run


@pytest.fixture(scope="module")
def whole(module_doors, conf):
    """Uninterrupted runs, one per list of overrides."""
    runs = {}

    def run(*overrides):
        if overrides not in runs:
            runs[overrides] = module_doors(
                "train", f"--config-dir={conf}", *overrides, name=f"whole{len(runs)}"
            )
            assert runs[overrides].code == 0, runs[overrides].err
        return runs[overrides]

    return run


def assert_same(run, whole):
    assert run.code == 0, run.err
    for name in ("last.ckpt", "best.ckpt"):
        one, other = (load_checkpoint(r.directory / "checkpoints" / name) for r in (run, whole))
        for key in ("state_dict", "current_model_state"):
            weights = one.get(key, {}), other.get(key, {})
            assert weights[0].keys() == weights[1].keys()
            assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[1]), (name, key)
        assert one["optimizer_states"][0]["param_groups"] == other["optimizer_states"][0]["param_groups"]
        assert one["global_step"] == other["global_step"]
    assert run.metrics["confusion_matrix"] == whole.metrics["confusion_matrix"]
    assert rows(run) == rows(whole)


def rows(run):
    with (run.directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def step(doors, name="run"):
    checkpoint = load_checkpoint(doors.folder / "train" / name / "checkpoints/last.ckpt")
    return checkpoint["epoch"], checkpoint["global_step"]


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
def test_sigterm_saves_within_the_batch(doors, stop, whole, conf, hook, at, saved):
    assert stop(*EVERYTHING, hook=hook, at=at, what="SIGTERM") == 143
    assert step(doors) == saved
    run = doors("train", f"--config-dir={conf}", *EVERYTHING)
    assert "Going on from" in run.out
    assert_same(run, whole(*EVERYTHING))


@pytest.mark.parametrize(("what", "code"), [("SIGUSR1", 138), ("SIGINT", 130)])
def test_the_exit_code_says_which_signal(doors, stop, what, code):
    assert stop(*PLAIN, hook="on_train_batch_start", at=2, what=what) == code
    assert step(doors) == (0, 2)


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
def test_a_crash_costs_one_checkpoint_interval(doors, stop, whole, conf, hook, at, saved):
    often = (*EVERYTHING, "callbacks.last.every_n_train_steps=3")
    assert stop(*often, hook=hook, at=at, what="Crash") == "Crash"
    if saved:
        assert step(doors) == saved
    assert_same(doors("train", f"--config-dir={conf}", *often), whole(*EVERYTHING))


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
def test_other_places_of_validation(doors, stop, whole, conf, overrides, hook, at, what):
    often = (*PLAIN, "callbacks.last.every_n_train_steps=1", *overrides)
    ended = stop(*often, hook=hook, at=at, what=what)
    final = "max_steps" in overrides[0] and what == "SIGTERM"  # what is left is finished first
    assert ended == ("Crash" if what == "Crash" else 0 if final else 143)
    run = doors("train", f"--config-dir={conf}", *often)
    assert ("is finished" in run.out) == final
    assert_same(run, whole(*PLAIN, *overrides))


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


@pytest.mark.slow
@pytest.mark.parametrize(("kill", "kills"), [(signal.SIGKILL, 20), (signal.SIGTERM, 5)])
def test_kills_at_random_moments(doors, whole, conf, kill, kills):
    tiny = (*EVERYTHING, "data.street.train=64", "callbacks.last.every_n_train_steps=3")
    command = doors.command("train", f"--config-dir={conf}", *tiny)
    command += ["name=run", f"runs_dir={doors.folder}", f"cache_dir={doors.cache}"]
    moments = random.Random(7)
    log = doors.folder / "train/run/train.log"

    def starts():
        return log.read_text().count("training and") if log.exists() else 0

    def resume():
        assert_same(doors("train", f"--config-dir={conf}", *tiny), whole(*tiny))

    done = 0
    while done < kills:
        before = starts()
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=doors.environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while starts() == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 2))
        process.send_signal(kill)
        code = process.wait()
        if code == 0:  # finished before: the next kills are another run's
            resume()
            shutil.rmtree(doors.folder / "train/run")
            continue
        assert code in (-kill, 128 + kill)
        done += 1
    resume()
