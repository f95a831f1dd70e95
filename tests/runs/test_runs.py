import functools
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from src.config import CONF_DIR, register_resolvers
from src.errors import UserError
from src.runs.atomic_files import write_json, write_text
from src.runs.directory import Run, rank, sweep_job_score
from src.weights.checkpoint_files import AtomicCheckpointIO

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")


@pytest.fixture(autouse=True)
def one_process_that_logs_nowhere():
    root = logging.getLogger()
    handlers = root.handlers[:]
    with mock.patch.dict(os.environ):
        for name in RANKS:
            os.environ.pop(name, None)
        yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()


@functools.cache
def config(*overrides):
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", ["name=a", *overrides])


def plan(runs_dir, *overrides):
    return Run.plan(OmegaConf.merge(config(*overrides), {"runs_dir": str(runs_dir)}))


def start(runs_dir, *overrides, saved=True):
    """A run that has begun, and stopped, with a checkpoint or before its first."""
    run = plan(runs_dir, *overrides)
    run.open()
    if saved:
        recorded = {key: run.config[key] for key in ("model", "data")} | {"classes": [], "precision": None}
        checkpoint = {"state_dict": {}, "hyper_parameters": recorded, "epoch": 0, "global_step": 1}
        AtomicCheckpointIO().save_checkpoint(checkpoint, run.directory / "checkpoints" / "last.ckpt")
    run._lock.close()
    return run


def test_nothing_is_made_before_open(tmp_path):
    run = plan(tmp_path / "runs")
    assert run.directory == tmp_path / "runs" / "train" / "a"
    assert run.last_checkpoint is None
    assert run.finished is None
    assert not list(tmp_path.iterdir())


def test_open_keeps_the_config_and_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/src/train.py", "model=cgnet", "name=a"])
    run = plan(tmp_path, "model=cgnet")
    run.open()
    kept = (run.directory / "config.yaml").read_text()
    assert kept.startswith("# python -m src.train model=cgnet name=a\n")
    assert "num_classes: 19" in kept  # resolved
    logging.getLogger("src.anything").warning("a line")
    assert "WARNING a line" in (run.directory / "train.log").read_text()


def test_other_ranks_touch_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    plan(tmp_path / "runs").open()
    assert not list(tmp_path.iterdir())


def test_the_same_command_goes_on(tmp_path):
    first = start(tmp_path)
    again = plan(tmp_path)
    assert again.last_checkpoint == first.directory / "checkpoints" / "last.ckpt"
    again.open()


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "override",
    [
        "trainer.devices=4",
        "trainer.num_nodes=2",
        "trainer.accelerator=gpu",
        "trainer.strategy=ddp",
        "trainer.enable_progress_bar=true",
        "trainer.log_every_n_steps=1",
        "data.num_workers=0",
        "data.root=/elsewhere",
        "logger=wandb",
        "logger=tensorboard",
        "cache_dir=/elsewhere",
        "callbacks.pictures=null",
        "callbacks.epoch_lines.seconds=1",
        "compile=true",
    ],
)
def test_where_and_how_a_run_goes_on_may_change(tmp_path, override):
    start(tmp_path)
    plan(tmp_path, override)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seed=43", "seed: 42 before, 43 now"),
        ("optimizer.lr=0.5", "optimizer.lr: 0.001 before, 0.5 now"),
        ("optimizer=sgd", "optimizer._target_: torch.optim.Adam before, torch.optim.SGD now"),
        ("data.batch_size=8", "data.batch_size: 16 before, 8 now"),
        ("trainer.max_epochs=1", "trainer.max_epochs: 340 before, 1 now"),
        ("trainer.precision=bf16-mixed", "trainer.precision: 32-true before, bf16-mixed now"),
        ("callbacks=ema", "callbacks.ema.decay: None before, 0.999 now"),
        ("augment.color=null", "augment.color.hue: 18 before, None now"),
        ("channels_last=true", "channels_last: False before, True now"),
    ],
)
def test_what_a_run_computes_may_not_change(tmp_path, override, named):
    first = start(tmp_path)
    before = (first.directory / "config.yaml").read_text()
    with pytest.raises(UserError, match="another config") as error:
        plan(tmp_path, override)
    text = error.value.text
    assert f"  {named}\n" in text
    assert str(first.directory) in text
    assert "name=" in text
    assert "trainer.devices" not in text
    assert (first.directory / "config.yaml").read_text() == before


