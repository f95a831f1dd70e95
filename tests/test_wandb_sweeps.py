"""scripts/wandb_sweeps with W&B's own agent, which gets its orders from us instead of a server."""

import json
import sys
from pathlib import Path

import pytest
from front_doors import REPOSITORY, TINY
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps.utils import load_sweep_config
from wandb.wandb_agent import Agent
from wandb_file import read_records

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
    return Agent(api=None, queue=None, sweep_id="sw33p")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_run_of_an_agent_has_the_agent_s_values_and_id(doors, agent, path):
    content = load_sweep_config(str(path))
    values = _drawn(content["parameters"])
    toy = [*TINY, "trainer.max_epochs=1", f"runs_dir={doors.folder}", f"cache_dir={doors.cache}"]
    (place,) = (number for number, part in enumerate(content["command"]) if part == "experiment=demo")
    agent._sweep_command = [*content["command"][:place], *toy, *content["command"][place + 1 :]]
    order = {"type": "run", "run_id": "ab12cd34", "program": content["program"]}
    answer = agent._process_command(order | {"args": {key: {"value": v} for key, v in values.items()}})
    assert "exception" not in answer
    assert agent._run_processes["ab12cd34"].wait(timeout=200) == 0

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
