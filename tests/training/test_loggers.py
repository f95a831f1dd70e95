import json
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import wandb
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from src.errors import UserError
from src.labels import CAMVID
from src.training.loggers.build import build_loggers, keep_ids
from src.training.loggers.csv import MetricsCSV
from src.training.loggers.dashboards import dashboards
from src.training.loggers.wandb_file import read_records

WANDB = {
    "_target_": "src.training.loggers.wandb.wandb_logger",
    "name": "a-name",
    "project": "cgnet",
    "entity": None,
    "group": None,
    "job_type": "train",
    "tags": [],
    "notes": None,
    "offline": "auto",
    "id": None,
    "log_model": False,
}
API = "https://api.wandb.ai"


@pytest.fixture(autouse=True)
def nobody_logged_in(tmp_path, monkeypatch):
    """A home without any login, and no connection to anywhere but this machine."""
    home = tmp_path / "home"
    home.mkdir()
    connect = socket.socket.connect

    def local_only(self, address):
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "localhost", "::1"), address
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    with mock.patch.dict(os.environ):
        for name in [n for n in os.environ if n.startswith("WANDB_")] + ["NETRC"]:
            os.environ.pop(name, None)
        os.environ["HOME"] = str(home)
        yield home


TENSORBOARD = {
    "_target_": "src.training.loggers.tensorboard.ResumedTensorBoardLogger",
    "name": "tensorboard",
    "version": "",
    "log_graph": False,
    "default_hp_metric": False,
}


def build(run_dir, entry):
    (logger,) = build_loggers({"off": None, "mine": entry | {"save_dir": str(run_dir)}})
    return logger


def build_wandb(run_dir, **changes):
    logger = build(run_dir, WANDB | changes)
    assert isinstance(logger, WandbLogger)
    return logger


def log_in(home, how):
    netrc_text = "machine api.wandb.ai\n  login user\n  password " + 40 * "a" + "\n"
    if how == "WANDB_API_KEY":
        os.environ["WANDB_API_KEY"] = 40 * "a"
        return
    file = home / ".netrc" if how == "netrc" else home / "elsewhere"
    file.write_text(netrc_text)
    file.chmod(0o600)
    if how == "NETRC":
        os.environ["NETRC"] = str(file)


def test_wandb_without_a_login_is_offline(tmp_path):
    logger = build_wandb(tmp_path)
    assert logger._offline
    assert os.environ["WANDB_MODE"] == "offline"


@pytest.mark.parametrize("how", ["WANDB_API_KEY", "netrc", "NETRC"])
def test_wandb_with_a_login_is_online(tmp_path, nobody_logged_in, how):
    log_in(nobody_logged_in, how)
    assert not build_wandb(tmp_path)._offline
    assert "WANDB_MODE" not in os.environ


def test_wandb_can_be_disabled(tmp_path):
    os.environ["WANDB_MODE"] = "disabled"
    logger = build_wandb(tmp_path)
    try:
        assert not logger._offline
        logger.log_metrics({"val/mIoU": 0.5, "val_IoU/road": 0.5}, 1)
        logger.finish(exit_code=0)
    finally:
        wandb.teardown()
    assert not (tmp_path / "wandb").exists()


def test_a_login_elsewhere_does_not_count(tmp_path, nobody_logged_in):
    log_in(nobody_logged_in, "netrc")
    os.environ["WANDB_BASE_URL"] = "https://wandb.example.org"
    assert build_wandb(tmp_path)._offline


def test_a_broken_netrc_is_no_login(tmp_path, nobody_logged_in):
    (nobody_logged_in / ".netrc").write_text("what is this")
    assert build_wandb(tmp_path)._offline


@pytest.mark.parametrize("offline", [True, False])
def test_offline_can_be_decided(tmp_path, nobody_logged_in, offline):
    if offline:
        log_in(nobody_logged_in, "WANDB_API_KEY")
    assert build_wandb(tmp_path, offline=offline)._offline is offline


