"""`data.cache=` from outside: the same run whatever it says, two commands at once, one that is killed."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from front_doors import REPOSITORY, TINY

from src.weights.checkpoint_files import load_checkpoint

SHORT = (*TINY, "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def uncached(module_doors):
    return module_doors("train", *SHORT, name="uncached")


def assert_same(run, other):
    assert run.code == 0, run.err
    assert run.metrics["confusion_matrix"] == other.metrics["confusion_matrix"]
    weights = [load_checkpoint(r.directory / "checkpoints/last.ckpt")["state_dict"] for r in (run, other)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])


@pytest.mark.slow
@pytest.mark.parametrize(("cache", "workers"), [("auto", 0), ("disk", 2)])
def test_training_from_a_cache_is_the_same_training(doors, uncached, cache, workers):
    assert_same(doors("train", *SHORT, f"data.cache={cache}", f"data.num_workers={workers}"), uncached)


@pytest.mark.slow
def test_evaluation_from_a_cache(doors, uncached):
    checkpoint = f"checkpoint={uncached.directory}/checkpoints/best.ckpt"
    judged = doors("eval", checkpoint, "data.cache=disk", "trainer.accelerator=cpu")
    assert judged.code == 0, judged.err
    assert judged.metrics["confusion_matrix"] == uncached.metrics["confusion_matrix"]


def test_unknown_kind(doors):
    refused = doors("train", *SHORT, "data.cache=yes")
    assert refused.code == 2
    assert "expected auto, none or disk" in refused.err
    assert not refused.directory.exists()


def started(doors, cache_dir, name, *overrides):
    folders = f"name={name}", f"runs_dir={doors.folder}", f"cache_dir={cache_dir}"
    command = doors.command("train", *SHORT, "data.cache=disk", *folders, *overrides)
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=doors.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def street_in(doors, tmp_path, scenes=60):
    """A street of its own, large enough to be seen while it is cached; the command draws it."""
    sizes = f"data.street.train={scenes}", "data.street.width=512", "data.street.height=256"
    root = tmp_path / "street"
    drawn = doors("train", *SHORT, *sizes, f"data.root={root}", "trainer.max_steps=1", name="drawn")
    assert drawn.code == 0, drawn.err
    return (*sizes, f"data.root={root}", "trainer.max_steps=1"), drawn


def frames(cache_dir: Path) -> list[Path]:
    return list(cache_dir.glob("frames/*/*.frame"))


@pytest.mark.slow
def test_killed_while_caching_and_two_at_once(doors, tmp_path):
    large, drawn = street_in(doors, tmp_path)
    cache_dir = tmp_path / "cache"
    killed = started(doors, cache_dir, "killed", *large)
    deadline = time.monotonic() + 60
    while len(frames(cache_dir)) < 5 and time.monotonic() < deadline:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert 5 <= len(frames(cache_dir)) < 67
    assert not (doors.folder / "train/killed").exists()

    both = [started(doors, cache_dir, name, *large) for name in ("one", "other")]
    output = [process.communicate(timeout=200)[0].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    assert len(frames(cache_dir)) == 67
    weights = [
        load_checkpoint(doors.folder / "train" / name / "checkpoints/last.ckpt")["state_dict"]
        for name in ("drawn", "one", "other")
    ]
    assert drawn.code == 0
    assert all(torch.equal(w[key], weights[0][key]) for w in weights[1:] for key in weights[0])
