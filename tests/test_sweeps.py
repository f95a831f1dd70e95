"""`python -m src.train -m`: where jobs live, what runs again, what a failing one leaves. With a stand-in for
the training; whole ones are in test_sweeps_whole.py."""

import json
import subprocess
import sys

import pytest
from front_doors import REPOSITORY

from src.results.runs import read_runs
from src.runs.jobs import Job, find, identity, place, read_jobs
from src.runs.locks import hold
from src.sweep import child


def test_started_again_only_what_is_missing_runs(sweep):
    first = sweep("seed=1,2")
    assert (first.code, first.started) == (0, {0, 1}), first.err
    again = sweep("seed=1,2")
    assert (again.code, again.started) == (0, set())
    assert "run/1: finished before, mIoU 0.9000" in again.out
    longer = sweep("seed=3,2,1")
    assert (longer.code, longer.started) == (0, {2})
    assert "seed=3" in Job.read(longer.directory / "2").overrides
    assert {p.name for p in longer.directory.iterdir()} == {"0", "1", "2", ".lock", "multirun.yaml"}


@pytest.mark.slow
def test_a_failing_job_is_recorded_retried_and_does_not_stop_the_others(sweep):
    swept = sweep("seed=1,13,2", "hydra.sweeper.max_batch_size=1")
    assert (swept.code, swept.started) == (2, {0, 1, 2})
    assert "1 of 3 jobs failed" in swept.err
    assert "the thirteenth seed fails" in swept.err
    job = Job.read(swept.directory / "1")
    assert (job.status, job.exit_code, job.error) == ("failed", 1, "the thirteenth seed fails")
    lines = swept.out.partition("Sweep ")[2].splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["0", "finished", "0.9000", "seed=1"],
        ["1", "failed", "seed=13"],
        ["2", "finished", "0.9000", "seed=2"],
    ]
    again = sweep("seed=1,13,2")
    assert (again.code, again.started) == (2, {1})
    (run,) = read_runs([swept.directory / "1"])
    assert (run.status, run.last, run.seed) == ("failed (exit code 1)", None, 13)


@pytest.mark.slow
def test_passwords_and_keys_are_not_kept(sweep):
    swept = sweep("seed=1,2", "+logger.api_key=hush")
    assert (swept.code, swept.started) == (0, {0, 1}), swept.err
    kept = [path.read_text() for path in swept.directory.rglob("*") if path.is_file()]
    assert any("+logger.api_key=***" in text for text in kept)
    assert not [text for text in kept if "hush" in text]
    assert sweep("seed=1,2", "+logger.api_key=hush").started == set()


def test_values_given_twice_are_one_job(sweep):
    swept = sweep("seed=13,13")
    assert "1 of 1 jobs failed" in swept.err
    assert (swept.directory / "0/starts").read_text() == "*"


def test_an_interrupted_sweep_shows_what_it_has_not_begun_and_goes_on(sweep):
    swept = sweep("seed=1,130,2")
    assert (swept.code, swept.started) == (130, {0, 1})
    assert [job.status for job in read_jobs(swept.directory)] == ["finished", "interrupted", "not started"]
    again = sweep("seed=1,130,2")
    assert (again.code, again.started) == (0, {1, 2})


@pytest.mark.slow
def test_where_and_how_it_runs_makes_no_other_job_unless_that_is_swept(sweep):
    assert sweep("seed=1", "trainer.devices=1", "logger=csv").started == {0}
    assert sweep("seed=1", "trainer.devices=2").started == set()
    assert sweep("seed=1", "data.num_workers=0,2").started == {1, 2}
    assert sweep("seed=1", "trainer.max_epochs=3").started == {3}


def test_identity():
    given = [
        "name=a",
        "sweep=seeds",
        "hydra.verbose=true",
        "logger=wandb",
        "+trainer.devices=2",
        "model=cgnet",
    ]
    assert identity(given) == ["model=cgnet"]
    assert identity(given, {"+trainer.devices"}) == ["+trainer.devices=2", "model=cgnet"]
    assert identity(["trainer.max_steps=3", "seed=1"]) == ["trainer.max_steps=3", "seed=1"]
    assert identity(["teacher.checkpoint=a.ckpt"]) == ["teacher.checkpoint=a.ckpt"]


