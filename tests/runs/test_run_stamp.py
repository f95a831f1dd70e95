"""The name of a run that was given none: one for all its processes."""

import re

import pytest
from hydra import compose, initialize_config_dir
from omegaconf.errors import InterpolationResolutionError

from src.config import CONF_DIR, register_resolvers

STEP = {"SLURM_JOB_ID": "812", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "WORLD_SIZE": "4"}


def name(monkeypatch, **variables):
    for variable in ("CGNET_RUN_STAMP", "NODE_RANK", "WORLD_SIZE", *STEP):
        # setenv first: whatever the code sets is taken away again after the test.
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", ["data=street_tiny"])
        return config.name, config.run_dir


def test_alone_it_is_the_time(monkeypatch):
    stamp, directory = name(monkeypatch)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", stamp)
    assert directory == f"runs/train/{stamp}"
    assert re.match(r"\d{4}-", name(monkeypatch, WORLD_SIZE="1", SLURM_JOB_ID="812")[0])


def test_a_rank_has_that_of_the_process_which_started_it(monkeypatch):
    assert name(monkeypatch, CGNET_RUN_STAMP="then", NODE_RANK="0", WORLD_SIZE="2")[0] == "then"


def test_tasks_of_slurm_share_their_step_which_a_requeued_job_repeats(monkeypatch):
    assert name(monkeypatch, **STEP)[0] == "slurm-812-0"
    assert name(monkeypatch, **STEP, CGNET_RUN_STAMP="then")[0] == "then"


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "2"}, {"NODE_RANK": "1"}])
def test_processes_that_started_apart_need_a_name(monkeypatch, variables):
    with pytest.raises(InterpolationResolutionError, match=r"name=\.\.\. is missing"):
        name(monkeypatch, **variables)
