"""`hydra/launcher=local`: jobs of a sweep beside each other, none with another's GPU. Stand-ins train."""

import json
import os

import pytest

from src.runs.jobs import read_jobs
from src.sweep.launcher import _shares

LOCAL = ("hydra/launcher=local", "seed=1,2")


def _slots(directory):
    return [json.loads((job.directory / "slot.json").read_text()) for job in read_jobs(directory)]


def test_each_job_has_a_free_gpu(sweep, monkeypatch):
    """Of the six jobs four run at a time: a fifth can only begin when one has ended."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2,GPU-5b,7")
    rates = ",".join(f"{rate}e-3" for rate in range(1, 7))
    swept = sweep("hydra/launcher=local", "seed=104", f"optimizer.lr={rates}")
    assert swept.code == 0, swept.err
    assert [job.status for job in read_jobs(swept.directory)] == ["finished"] * 6
    assert {slot["gpus"] for slot in _slots(swept.directory)[:4]} == {"0", "2", "GPU-5b", "7"}
    assert {slot["gpus"] for slot in _slots(swept.directory)} == {"0", "2", "GPU-5b", "7"}
    assert "run/5: finished, mIoU 0." in swept.out
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,2,GPU-5b,7"


@pytest.mark.slow
def test_several_devices_a_job_and_a_search(sweep, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    search = ("hydra/sweeper=optuna", "optimizer.lr=interval(1e-4,1e-2)", "hydra.sweeper.n_trials=2")
    swept = sweep("hydra/launcher=local", *search, "trainer.devices=2", "seed=102")
    assert swept.code == 0, swept.err
    assert {slot["gpus"] for slot in _slots(swept.directory)} == {"0,1", "2,3"}


@pytest.mark.slow
def test_without_gpus_the_cores_are_divided(sweep):
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("one core cannot be divided")
    swept = sweep(
        "hydra/launcher=local",
        "hydra.launcher.jobs=2",
        "trainer.accelerator=cpu",
        "seed=102",
        "optimizer.lr=1e-3,2e-3",
    )
    assert swept.code == 0, swept.err
    one, other = (set(slot["cores"]) for slot in _slots(swept.directory))
    assert one | other == cores
    assert not one & other
    assert os.sched_getaffinity(0) == cores


def test_shares_of_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3, 4, 6, 7})
    assert _shares(2) == [{1, 3}, {4, 6, 7}]
    assert _shares(1) == [set()]
    assert _shares(6) == [set()] * 6


@pytest.mark.slow
def test_a_job_that_fails_and_one_that_is_interrupted(sweep):
    at_once = ("hydra/launcher=local", "hydra.launcher.jobs=2", "trainer.accelerator=cpu")
    failed = sweep(*at_once, "seed=1,13,2")
    assert (failed.code, failed.started) == (2, {0, 1, 2})
    assert "1 of 3 jobs failed" in failed.err
    stopped = sweep(*at_once, "seed=1,13,130,3")
    assert stopped.code == 130
    assert sweep(*at_once, "seed=1,130,3").code == 0


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("gpus", "overrides", "said"),
    [
        ("0,1,2", ("hydra.launcher.jobs=2", "trainer.devices=2"), "they need 2 x 2 GPUs, and there are 3"),
        ("0", ("trainer.devices=2",), "they need 1 x 2 GPUs, and there are 1"),
        ("0,1", ("trainer.devices=auto",), "it must be a number"),
        ("0,1", ("trainer.devices=1,2",), "gives each job equally many GPUs"),
        ("-1", ("hydra.launcher.jobs=0",), "hydra.launcher.jobs=0: expected"),
    ],
)
def test_what_does_not_fit_is_said(sweep, monkeypatch, gpus, overrides, said):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    swept = sweep(*LOCAL, *overrides)
    assert swept.code == 2
    assert said in swept.err
    assert not swept.directory.exists()
