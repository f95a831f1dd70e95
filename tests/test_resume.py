"""A run that was stopped, whenever and however, ends to the bit as one that was not."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress

import pytest
import torch
from front_doors import REPOSITORY, TINY
from spy import Crash

from src.checkpoints import load_checkpoint
from src.training.module import SegmentationModule
from src.training.stop import StopOnSignal

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


@pytest.mark.parametrize(("what", "code"), [("SIGUSR1", 138), ("SIGINT", 130), ("SIGHUP", 129)])
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


class Killed:
    """A training in processes of its own that are ended one after the other, until one comes to its end."""

    def __init__(self, doors, conf, whole):
        self.doors, self.conf, self.whole = doors, conf, whole
        self.tiny = (*EVERYTHING, "data.street.train=64", "callbacks.last.every_n_train_steps=3")
        self.log = doors.folder / "train/run/train.log"

    def start(self):
        command = self.doors.command("train", f"--config-dir={self.conf}", *self.tiny)
        command += ["name=run", f"runs_dir={self.doors.folder}", f"cache_dir={self.doors.cache}"]
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=self.doors.environment(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def said(self, text):
        return self.log.read_text().count(text) if self.log.exists() else 0

    def wait_for(self, text, process):
        before = self.said(text)
        while self.said(text) == before and process.poll() is None:
            time.sleep(0.005)

    def resume(self):
        assert_same(self.doors("train", f"--config-dir={self.conf}", *self.tiny), self.whole(*self.tiny))

    def ended(self, code):
        """Whether it was killed. The next kills of one that was finished before are another run's."""
        if code == 0:
            self.resume()
            shutil.rmtree(self.doors.folder / "train/run")
        return code != 0


def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored():
    """nohup has SIGHUP so, and a shell the Ctrl-C of what it runs in the background."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopOnSignal().listening(None):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.parametrize(("kill", "kills"), [(signal.SIGKILL, 20), (signal.SIGTERM, 5)])
def test_kills_at_random_moments(doors, whole, conf, kill, kills):
    run, moments, done = Killed(doors, conf, whole), random.Random(7), 0
    while done < kills:
        process = run.start()
        run.wait_for("training and", process)
        time.sleep(moments.uniform(0, 2))
        process.send_signal(kill)
        process.communicate()
        if run.ended(process.returncode):
            assert process.returncode in (-kill, 128 + kill)
            done += 1
    run.resume()


@pytest.mark.slow
def test_second_signals_at_random_moments(doors, whole, conf):
    """Two signals, to the process or to all of its group: in its imports and checks, in training, at the end
    of a validation, and while it stops. A shell shows one that ends a process by itself as 128 + its number.
    """
    run, moments, done = Killed(doors, conf, whole), random.Random(11), 0
    numbers = (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    for number in numbers:
        if signal.getsignal(number) == signal.SIG_IGN:  # as a shell has it in the background
            signal.signal(number, signal.SIG_DFL)
    while done < 40:
        process = run.start()
        when = moments.choice(("start", "training", "validation"))
        if when == "start":
            time.sleep(moments.uniform(0, 8))
        else:
            run.wait_for("training and" if when == "training" else "val mIoU", process)
            time.sleep(moments.uniform(0, 2 if when == "training" else 0.1))
        group, pair = moments.random() < 0.5, moments.choices(numbers, k=2)
        for number in pair:
            if process.poll() is None:
                (os.killpg if group else os.kill)(process.pid, number)
            time.sleep(moments.choice((0, 0.01, 0.1, 1)) * moments.random())
        _, error = process.communicate(timeout=60)
        if not run.ended(process.returncode):
            continue
        code = process.returncode if process.returncode > 0 else 128 - process.returncode
        case = f"{when}, {pair}, {'group' if group else 'process'}: {process.returncode}\n{error}"
        assert code in {128 + number for number in pair}, case
        assert "Traceback" not in error, case
        done += 1
    run.resume()


def test_a_terminal_that_is_closed_does_not_cost_the_batch(doors, conf):
    """The system's SIGHUP and then the shell's; what is printed from then on is refused."""
    run = Killed(doors, conf, None)
    controller, terminal = os.openpty()
    command = doors.command("train", f"--config-dir={conf}", *run.tiny)
    command += ["name=run", f"runs_dir={doors.folder}", f"cache_dir={doors.cache}"]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=doors.environment(),
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    threading.Thread(target=_read_all, args=(controller,), daemon=True).start()
    run.wait_for("training and", process)
    time.sleep(1)
    os.close(controller)
    for _ in range(2):
        os.kill(process.pid, signal.SIGHUP)
    assert process.wait(60) == 129
    assert "Interrupted. The same command with name=run goes on" in run.log.read_text()


def _read_all(descriptor):
    with suppress(OSError):
        while os.read(descriptor, 4096):
            pass