def test_a_number_whose_job_was_deleted_is_free_again(tmp_path):
    jobs = [place(tmp_path, [f"seed={seed}"], {"seed"}) for seed in (1, 2)]
    (tmp_path / "0/job.json").unlink()
    assert place(tmp_path, ["seed=3"], {"seed"}).number == 2, "what is in 0 is not ours to overwrite"
    (tmp_path / "0").rmdir()
    assert place(tmp_path, ["seed=4"], {"seed"}).number == 0
    assert find(tmp_path, ["seed=2"], {"seed"}) == jobs[1]


def test_a_running_job_without_a_process_reads_as_interrupted(tmp_path):
    job = place(tmp_path, ["seed=1"], set())
    job.start()
    assert job.status_now == "interrupted"
    code = "import sys; from src.runs.locks import hold; from pathlib import Path\n"
    code += "lock = hold(Path(sys.argv[1])); print(flush=True); input()"
    for path in (tmp_path / ".lock", job.directory / ".lock"):
        command = [sys.executable, "-c", code, str(path)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY
        ) as holder:
            holder.stdout.readline()
            assert job.status_now == "running"
            with pytest.raises(BlockingIOError):
                hold(path)
            holder.communicate(b"\n")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RANK": "1", "WORLD_SIZE": "2"}, "one of 2 (RANK=1)"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "one of 4 (SLURM_PROCID=0)"),
    ],
)
@pytest.mark.parametrize("sweeper", ["grid", "optuna"])
def test_a_sweep_in_several_processes_is_refused(sweep, monkeypatch, environment, said, sweeper):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    swept = sweep("seed=1,2", f"hydra/sweeper={sweeper}")
    assert swept.code == 2
    assert said in swept.err
    assert not swept.directory.exists()


def test_a_job_in_a_slurm_job_of_one_task_starts_its_own_ranks(monkeypatch, tmp_path):
    for name in ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    environment = child._environment("sizes", Job(tmp_path / "0", ["seed=1"]))
    assert not {n for n in environment if "RANK" in n or "WORLD" in n or "TASK" in n or "PROCID" in n}
    assert environment["SLURM_JOB_ID"] == "7"


def test_the_jobs_of_a_sweep_are_one_group_of_w_and_b_unless_another_is_set(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    assert child._environment("sizes", Job(tmp_path / "0", ["seed=1"]))["WANDB_RUN_GROUP"] == "sizes"
    monkeypatch.setenv("WANDB_RUN_GROUP", "mine")
    assert child._environment("sizes", Job(tmp_path / "0", ["seed=1"]))["WANDB_RUN_GROUP"] == "mine"


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["name=a,b"], "a sweep has one directory"),
        (["sweep=residual,depth"], "a sweep varies the values of one file"),
        (["seed=interval(1,2)"], "Add hydra/sweeper=optuna"),
        (["optimizer.rl=1,2"], "The nearest one is optimizer.lr"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_is_made(sweep, overrides, said):
    swept = sweep(*overrides)
    assert swept.code == 2
    assert said in swept.err
    assert not list(swept.directory.glob("*/job.json"))


def test_two_processes_cannot_run_one_sweep(sweep, doors):
    folder = doors.folder / "train/run"
    folder.mkdir(parents=True)
    code = "import sys; from src.runs.locks import hold; from pathlib import Path\n"
    code += "lock = hold(Path(sys.argv[1])); print(flush=True); input()"
    command = [sys.executable, "-c", code, str(folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as other:
        other.stdout.readline()
        refused = sweep("seed=1,2")
        other.communicate(b"\n")
    assert refused.code == 2
    assert "another process runs this sweep" in refused.err
    assert sweep("seed=1,2").code == 0


def test_job_json_is_what_a_stranger_would_read(sweep):
    swept = sweep("seed=5")
    kept = json.loads((swept.directory / "0/job.json").read_text())
    assert kept["status"] == "finished"
    assert kept["score"] == pytest.approx(0.9)
    assert kept["started"] <= kept["ended"]


def test_a_finished_job_of_another_config_is_named(tmp_path, capsys):
    values = {"lr": 1e-05, "augment.scale": "${data.scale}", "steps": [1, 2]}
    job = place(tmp_path, ["seed=1"], set(), values=values)
    job.end("finished", 0)

    def said(**changes):
        assert place(tmp_path, ["seed=1"], set(), values=values | changes).status == "finished"
        return capsys.readouterr().out

    assert said() == ""
    assert said(a_new_key=1) == "", "which its run had in the code"
    assert "WARNING: conf/ or --config-dir has changed since: lr was 1e-05, is 0.1. Its" in said(lr=0.1)
