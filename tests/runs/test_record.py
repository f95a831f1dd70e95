"""record.json: with what, on what and from what code each start of a run was made."""

import json
import logging
import re

import pytest
import torch
from front_doors import TINY

from src.masking import hide_secrets, without_secrets
from src.runs import directory as runs
from src.runs import record
from src.runs.directory import Run

CONFIG = {"task": "train", "name": "a", "seed": 7, "data": {"name": "street"}}
PACKAGES = {"numpy": "2.0", "torch": "2.13.0"}


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts the run and returns what is recorded; `saved`: with a checkpoint to resume from."""
    monkeypatch.setattr(record, "installed_packages", lambda: dict(PACKAGES))
    handlers = logging.getLogger().handlers[:]

    def start(saved=True, world_size=1):
        run = Run(tmp_path / "run", CONFIG)
        run.open(world_size, {"epoch": 0, "global_step": 4} if run.last_checkpoint else None)
        if saved:
            (run.directory / "checkpoints").mkdir(exist_ok=True)
            (run.directory / "checkpoints/last.ckpt").touch()
        run._lock.close()
        return json.loads((run.directory / "record.json").read_text())["starts"]

    yield start
    for handler in logging.getLogger().handlers[:]:
        if handler not in handlers:
            logging.getLogger().removeHandler(handler)


@pytest.mark.slow
def test_a_front_door_s_record(doors, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a1b2c3-of-wandb")
    monkeypatch.setenv("TORCH_HUB_TOKEN", "a1b2c3-of-the-hub")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    mine = ("+callbacks.chat._target_=spy.Chat", "+callbacks.chat.chat_token=a1b2c3-of-mine")
    run = doors("train", *TINY, *mine, "trainer.max_epochs=1", own_process=True)
    assert run.code == 0, run.err
    (only,) = json.loads((run.directory / "record.json").read_text())["starts"]
    assert set(only) == {
        "time", "command", "overrides", "choices", "repeats", "seed", "world_size", "host", "hardware",
        "code", "python", "packages", "environment", "config_sha256", "from_checkpoint",
    }  # fmt: skip
    assert only["command"].startswith("python -m src.train experiment=debug")
    assert only["overrides"][: len(TINY)] == list(TINY)
    assert only["choices"]["data"] == "street_tiny"
    assert only["choices"]["experiment"] == "debug"
    assert (only["seed"], only["world_size"], only["from_checkpoint"]) == (42, 1, None)
    assert only["hardware"]["threads"] == 1
    assert only["packages"]["torch"] == torch.__version__
    assert only["environment"]["SLURM_JOB_ID"] == "4711"
    assert only["environment"]["OMP_NUM_THREADS"] == "1"
    for path in run.directory.rglob("*"):
        assert path.is_dir() or b"a1b2c3-of" not in path.read_bytes(), path


def test_every_start_has_an_entry(start):
    (first,) = start()
    assert first["from_checkpoint"] is None
    assert first["packages"] == PACKAGES
    _, second = start()
    assert second["from_checkpoint"] == {"epoch": 1, "step": 4}
    assert "packages" not in second  # as before


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda entry: entry["packages"].update(torch="2.14.0"), r"torch \(2.13.0 before, 2.14.0 now\)"),
        (lambda entry: entry["packages"].pop("numpy"), r"numpy \(2.0 before, None now"),
        (lambda entry: entry["hardware"].update(threads=64), r"threads \(\d+ before, 64 now"),
        (lambda entry: entry["hardware"].update(gpus=[{"name": "H100"}]), r"GPUs \(None before, H100 now"),
        (lambda entry: entry["code"].update(revision="0123456789abcdef"), r"code \(.* before, 01234.* now"),
        (lambda entry: entry.update(world_size=2), r"devices \(1 before, 2 now"),
    ],
)  # fmt: skip
def test_what_changed_since_the_last_start_is_said(start, monkeypatch, caplog, change, line):
    start()
    start()
    assert "Results may differ" not in caplog.text
    original = runs.this_start

    def changed(*arguments):
        entry, patch = original(*arguments)
        change(entry)
        return entry, patch

    monkeypatch.setattr(runs, "this_start", changed)
    start()
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert re.search(line, warning), warning
    assert warning.count(" before, ") == 1


def test_a_run_that_starts_anew_is_not_warned(start, monkeypatch, caplog):
    start(saved=False)
    monkeypatch.setattr(record, "installed_packages", lambda: {"torch": "3"})
    assert [entry["packages"]["torch"] for entry in start()] == ["2.13.0", "3"]
    assert "Results may differ" not in caplog.text


def test_a_patch_is_kept_beside_the_record(start, monkeypatch, tmp_path):
    state = {"revision": "abc", "branch": "main", "dirty": True, "left_out": [], "problem": None}
    for patch in (b"one", b"one", b"two", b""):
        monkeypatch.setattr(record, "code_state", lambda patch=patch: (dict(state), patch))
        starts = start()
    names = [entry["code"]["patch"] for entry in starts]
    assert names[0] == names[1] != names[2]
    assert names[3] is None
    assert [(tmp_path / "run" / name).read_bytes() for name in names[:3]] == [b"one", b"one", b"two"]


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_record_does_not_stop_a_run(start, tmp_path, content):
    start()
    (tmp_path / "run/record.json").write_text(content)
    assert len(start()) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("callbacks.chat.token=abc", "callbacks.chat.token=***"),
        ("+x.API_KEY=abc", "+x.API_KEY=***"),
        ("x={user: me, db_password: abc, n: 1}", "x={user: me, db_password: ***, n: 1}"),
        ("model.num_tokens=3", "model.num_tokens=3"),
        ("name=secretary", "name=secretary"),
        ("data.root=/data/token=1", "data.root=/data/token=***"),
        ("x={password: 'abc, def', n: 1}", "x={password: ***, n: 1}"),
        ("x.password='ab c\\' d' y=1", "x.password=*** y=1"),
        ('x={password: "abc, def"}', "x={password: ***}"),
        ("storage=postgresql://me:abc@host/studies", "storage=postgresql://me:***@host/studies"),
        ("storage=redis://:abc@host:6379/0", "storage=redis://:***@host:6379/0"),
        ("url=https://host:8080/a@b", "url=https://host:8080/a@b"),
        ("url=https://a1b2c3d4e5f6a7b8@host/data", "url=https://***@host/data"),
        ("url=ssh://git@host/data", "url=ssh://git@host/data"),
        ("url=https://host/d?v=1&X-Amz-Signature=abc&n=2", "url=https://host/d?v=1&X-Amz-Signature=***&n=2"),
    ],
)
def test_secrets_in_a_command(text, shown):
    assert hide_secrets(text) == shown


def test_secrets_in_a_config_are_asked_for_again():
    config = {
        "chat": [{"token": "abc", "tokens": "x", "user_secret": None, "access_key": 3}],
        "seed": 1,
        "storage": "mysql://me:abc@host/studies",
    }
    hidden = {
        "chat": [{"token": "???", "tokens": "x", "user_secret": None, "access_key": "???"}],
        "seed": 1,
        "storage": "mysql://me:???@host/studies",
    }
    assert without_secrets(config) == hidden


def test_values_of_secret_variables_are_hidden_wherever_they_stand(monkeypatch):
    monkeypatch.setenv("HUB_TOKEN", "a1b2c3d4")
    monkeypatch.setenv("DATA_KEY", "abc")  # too short to be known among other letters
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "a1b2c3d4e5")
    config = {"data": {"root": "/data/a1b2c3d4/x", "name": "abc"}, "also": ["a1b2c3d4e5"]}
    assert without_secrets(config) == {"data": {"root": "/data/???/x", "name": "abc"}, "also": ["???e5"]}
    assert hide_secrets("data.root=/data/a1b2c3d4/x") == "data.root=/data/***/x"


@pytest.mark.slow
def test_no_file_of_a_run_keeps_a_secret(doors, monkeypatch, tmp_path):
    monkeypatch.setenv("HUB_TOKEN", "a1b2c3d4e5f6")
    monkeypatch.setenv("PLACE", str(tmp_path))
    root = "data.root=${oc.env:PLACE}/street-${oc.env:HUB_TOKEN}"
    url = "report.baseline=null", "logger.wandb.notes=https://me:a1b2c3d4e5f6@host/${oc.env:HUB_TOKEN}"
    run = doors("train", *TINY, "logger=wandb", *url, root, "trainer.max_epochs=1", own_process=True)
    assert run.code == 0, run.err
    kept = [path for path in run.directory.rglob("*") if path.is_file() and "wandb" not in path.parts]
    assert {"config.yaml", "record.json", "report.html", "best.ckpt"} <= {path.name for path in kept}
    for path in kept:
        if path.name != "train.log":  # which says what was read
            assert b"a1b2c3d4e5f6" not in path.read_bytes(), path
    assert str(tmp_path) in (run.directory / "config.yaml").read_text()  # other paths stay