def test_all_differences_are_named_at_once(tmp_path):
    start(tmp_path)
    with pytest.raises(UserError) as error:
        plan(tmp_path, "seed=1", "optimizer.lr=0.5", "trainer.devices=2")
    differences = [line.split(":")[0] for line in error.value.text.splitlines() if line.startswith("  ")]
    assert differences == ["  optimizer.lr", "  seed"]


def test_what_a_killed_process_left_half_written_goes(tmp_path):
    first = start(tmp_path)
    half = first.directory / "checkpoints/.last.ckpt.4711.tmp"
    half.write_bytes(b"half")
    plan(tmp_path).open()
    assert not half.exists()
    assert first.last_checkpoint.exists()


def test_a_run_without_a_checkpoint_starts_anew_with_any_config(tmp_path):
    start(tmp_path, saved=False)
    plan(tmp_path, "seed=43").open()


def test_another_name_is_another_run(tmp_path):
    start(tmp_path)
    plan(tmp_path, "seed=43", "name=b")


def test_a_directory_that_was_renamed_is_the_same_run(tmp_path):
    kept = "+callbacks.all={dirpath: '${run_dir}/all'}"
    before = start(tmp_path, kept).directory
    before.rename(before.with_name("b"))
    assert plan(tmp_path, "name=b", kept).last_checkpoint
    with pytest.raises(UserError, match="seed: 42 before, 43 now"):
        plan(tmp_path, "name=b", kept, "seed=43")


@pytest.fixture
def held(tmp_path):
    """A run that another process has open, until its input closes."""
    first = plan(tmp_path)
    first.open()
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    first._lock.close()  # this process's own lock
    command = [sys.executable, "-c", code, str(first.directory / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        yield first, other


def test_the_directory_is_one_process_s(held, tmp_path):
    first, other = held
    with pytest.raises(UserError, match="another process") as error:
        plan(tmp_path).open()
    assert str(first.directory) in error.value.text
    assert "name=" in error.value.text
    other.stdin.close()
    other.wait()
    plan(tmp_path).open()


def test_a_refused_second_open_writes_nothing(held, tmp_path):
    first, _ = held
    before = (first.directory / "config.yaml").read_text()
    lines = (first.directory / "train.log").read_text()
    with pytest.raises(UserError):
        plan(tmp_path, "seed=43").open()
    assert (first.directory / "config.yaml").read_text() == before
    assert (first.directory / "train.log").read_text() == lines


@pytest.mark.parametrize("place", ["runs", "runs/train", "runs/train/a"])
def test_a_file_in_the_way(tmp_path, place):
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("a file")
    with pytest.raises(UserError, match="a file, so the run directory") as error:
        plan(tmp_path / "runs")
    assert str(file) in error.value.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_parent_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="not writable") as error:
        plan(tmp_path / "runs")
    assert "runs_dir=" in error.value.text
    tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_place_where_nothing_can_be_made():
    with pytest.raises(UserError, match="/proc") as error:  # root is refused only when it tries
        plan("/proc/runs").open()
    assert "runs_dir=" in error.value.text


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 0),
        ({"RANK": "3"}, 3),
        ({"LOCAL_RANK": "2"}, 2),
        ({"SLURM_PROCID": "5"}, 5),
        ({"RANK": "4", "LOCAL_RANK": "0"}, 4),
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, 1),  # Lightning's own children in an interactive job
        ({"RANK": ""}, 0),
        ({"RANK": "0", "LOCAL_RANK": "0"}, 0),
    ],
    ids=str,
)
def test_rank_from_the_launcher(environment, expected):
    os.environ.update(environment)
    assert rank() == expected


@pytest.mark.parametrize("environment", [{"NODE_RANK": "1"}, {"NODE_RANK": "1", "LOCAL_RANK": "0"}], ids=str)
def test_the_first_process_of_another_node_is_not_the_first(environment):
    os.environ.update(environment)
    assert rank() != 0


def test_metrics_make_a_run_finished(tmp_path):
    run = start(tmp_path)
    assert plan(tmp_path).finished is None
    write_json(run.directory / "metrics.json", {"mIoU": 0.5})
    assert plan(tmp_path).finished == {"mIoU": 0.5}
    assert sweep_job_score(run.directory) == 0.5


def test_files_are_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_json(path, {"a": [1]})
    assert json.loads(path.read_text()) == {"a": [1]}
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == "new"
