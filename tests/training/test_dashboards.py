"""TensorBoard and MLflow are shown the same as W&B, whose files test_wandb.py reads."""

import json
import logging

import numpy as np
import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from src.labels import CAMVID
from src.training.loggers import send_results as results
from src.training.loggers.dashboards import dashboards
from src.training.loggers.enduring import Enduring
from src.training.loggers.send_results import send_results
from src.training.loggers.tensorboard import ResumedTensorBoardLogger

CLASSES = list(CAMVID.class_names)
MATRIX = np.random.default_rng(0).integers(1, 100, (11, 11))


@pytest.fixture
def run_dir(tmp_path):
    """A finished run, without pictures of best and worst images."""
    folder = tmp_path / "run"
    folder.mkdir()
    iou = dict.fromkeys(CLASSES, 0.5) | {CLASSES[3]: None}
    metrics = {"mIoU": 0.5, "epoch": 3, "classes": CLASSES, "IoU": iou, "confusion_matrix": MATRIX.tolist()}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "report.html").write_text("<!doctype html>")
    return folder


def rows():
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    ids = np.zeros((24, 32), np.uint8)
    return [("first", image, ids, ids), ("second", image, None, ids)][:1]


def test_tensorboard_has_tables_and_pictures(tmp_path, run_dir):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(str(tmp_path), name="tb", version="")
    for board in dashboards([CSVLogger(str(tmp_path)), logger], CAMVID):
        board.pictures("val/panel", rows(), step=5)
    send_results([logger], run_dir, CAMVID, step=7)
    found = events.EventAccumulator(logger.log_dir).Reload()
    assert set(found.Tags()["images"]) == {"val/panel", "results/confusion_matrix"}
    assert [image.step for image in found.Images("val/panel")] == [5]
    (text,) = found.Tensors("results/classes/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    assert lines[0] == "| class | IoU | recall | precision | share of the pixels |"
    recall = MATRIX[0, 0] / MATRIX[0].sum()
    assert lines[2].startswith(f"| {CLASSES[0]} | 0.5000 | {recall:.4f} | ")
    assert lines[5].startswith(f"| {CLASSES[3]} |  | "), "a class that does not occur has no IoU"


def test_mlflow_has_tables_pictures_and_the_report(tmp_path, run_dir):
    pytest.importorskip("mlflow", reason="pip install mlflow")
    from src.training.loggers.mlflow import keep_mlflow_id, mlflow_logger

    places = {"tracking_uri": f"sqlite:///{tmp_path}/m.db", "artifact_location": f"{tmp_path}/artifacts"}
    logger = mlflow_logger(run_dir, experiment_name="cgnet", run_name="run", **places)
    keep_mlflow_id(logger, run_dir)
    assert mlflow_logger(run_dir, experiment_name="cgnet", **places).run_id == logger.run_id
    for board in dashboards([logger], CAMVID):
        board.pictures("val/panel", rows(), step=5)
    send_results([logger], run_dir, CAMVID, step=7)
    folder = tmp_path / "artifacts" / logger.run_id / "artifacts"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    shown = {"val/panel/0000005.jpg", "results/classes.csv", "results/confusion_matrix.png", "report.html"}
    assert files == shown
    send_results([logger], run_dir, CAMVID, step=7)
    table = (folder / "results/classes.csv").read_text().splitlines()
    assert table[0] == "class,IoU,recall,precision,share of the pixels"
    assert len(table) == 1 + len(CLASSES), "a second time the same table, not a longer one"
    assert logger.experiment.get_run(logger.run_id).data.tags["results/mIoU"] == "0.5"


@pytest.mark.slow
def test_mlflow_keeps_the_parameters_of_the_first_start(tmp_path):
    pytest.importorskip("mlflow", reason="pip install mlflow")
    from src.training.loggers.mlflow import keep_mlflow_id, mlflow_logger

    places = {"tracking_uri": f"sqlite:///{tmp_path}/m.db", "experiment_name": "cgnet"}
    config = {"trainer": {"devices": 1}, "optimizer": {"groups": {"stage1.*": {"lr_factor": 0}}}}
    first = mlflow_logger(tmp_path, **places)
    keep_mlflow_id(first, tmp_path)
    first.log_hyperparams(config)
    resumed = mlflow_logger(tmp_path, **places)
    resumed.log_hyperparams(config | {"trainer": {"devices": 4}, "extend": True})
    assert not resumed.gone
    data = resumed.experiment.get_run(first.run_id).data
    assert data.params["trainer.devices"] == "1"
    assert data.params["extend"] == "True"
    assert data.tags["resumed/trainer.devices"] == "4"
    assert sum(tag.startswith("resumed/") for tag in data.tags) == 1


@pytest.mark.slow
def test_mlflow_has_each_step_of_a_run_that_was_killed_once(tmp_path):
    pytest.importorskip("mlflow", reason="pip install mlflow")
    from src.training.loggers.mlflow import keep_mlflow_id, mlflow_logger

    places = {"tracking_uri": f"sqlite:///{tmp_path}/m.db", "experiment_name": "cgnet"}
    for start in (0, 2):
        logger = mlflow_logger(tmp_path, **places)
        keep_mlflow_id(logger, tmp_path)
        logger.resume_from(start)
        assert not logger.gone
        client = logger.experiment
        assert client.get_run(logger.run_id).info.status == "RUNNING"
        for step in range(start, start + 3):
            logger.log_metrics({"x": float(step)}, step)
        logger.finalize("failed")
    assert [value.step for value in client.get_metric_history(logger.run_id, "x")] == [0, 1, 2, 3, 4]


def test_tensorboard_has_each_step_of_a_run_that_was_killed_once(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start in (0, 2):
        logger = ResumedTensorBoardLogger(str(tmp_path), name="tb", version="")
        logger.log_hyperparams({"devices": 1})
        logger.resume_from(start)
        for step in range(start, start + 3):
            logger.log_metrics({"x": float(start)}, step)
        logger.finalize("failed")
    found = events.EventAccumulator(logger.log_dir).Reload().Scalars("x")
    assert [(value.step, value.value) for value in found] == [(0, 0), (1, 0), (2, 2), (3, 2), (4, 2)]


def test_a_server_that_fails_is_left_alone(tmp_path, caplog):
    """MLflow's, in the middle of a training."""

    class Server(Enduring, CSVLogger):
        service = "MLflow"
        asked = 0

        def log_metrics(self, metrics, step=None):
            self.attempt(self.send)

        def send(self):
            self.asked += 1
            raise ConnectionError("502")

    logger = Server(tmp_path)
    for step in range(3):
        logger.log_metrics({"x": 1.0}, step)
    assert logger.asked == 1
    (message,) = caplog.messages
    assert message == "MLflow has failed (ConnectionError('502')): the training continues without it."


def test_a_dashboard_that_fails_costs_a_warning(tmp_path, run_dir, monkeypatch, caplog):
    class Broken(results.Dashboard):
        def table(self, *args, **kwargs):
            raise ConnectionError("gone")

    monkeypatch.setattr(results, "dashboards", lambda loggers, table: [Broken(CSVLogger(tmp_path), table)])
    with caplog.at_level(logging.WARNING):
        send_results([], run_dir, CAMVID, step=7)
    assert (
        f"CSVLogger could not get the results (ConnectionError('gone')). They are in {run_dir}" in caplog.text
    )
