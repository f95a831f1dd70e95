"""W&B runs of whole trainings: resumed after a kill, evaluated, swept, and without anybody's secrets."""

import json
import os
import signal
import subprocess

import pytest
from front_doors import REPOSITORY, TINY

from src.training.loggers.wandb_file import read_records

QUIET = (*TINY, "callbacks.summary=null", "logger=wandb", "logger.wandb.offline=true")


def run_of(directory):
    """The W&B runs of a run directory, oldest first: the record of the run, and its history."""
    found = []
    for file in sorted(directory.glob("wandb/offline-run-*/run-*.wandb")):
        records = list(read_records(file))
        (run,) = [r.run for r in records if r.HasField("run")]
        history = [
            {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in r.history.item}
            for r in records
            if r.HasField("history")
        ]
        found.append((run, history))
    return found


@pytest.mark.slow
def test_a_killed_and_resumed_run_is_one_run_with_steps_that_only_rise(doors, faulty_conf):
    command = (
        *("train", f"--config-dir={faulty_conf}", *QUIET, "callbacks=faulty"),
        *("trainer.log_every_n_steps=1", "callbacks.last.every_n_train_steps=3"),
    )
    orders = {"hook": "on_train_batch_start", "at": 6, "what": "SIGKILL", "rank": 0}
    (doors.folder / "fault.json").write_text(json.dumps(orders))
    assert doors(*command, own_process=True).code == -signal.SIGKILL
    resumed = doors(*command, own_process=True)
    assert resumed.code == 0, resumed.err
    (first, before), (second, after) = run_of(resumed.directory)
    assert first.run_id == second.run_id
    both = [row for row in [*before, *after] if "trainer/global_step" in row]
    steps = [row["trainer/global_step"] for row in both]
    assert steps == sorted(steps)
    # W&B's own process keeps the last steps before the kill, or some of them: none may be missing now.
    with_loss = [row["trainer/global_step"] for row in both if "train/loss_step" in row]
    assert sorted(set(with_loss)) == [*range(8)]
    assert len(with_loss) <= 9


@pytest.mark.slow
def test_an_evaluation_is_a_run_of_its_own_in_the_group_of_its_training(doors):
    trained = doors("train", *QUIET, "trainer.max_epochs=1", own_process=True)
    offline = ("logger=wandb", "logger.wandb.offline=true")
    checkpoint = f"checkpoint={trained.directory}/checkpoints/best.ckpt"
    evaluated = doors("eval", checkpoint, *offline, name="again", own_process=True)
    assert evaluated.code == 0, evaluated.err
    ((training, _),) = run_of(trained.directory)
    ((evaluation, history),) = run_of(evaluated.directory)
    assert (training.run_group, training.job_type, training.display_name) == ("run", "train", "run")
    assert (evaluation.run_group, evaluation.job_type, evaluation.display_name) == ("run", "eval", "again")
    assert training.run_id != evaluation.run_id
    logged = {key for row in history for key in row}
    assert {"val/mIoU", "results/classes.path", "results/worst_images.count"} <= logged


@pytest.mark.slow
def test_no_secret_is_in_any_file_of_a_run(doors):
    secrets = {name: f"{name.lower()}-{'x1y2z3' * 3}" for name in ENVIRONMENT}
    given = {key: f"{key}-{'q7w8e9' * 3}" for key in ARGUMENTS}
    arguments = ", ".join(f"{key}: {value}" for key, value in given.items())
    urls = ["postgresql://me:pass-in-a-url-1@host/db", "https://host/x?access_token=query-of-a-url-2"]
    command = [
        *QUIET,
        "trainer.max_epochs=1",
        f"+callbacks.own={{_target_: faults.Anything, {arguments}, one: '{urls[0]}', two: '{urls[1]}'}}",
        f"logger.wandb.notes='with {secrets['HF_TOKEN']}'",
    ]
    places = ["name=run", f"runs_dir={doors.folder}", f"cache_dir={doors.cache}"]
    done = subprocess.run(
        doors.command("train", *command, *places),
        cwd=REPOSITORY,
        env=doors.environment() | secrets,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    planted = [*secrets.values(), *given.values(), "pass-in-a-url-1", "query-of-a-url-2"]
    assert len(planted) == 12
    directory = doors.folder / "train/run"
    content = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert any(path.suffix == ".wandb" for path in content)
    leaked = [
        (path.name, secret) for path, text in content.items() for secret in planted if secret.encode() in text
    ]
    assert not leaked
    assert os.fspath(directory).encode() in b"".join(content.values()), "the files can be searched"


ENVIRONMENT = ("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "DB_PASSWORD", "GITHUB_PAT")
ARGUMENTS = ("api_key", "token", "password", "client_secret", "private_key")
