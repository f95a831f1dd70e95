"""Kills and signals at random moments, one or two: the exit code is theirs, and nothing is lost."""

import logging
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from front_doors import REPOSITORY
from resumed import EVERYTHING, assert_same

from src.training.reliability.preemption import StopOnSignal, Stopped


class Killed:
    """A training in processes of its own that are ended one after the other, until one comes to its end."""

    def __init__(self, doors, faulty_conf, whole):
        self.doors, self.conf, self.whole = doors, faulty_conf, whole
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


@pytest.mark.skipif(not hasattr(logging, "_releaseLock"), reason="Python 3.13 has no such functions")
def test_a_signal_within_logging_s_fork_hooks_is_not_lost():
    """After a fork Python calls logging's lock functions, and swallows an exception that is raised there."""
    trainer = SimpleNamespace(training=False, global_step=0, max_steps=-1)
    trainer.strategy = SimpleNamespace(launcher=None)
    numbers = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    stop = StopOnSignal()
    try:
        with stop.listening(trainer):
            stop._handle(signal.SIGTERM, SimpleNamespace(f_code=logging._releaseLock.__code__))
            assert not stop.requested
            with pytest.raises(Stopped):
                time.sleep(5)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.parametrize(("kill", "kills"), [(signal.SIGKILL, 20), (signal.SIGTERM, 5)])
def test_kills_at_random_moments(doors, whole, faulty_conf, kill, kills):
    run, moments, done = Killed(doors, faulty_conf, whole), random.Random(7), 0
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
def test_second_signals_at_random_moments(doors, whole, faulty_conf):
    """Two signals, to the process or to all of its group: in its imports and checks, in training, at the end
    of a validation, and while it stops. A shell shows one that ends a process by itself as 128 + its number.
    """
    run, moments, done = Killed(doors, faulty_conf, whole), random.Random(11), 0
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


@pytest.mark.slow
def test_a_terminal_that_is_closed_does_not_cost_the_batch(doors, faulty_conf):
    """The system's SIGHUP and then the shell's; what is printed from then on is refused."""
    run = Killed(doors, faulty_conf, None)
    controller, terminal = os.openpty()
    command = doors.command("train", f"--config-dir={faulty_conf}", *run.tiny)
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
    assert "Interrupted. The same command with name=run resumes" in run.log.read_text()


def _read_all(descriptor):
    with suppress(OSError):
        while os.read(descriptor, 4096):
            pass
