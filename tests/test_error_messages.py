"""What a bad week does to a training: one message, exit code 2, no traceback, the last checkpoint whole."""

import resource
import sys

import pytest
import torch
from faults import ALL_IS_WELL, fault
from front_doors import TINY

from src.street import write_street
from src.training import fit
from src.training.module import SegmentationModule
from src.weights.checkpoint_files import load_checkpoint

STEPS = 4  # of an epoch of TINY: the second epoch begins with step 4
QUIET = ("callbacks.summary=null", "callbacks.pictures=null")


def _stopped(outcome, *named: str) -> str:
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err + outcome.out
    for text in named:
        assert text in outcome.err, outcome.err
    return outcome.err


def _goes_on(doors, outcome, overrides, monkeypatch, **how) -> None:
    """The checkpoint from before the trouble is whole, and the same command ends well from there."""
    last = outcome.directory / "checkpoints/last.ckpt"
    assert load_checkpoint(last)["global_step"] == STEPS
    assert str(last) in outcome.err
    assert not list(last.parent.glob(".*")), "a temporary file was left"
    monkeypatch.setenv(ALL_IS_WELL, "1")
    again = doors("train", *overrides, **how)
    assert again.code == 0, again.err
    assert load_checkpoint(last)["global_step"] == 2 * STEPS
    assert again.metrics["last"]["epoch"] == 2


@pytest.mark.slow
def test_out_of_memory_in_training(doors, monkeypatch):
    overrides = (*TINY, *QUIET, *fault("OutOfMemory", step=STEPS + 1))
    outcome = doors("train", *overrides)
    message = _stopped(
        outcome,
        "4 crops of 64x128 per device (data.batch_size=4 = 1 device(s) x 1 accumulated x 4)",
        "trainer.precision=32-true",
    )
    ways = [
        "accumulate_grad_batches=2 or 4",
        "trainer.devices=2 or 4",
        "precision=bf16-mixed",
        "another recipe",
    ]
    places = [message.index(way) for way in ways]
    assert places == sorted(places), "what leaves the recipe as it is comes first"
    _goes_on(doors, outcome, overrides, monkeypatch)


def test_out_of_memory_in_validation(doors, monkeypatch):
    def allocate(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("src.training.module.SegmentationModule.validation_step", allocate)
    trained = doors("train", *TINY, *QUIET, "trainer.num_sanity_val_steps=0")
    message = _stopped(trained, "3 whole frames per device (data.val_batch_size=3)", "data.val_batch_size=1")
    assert "accumulate" not in message
    assert "last.ckpt, saved" in message, "written before the validation"


@pytest.mark.slow
def test_a_worker_that_the_system_kills(doors, monkeypatch):
    overrides = (*TINY, *QUIET, "data.num_workers=2", *fault("KillWorker", step=STEPS + 1))
    outcome = doors("train", *overrides, own_process=True)
    _stopped(outcome, "killed by signal: Killed", "memory", "data.num_workers (now 2 per device)")
    _goes_on(doors, outcome, overrides, monkeypatch)


@pytest.mark.slow
def test_a_run_directory_that_is_removed(doors):
    path = doors.folder / "train/run"
    outcome = doors("train", *TINY, *QUIET, *fault("RemoveFolder", step=STEPS + 1, path=path))
    _stopped(outcome, f"{path}: the run directory was removed")
    assert not path.exists(), "half a run directory was made again"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE with EFBIG")
def test_a_checkpoint_that_cannot_be_written(doors, monkeypatch):
    overrides = (*TINY, *QUIET, *fault("SmallFiles", step=STEPS + 1))
    outcome = doors("train", *overrides, own_process=True)
    _stopped(outcome, "last.ckpt: cannot be written, File too large: it takes 3.2", "MB are free")
    _goes_on(doors, outcome, overrides, monkeypatch)


def test_too_few_open_files(doors, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (30, 30))
    _stopped(doors("train", *TINY, *QUIET), "Only 30 files may be open at once", "ulimit -n 65536")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_dataset_that_is_unmounted(doors, tmp_path, workers):
    root = tmp_path / "root"
    write_street(root, {"train": 16, "val": 2}, width=128, height=64, seed=5)
    outcome = doors(
        "train",
        *(key for key in TINY if not key.startswith("data.street.")),
        *QUIET,
        "data=cityscapes",
        f"data.root={root}",
        "data.class_weights=null",
        "data.cache=none",
        "data.crop_size=[64,128]",
        "data.batch_size=4",
        f"data.num_workers={workers}",
        *fault("RemoveFolder", step=STEPS + 1, path=root),
    )
    _stopped(outcome, f"{root}/leftImg8bit/", "cannot be read (No such file or directory)")
    saved = load_checkpoint(outcome.directory / "checkpoints/last.ckpt")["global_step"]
    # Workers read ahead: the epoch may end on what they have, and the validation misses the folder.
    assert saved == STEPS or (workers and saved == 2 * STEPS)
    assert "No such file or directory" in (outcome.directory / "train.log").read_text()


def test_a_crop_beyond_all_memory(doors):
    _stopped(doors("train", *TINY, "data.crop_size=[1000000,1000000]"), "data.crop_size=[1000000, 1000000]")


@pytest.mark.slow
def test_two_runs_with_one_name_at_once(doors, monkeypatch):
    refused = []

    def second(*args):
        refused.append(doors("train", *TINY, *QUIET, own_process=True))

    monkeypatch.setattr(fit, "_say_what_runs", second)  # once the first has its directory
    first = doors("train", *TINY, *QUIET)
    _stopped(refused[0], "another process is writing to this run", "name=")
    assert first.code == 0, first.err
    assert first.metrics["last"]["epoch"] == 2


@pytest.mark.slow
def test_two_evaluations_with_one_name_at_once(doors, module_doors, monkeypatch):
    trained = module_doors("train", *TINY, *QUIET, name="judged")
    command = ("eval", f"checkpoint={trained.directory}/checkpoints/best.ckpt", "trainer.accelerator=cpu")
    refused = []

    original = SegmentationModule.on_validation_epoch_start

    def second(module):
        refused.append(doors(*command, own_process=True))
        original(module)

    monkeypatch.setattr(SegmentationModule, "on_validation_epoch_start", second)
    first = doors(*command)
    _stopped(refused[0], "another process is writing to this run")
    assert first.code == 0, first.err