def test_the_wandb_run_of_a_directory_stays_the_same(tmp_path):
    first = build_wandb(tmp_path)
    assert first.version
    assert build_wandb(tmp_path).version != first.version  # another run, as long as none is kept
    keep_ids([MetricsCSV(tmp_path / "metrics.csv"), first], tmp_path)
    assert (tmp_path / "wandb_id.txt").read_text().strip() == first.version
    assert build_wandb(tmp_path).version == first.version
    assert build_wandb(tmp_path, id="given").version == "given"


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_first_checkpoint_logs_each_step_once(tmp_path):
    for start in range(2):
        logger = build_wandb(tmp_path)
        keep_ids([logger], tmp_path)
        logger.resume_from(0)
        for step in range(2 + 2 * start):
            logger.log_metrics({"loss": 1.0}, step)
        wandb.finish()
    files = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    steps = [
        [
            json.loads(item.value_json)
            for record in read_records(file)
            for item in record.history.item
            if (item.key or ".".join(item.nested_key)) == "trainer/global_step"
        ]
        for file in files
    ]
    assert steps == [[0, 1], [1, 2, 3]], "what else belongs to the last step may be missing"


def test_without_wandb_no_id_is_kept(tmp_path):
    keep_ids([MetricsCSV(tmp_path / "metrics.csv")], tmp_path)
    assert not (tmp_path / "wandb_id.txt").exists()


def test_an_offline_run_asks_nobody_and_stays_here(tmp_path, monkeypatch):
    """The real thing: W&B's own process would talk to the server at this address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        os.environ["WANDB_BASE_URL"] = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
        monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("asked"))
        logger = build_wandb(tmp_path)
        try:
            logger.log_metrics({"train/loss": 1.0}, 1)
            assert logger.experiment.offline
        finally:
            wandb.teardown()
        with pytest.raises(TimeoutError):
            server.accept()
    (folder,) = (tmp_path / "wandb").glob(f"offline-run-*-{logger.version}")
    assert list(folder.glob("*.wandb"))


def test_tensorboard_writes_into_the_run_directory(tmp_path):
    logger = build(tmp_path, TENSORBOARD)
    assert isinstance(logger, TensorBoardLogger)
    assert Path(logger.log_dir) == tmp_path / "tensorboard"


def test_a_missing_tensorboard_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("pytorch_lightning.loggers.tensorboard._TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr("lightning_fabric.loggers.tensorboard._TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr("lightning_fabric.loggers.tensorboard._TENSORBOARDX_AVAILABLE", False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"logger.mine: .*TensorBoardLogger needs a package.*tensorboard"):
        build(tmp_path, TENSORBOARD)


def test_a_model_cannot_be_sent_offline(tmp_path):
    with pytest.raises(UserError, match=r"logger\.wandb\.log_model=true.*wandb login"):
        build_wandb(tmp_path, log_model=True)


def test_the_best_model_is_sent_with_its_miou(tmp_path, nobody_logged_in):
    log_in(nobody_logged_in, "WANDB_API_KEY")
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(b"weights")
    sent = []
    for log_model in (False, True):
        logger = build_wandb(tmp_path, log_model=log_model, id="given")
        logger._experiment = SimpleNamespace(
            id="given", log_artifact=lambda artifact, aliases: sent.append((artifact, aliases))
        )
        (board,) = dashboards([logger], CAMVID)
        board.model(checkpoint, ["miou-68.53"], {"results/mIoU": 0.6853})
    ((artifact, aliases),) = sent
    assert (artifact.name, artifact.type) == ("model-given", "model")
    assert aliases == ["latest", "best", "miou-68.53"]
    assert list(artifact.manifest.entries) == ["best.ckpt"]
    assert artifact.metadata == {"results/mIoU": 0.6853}


@pytest.mark.parametrize(
    ("given", "group"),
    [
        ({"name": "sizes/3"}, "sizes"),
        ({"name": "first"}, "first"),
        ({"name": "first", "group": "mine"}, "mine"),
        ({"name": "again", "job_type": "eval", "checkpoint": "RUN/checkpoints/best.ckpt"}, "sizes"),
        ({"name": "again", "job_type": "eval", "checkpoint": "/weights/best.ckpt"}, None),
        ({"name": "tuned", "job_type": "train", "checkpoint": "RUN/checkpoints/best.ckpt"}, "tuned"),
    ],
)
def test_runs_are_grouped(tmp_path, given, group):
    (tmp_path / "config.yaml").write_text("name: sizes/3\nlogger: {wandb: null}\n")
    given = {key: value.replace("RUN", str(tmp_path)) for key, value in given.items()}
    assert build_wandb(tmp_path, **given)._wandb_init["group"] == group
