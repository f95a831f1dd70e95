"""Every recorded value as something else: a message or the same result, never a traceback, never a hang."""

import copy
import json
import random
import shutil
import signal
from contextlib import contextmanager

import pytest
import torch
from front_doors import TINY
from hostile_values import VALUES, places, put
from spy import Crash

from src.errors import UserError
from src.weights.trained_network import restore

QUIET = (*TINY, "callbacks=faulty", "callbacks.summary=null", "callbacks.pictures=null")
LONGEST = 60  # seconds of anything here; what hangs would take years


@contextmanager
def in_time():
    def late(*_):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def stopped(module_doors):
    """A run of two epochs that ended after the first, its command, and the same one that was not stopped."""
    conf = module_doors.folder / "conf"
    (conf / "callbacks").mkdir(parents=True)
    (conf / "callbacks/faulty.yaml").write_text(
        "defaults: [ema, _self_]\nfault: {_target_: spy.Fault, orders: '${runs_dir}/fault.json'}\n"
    )
    command = (f"--config-dir={conf}", *QUIET)
    order = {"hook": "on_train_epoch_start", "at": 2, "what": "Crash", "rank": 0}
    (module_doors.folder / "fault.json").write_text(json.dumps(order))
    with pytest.raises(Crash):
        module_doors("train", *command, name="stopped")
    whole = module_doors("train", *command, name="whole")
    assert whole.code == 0, whole.err
    return module_doors.folder / "train/stopped", command, whole


@pytest.fixture(scope="module")
def content(stopped):
    return torch.load(stopped[0] / "checkpoints/last.ckpt", weights_only=True)


def _written(content, place, value, path):
    changed = copy.deepcopy(content)
    put(changed, place, VALUES[value]())
    torch.save(changed, path)
    return path


def _sample(content, number, seed):
    every = [(place, value) for place in places(content) for value in VALUES]
    return random.Random(seed).sample(every, min(number, len(every)))


def _restored(path):
    """What is made of a file; None where it is refused."""
    try:
        with in_time():
            return restore(str(path))
    except UserError as refused:
        text = refused.text
    assert str(path) in text
    assert len(text) < 4000
    assert "\x1b" not in text
    return None


def _check_restore(content, tmp_path, cases):
    kept = {key.removeprefix("segmenter."): tensor for key, tensor in content["state_dict"].items()}
    for place, value in cases:
        found = _restored(_written(content, place, value, tmp_path / "given.ckpt"))
        if found is not None:
            assert all(torch.equal(tensor, kept[key]) for key, tensor in found.weights.items()), (
                place,
                value,
            )


def _check_resume(stopped, content, doors, cases):
    directory, command, whole = stopped
    for place, value in cases:
        run = doors.folder / "train/run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(directory, run)
        _written(content, place, value, run / "checkpoints/last.ckpt")
        best = (run / "checkpoints/best.ckpt").read_bytes()
        with in_time():
            again = doors("train", *command)
        assert "Traceback" not in again.out + again.err, (place, value, again.err)
        if again.code == 0:
            for key in ("confusion_matrix", "epoch"):
                assert again.metrics[key] == whole.metrics[key], (place, value)
        else:
            assert again.code == 2, (place, value)
            # A huge learning rate is one that a training may have; it ends as in any training.
            named = "last.ckpt" in again.err or "The loss is nan" in again.err
            assert named, (place, value, again.err)
            assert (run / "checkpoints/best.ckpt").read_bytes() == best


def test_a_sample_for_evaluation_and_fine_tuning(content, tmp_path):
    _check_restore(content, tmp_path, _sample(content, 6, seed=1))


@pytest.mark.slow
def test_a_sample_for_a_run_that_goes_on(stopped, content, module_doors):
    _check_resume(stopped, content, module_doors, _sample(content, 2, seed=2))


@pytest.mark.slow
def test_every_value_for_evaluation_and_fine_tuning(content, tmp_path):
    _check_restore(content, tmp_path, _sample(content, 10**6, seed=1))


@pytest.mark.slow
def test_many_values_for_a_run_that_goes_on(stopped, content, module_doors):
    _check_resume(stopped, content, module_doors, _sample(content, 150, seed=3))


@pytest.mark.slow
def test_flipped_bytes(stopped, content, tmp_path):
    intact = (stopped[0] / "checkpoints/last.ckpt").read_bytes()
    kept = {key.removeprefix("segmenter."): tensor for key, tensor in content["state_dict"].items()}
    moments, path = random.Random(5), tmp_path / "given.ckpt"
    for _ in range(300):
        flipped = bytearray(intact)
        flipped[moments.randrange(len(intact))] ^= 1 << moments.randrange(8)
        path.write_bytes(flipped)
        found = _restored(path)
        assert found is None or all(torch.equal(t, kept[key]) for key, t in found.weights.items())
