"""scripts/wandb_sweeps with W&B's own agent, which gets its orders from us instead of a server."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from front_doors import REPOSITORY, TINY
from omegaconf import OmegaConf
from wandb import wandb_agent
from wandb.sdk.launch.sweeps.utils import load_sweep_config

from src.config import _stamp_of_the_launcher
from src.training.loggers.wandb import wandb_logger
from src.training.loggers.wandb_file import read_records

optuna = pytest.importorskip("optuna", reason='pip install -e ".[optuna]"')
FILES = sorted((REPOSITORY / "scripts/wandb_sweeps").glob("*.yaml"))


def _drawn(parameters):
    """A value of each, by W&B's own reading of a sweep's file; false where it may be."""
    from wandb.sdk.sweeps.scheduler.optuna import search_space_from_sweep_config

    space = search_space_from_sweep_config(parameters)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    return study.ask(space).params | {
        key: False for key, spec in parameters.items() if False in spec.get("values", [])
    }


def _toy(command, doors, *more):
    (place,) = (number for number, part in enumerate(command) if part == "experiment=demo")
    small = ("trainer.max_epochs=1", "model.num_blocks=[1,1]", "callbacks.pictures=null", *more)
    toy = [*TINY[:-1], *small, f"runs_dir={doors.folder}", f"cache_dir={doors.cache}"]
    return [*command[:place], *toy, *command[place + 1 :]]


def _order(agent, kind, values):
    order = {"type": kind, "run_id": "ab12cd34", "program": "src/train.py"}
    answer = agent._process_command(order | {"args": {key: {"value": v} for key, v in values.items()}})
    assert "exception" not in answer
    return agent._run_processes["ab12cd34"]


@pytest.fixture
def agent(monkeypatch, tmp_path, doors):
    environment = doors.environment() | {
        "PATH": f"{Path(sys.executable).parent}:{doors.environment()['PATH']}",
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "WANDB_SWEEP_ID": "sw33p",
        "WANDB_RUN_ID": "",  # the agent sets these two
        "WANDB_SWEEP_PARAM_PATH": "",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CGNET_RUN_STAMP", raising=False)
    monkeypatch.chdir(REPOSITORY)
    return wandb_agent.Agent(api=None, queue=None, sweep_id="sw33p")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_agent_s_values_win(doors, agent, monkeypatch, path):
    content = load_sweep_config(str(path))
    values = _drawn(content["parameters"])
    agent._sweep_command = content["command"]
    monkeypatch.setattr(wandb_agent, "AgentProcess", lambda **given: SimpleNamespace(**given))
    command = _order(agent, "run", values).command
    assert command[:4] == ["/usr/bin/env", "python", "-m", "src.train"]
    composed = doors("train", "--cfg=job", "--resolve", *command[4:])
    assert composed.code == 0, composed.err
    config = OmegaConf.create(composed.out)
    assert {key: OmegaConf.select(config, key) for key in values} == values
    assert config.logger.wandb.job_type == "train"
    assert config.trainer.max_epochs == 10, "that of experiment=demo"
    assert _stamp_of_the_launcher() == "sw33p/ab12cd34"
    assert wandb_logger(doors.folder).version == "ab12cd34"


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_run_of_an_agent_has_the_agent_s_values_and_id(doors, agent, path):
    content = load_sweep_config(str(path))
    values = _drawn(content["parameters"])
    agent._sweep_command = _toy(content["command"], doors)
    assert _order(agent, "run", values).wait(timeout=200) == 0

    directory = doors.folder / "train/sw33p/ab12cd34"
    kept = OmegaConf.load(directory / "config.yaml")
    assert {key: OmegaConf.select(kept, key) for key in values} == values
    assert (directory / "wandb_id.txt").read_text() == "ab12cd34\n"
    assert content["metric"]["name"] in (directory / "metrics.csv").read_text()

    (file,) = directory.glob("wandb/offline-run-*-ab12cd34/run-ab12cd34.wandb")
    records = list(read_records(file))
    run = next(record.run for record in records if record.HasField("run"))
    assert (run.run_id, run.sweep_id) == ("ab12cd34", "sw33p")
    assert run.display_name == "sw33p/ab12cd34"
    config = {}
    for update in [e for r in records for e in (*r.run.config.update, *r.config.update)]:
        config[update.key or ".".join(update.nested_key)] = json.loads(update.value_json)
    for key, value in values.items():
        assert config[key] == value
        if "." in key:
            group, name = key.split(".")
            assert config[group][name] == value, "conf's value has won"


@pytest.mark.slow
def test_a_run_that_the_agent_stops_saves_and_resumes(doors, agent):
    command = load_sweep_config(str(FILES[0]))["command"]
    agent._sweep_command = _toy(
        command, doors, "trainer.max_epochs=20", "callbacks.last.every_n_train_steps=1"
    )
    first = _order(agent, "run", {"seed": 5})
    directory = doors.folder / "train/sw33p/ab12cd34"
    deadline = time.monotonic() + 100
    while not (directory / "checkpoints/last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    agent._process_command({"type": "stop", "run_id": "ab12cd34"})
    assert first.wait(timeout=60) == 143
    assert not (directory / "metrics.json").exists()

    assert _order(agent, "resume", {"seed": 5}).wait(timeout=200) == 0
    assert "Resuming from" in (directory / "train.log").read_text()
    assert (directory / "metrics.json").exists()
    files = sorted(directory.glob("wandb/offline-run-*/run-*.wandb"))
    assert [file.name for file in files] == ["run-ab12cd34.wandb"] * 2
    steps = [
        json.loads(item.value_json)
        for file in files
        for record in read_records(file)
        if record.HasField("history")
        for item in record.history.item
        if "trainer/global_step" in (item.key, *item.nested_key)
    ]
    assert steps == sorted(steps)
    codes = [r.exit.exit_code for file in files for r in read_records(file) if r.HasField("exit")]
    assert codes == [1, 0]
