"""Loggers of a user's own, beside those of conf/logger."""

import json

import pytest
from front_doors import TINY
from spy import Notebook

from src.training.loggers.build import build_loggers
from src.training.loggers.wandb import EnduringWandbLogger

QUIET = (*TINY, "callbacks.summary=null", "callbacks.pictures=null", "report.images=0")


@pytest.fixture
def conf(tmp_path):
    """A user's own conf/logger/own.yaml, beside W&B."""

    def write(entry: str) -> str:
        folder = tmp_path / "conf/logger"
        folder.mkdir(parents=True)
        (folder / "own.yaml").write_text(f"defaults: [csv, _self_]\n{entry}\n")
        return f"--config-dir={folder.parent}"

    return write


def test_one_s_own_gets_metrics_and_hyperparameters(doors, conf):
    notes = doors.folder / "notes"
    directory = conf(f"notebook: {{_target_: spy.Notebook, path: {notes}}}")
    run = doors("train", directory, *QUIET, "logger=own", "trainer.max_epochs=1")
    assert run.code == 0, run.err
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    assert lines[0] == {"hyperparameters": {"seed": 42, "lr": 1e-3}}
    logged = {key for line in lines for key in line.get("metrics", {})}
    assert {"train/loss_step", "val/mIoU", "lr-Adam"} <= logged
    assert (run.directory / "metrics.csv").exists()


def test_a_file_may_join_several(tmp_path):
    wandb = {
        "_target_": "src.training.loggers.wandb.wandb_logger",
        "save_dir": str(tmp_path),
        "offline": True,
    }
    own = {"_target_": "spy.Notebook", "path": "notes"}
    built = build_loggers({"wandb": wandb, "tensorboard": None, "mine": own, "off": None})
    assert [type(logger) for logger in built] == [EnduringWandbLogger, Notebook]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            "comet: {_target_: pytorch_lightning.loggers.CometLogger}",
            ["logger.comet", "not installed"],
        ),
        ("mine: {_target_: torch.nn.Identity}", ["logger.mine", "no Lightning logger"]),
        ("mine: {path: notes}", ["logger.mine", "_target_"]),
        ("mine: true", ["logger.mine=true", "_target_"]),
        ("mine: {_target_: spy.Notebook, pth: notes}", ["logger.mine", "pth"]),
    ],
    ids=str,
)
def test_what_is_no_logger_is_refused_before_anything_is_made(doors, conf, entry, said):
    run = doors("train", conf(entry), *QUIET, "logger=own")
    assert run.code == 2
    assert all(word in run.err for word in said), run.err
    assert not run.directory.exists()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("fails", ["hyperparameters", "metrics"])
def test_one_that_fails_is_named(doors, fails):
    own = f"+logger.mine={{_target_: spy.Notebook, path: {doors.folder}/notes, fails: {fails}}}"
    run = doors("train", *QUIET, own)
    assert run.code == 2
    assert "logger.mine (spy.Notebook) has failed: ConnectionError: no server at http://notebook" in run.err
    assert "logger.mine=null" in run.err
