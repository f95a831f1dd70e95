"""Sweeps of real trainings: two devices a job, W&B, a search that is killed, jobs beside each other."""

import os
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from front_doors import REPOSITORY, TINY

from src.results.write import FILES
from src.runs.jobs import read_jobs
from src.training.loggers.wandb_file import read_records
from src.weights.checkpoint_files import load_checkpoint

TWO_DEVICES = ("trainer.devices=2", "trainer.strategy=ddp")
ONE_EPOCH = (*TINY, "trainer.max_epochs=1", "model.num_blocks=[1,1]")


@pytest.mark.slow
def test_two_devices_a_job_and_one_rank_that_fails_alone(doors, tmp_path):
    """One directory, though it is named after the time; a rank that fails takes its own job with it, only."""
    own = tmp_path / "conf/callbacks"
    own.mkdir(parents=True)
    (own / "broken.yaml").write_text(
        "defaults: [default, _self_]\nbroken: {_target_: rank_one_fails.RankOneFails}\n"
    )
    options = (*ONE_EPOCH, *TWO_DEVICES, "logger=wandb", "callbacks=broken,default")
    places = (f"runs_dir={doors.folder}", f"cache_dir={doors.cache}")
    swept = subprocess.run(
        doors.command("train", f"--config-dir={own.parent}", "-m", *options, *places),
        cwd=REPOSITORY,
        env=doors.environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert swept.returncode == 2, swept.stderr
    (folder,) = (doors.folder / "train").iterdir()
    jobs = read_jobs(folder)
    assert {p.name for p in folder.iterdir()} == {"0", "1", ".lock", "multirun.yaml", *FILES}
    assert [job.status for job in jobs] == ["failed", "finished"]
    assert "rank 1 fails, and nobody else" in jobs[0].error
    assert "1 of 2 jobs failed" in swept.stderr

    assert "batch 4 = 2 x 2 devices" in (folder / "1/train.log").read_text()
    (file,) = folder.glob("1/wandb/offline-run-*/run-*.wandb")
    run = next(record.run for record in read_records(file) if record.HasField("run"))
    assert run.run_group == folder.name
    assert run.display_name == f"{folder.name}/1 callbacks=default"
    assert len({(folder / job / "wandb_id.txt").read_text() for job in "01"}) == 2


def _trials(folder):
    optuna = pytest.importorskip("optuna", reason='pip install -e ".[optuna]"')
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "optuna.journal"))
    return optuna.load_study(study_name="run", storage=optuna.storages.JournalStorage(backend)).trials


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        (*TWO_DEVICES, "hydra/launcher=local", "hydra.launcher.jobs=2"),
        ("hydra/launcher=submitit_local", "hydra.sweeper.n_jobs=2"),
    ],
    ids=["local", "submitit"],
)
def test_a_pruned_training_saves_and_ends(doors, launcher):
    """Whatever starts it: the pruner takes none of them. A training would take minutes."""
    if "submitit" in str(launcher):
        pytest.importorskip("submitit", reason='pip install -e ".[slurm]"')
    search = (
        *ONE_EPOCH[:-2],
        "trainer.max_epochs=300",
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner",
        "+hydra.sweeper.pruner.lower=2",
        "optimizer.lr=tag(log,interval(1e-4,1e-2))",
    )
    found = doors("train", "-m", *search, *launcher, own_process=True)
    assert found.code == 0, found.err
    assert [job.status for job in read_jobs(found.directory)] == ["pruned", "pruned"]
    for trial, job in zip(_trials(found.directory), read_jobs(found.directory), strict=True):
        assert trial.state.name == "PRUNED"
        saved = load_checkpoint(job.directory / "checkpoints/last.ckpt")
        assert 4 * (trial.last_step + 1) <= saved["global_step"] < 4 * 300
        assert not (job.directory / "metrics.json").exists()
    assert not (found.directory / "best.json").exists()


@pytest.mark.slow
def test_a_search_killed_in_a_trial_of_two_devices_goes_on_in_it(doors):
    folder = doors.folder / "train/run"
    search = (
        *ONE_EPOCH[:-2],
        "trainer.max_epochs=3",
        *TWO_DEVICES,
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=2",
        "optimizer.lr=tag(log,interval(1e-4,1e-2))",
    )
    overrides = ["-m", *search, "name=run", f"runs_dir={doors.folder}", f"cache_dir={doors.cache}"]
    killed = subprocess.Popen(
        doors.command("train", *overrides), cwd=REPOSITORY, env=doors.environment(), start_new_session=True
    )
    _wait_for(folder / "1/checkpoints/last.ckpt", killed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = _trials(folder)
    assert [trial.state.name for trial in before] == ["COMPLETE", "RUNNING"], "killed too late"

    found = doors("train", "-m", *search, own_process=True)
    assert found.code == 0, found.err
    after = _trials(folder)
    assert [trial.params for trial in after] == [trial.params for trial in before]
    assert [trial.state.name for trial in after] == ["COMPLETE", "COMPLETE"]
    assert [job.score for job in read_jobs(folder)] == [trial.value for trial in after]
    assert "Resuming from" in (folder / "1/train.log").read_text()
    assert "Resuming from" not in (folder / "0/train.log").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("submitit"), reason='pip install -e ".[slurm]"')
def test_submitit_runs_jobs_beside_each_other_and_one_whose_time_is_over_goes_on(doors):
    """As on a cluster: the signal that a job's time is over reaches all of its processes."""
    folder = doors.folder / "train/run"
    options = (*TINY, "trainer.max_epochs=4", "hydra/launcher=submitit_local", "seed=1,2")
    overrides = ["-m", *options, "name=run", f"runs_dir={doors.folder}", f"cache_dir={doors.cache}"]
    with subprocess.Popen(
        doors.command("train", *overrides), cwd=REPOSITORY, env=doors.environment()
    ) as swept:
        _wait_for(folder / "0/checkpoints/last.ckpt", swept)
        assert [job.status for job in read_jobs(folder)] == ["running", "running"]
        for pid in _processes_of("run/0"):
            os.kill(pid, signal.SIGUSR2)
        assert swept.wait(timeout=300) == 0
    assert [job.status for job in read_jobs(folder)] == ["finished", "finished"]
    assert ["Resuming from" in (folder / job / "train.log").read_text() for job in "01"] == [True, False]


def _processes_of(job: str) -> set[int]:
    """The training, and submitit's process that started it."""
    command = ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {int(number) for line in listed if f"name='{job}'" in line for number in line.split()[:2]}


def _wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists(), "the sweep ended without it, or takes too long"
