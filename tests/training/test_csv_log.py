import csv
import math
from pathlib import Path

import pytest
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from src.training.loggers.csv import MetricsCSV


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path, *rows):
    log = MetricsCSV(path)
    for step, metrics in rows:
        log.log_metrics(metrics, step)
    return log


def test_one_row_per_step(tmp_path):
    path = tmp_path / "metrics.csv"
    write(
        path,
        (49, {"lr": 0.001}),
        (49, {"epoch": 0, "train/loss": 1.5}),
        (99, {"epoch": 0, "train/loss": 1.25}),
        (99, {"epoch": 0, "val/mIoU": 0.25}),
    )
    assert read(path) == [
        {"epoch": "0", "step": "49", "lr": "0.001", "train/loss": "1.5", "val/mIoU": ""},
        {"epoch": "0", "step": "99", "lr": "", "train/loss": "1.25", "val/mIoU": "0.25"},
    ]


def test_the_file_is_complete_after_every_call(tmp_path):
    path = tmp_path / "metrics.csv"
    log = MetricsCSV(path)
    for step in range(3):
        log.log_metrics({"loss": step / 2}, step)
        assert [float(row["loss"]) for row in read(path)] == [n / 2 for n in range(step + 1)]
        assert list(tmp_path.iterdir()) == [path]  # no temporary stays


def test_a_long_file_is_not_written_for_each_row(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    monkeypatch.setattr("src.training.loggers.csv._MANY", 20)
    log = write(path, *((step, {"loss": 1}) for step in range(25)))
    log._next_write = math.inf
    for step in range(25, 125):
        log.log_metrics({"loss": 1}, step)
    assert len(read(path)) < 30
    log.flush()
    assert [row["step"] for row in read(path)] == [str(step) for step in range(125)]


def test_the_end_of_a_training_writes_what_waits(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    monkeypatch.setattr("src.training.loggers.csv._MANY", 1)
    log = write(path, (0, {"loss": 1}))
    log._next_write = math.inf
    log.log_metrics({"loss": 2}, 1)
    assert len(read(path)) == 1
    log.finalize("success")
    assert len(read(path)) == 2


def test_a_restart_keeps_the_rows_and_replaces_those_past_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.csv"
    write(path, *((step, {"loss": step, "old": 1}) for step in (10, 20, 30, 40)))
    again = MetricsCSV(path)
    assert len(read(path)) == 4  # until it has something to say
    again.log_metrics({"loss": 99}, 25)  # the checkpoint was at step 20
    assert [(row["step"], row["loss"]) for row in read(path)] == [("10", "10"), ("20", "20"), ("25", "99")]
    again.log_metrics({"loss": 100, "new": 7}, 30)
    assert read(path)[-1] == {"epoch": "", "step": "30", "loss": "100", "old": "", "new": "7"}
    assert len(read(path)) == 4


def test_a_restart_goes_on_in_the_row_of_the_same_step(tmp_path):
    path = tmp_path / "metrics.csv"
    write(path, (10, {"loss": 1.0}))
    write(path, (10, {"val/mIoU": 0.5}))
    assert read(path) == [{"epoch": "", "step": "10", "loss": "1.0", "val/mIoU": "0.5"}]


def test_values_that_csv_could_trip_over(tmp_path):
    path = tmp_path / "metrics.csv"
    write(path, (1, {"text": 'a, "b"\nc', "none": None, "nan": math.nan, "a,b": 1}), (2, {"none": 0}))
    write(path, (3, {"nan": math.inf}))
    first, second, third = read(path)
    assert first["text"] == 'a, "b"\nc'
    assert first["none"] == ""
    assert math.isnan(float(first["nan"]))
    assert first["a,b"] == "1"
    assert (second["text"], second["none"]) == ("", "0")
    assert third["nan"] == "inf"


def test_metrics_without_a_step_and_with_one_of_their_own(tmp_path):
    path = tmp_path / "metrics.csv"
    write(path, (None, {"loss": 1}), (5, {"step": 4.0, "loss": 2}))
    assert [(row["step"], row["loss"]) for row in read(path)] == [("0", "1"), ("5", "2")]


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    write(tmp_path / "metrics.csv", (1, {"loss": 1}))
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    log = write(path, (1, {"loss": 1}))

    def full_disk(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        log.log_metrics({"loss": 2}, 2)
    assert [row["loss"] for row in read(path)] == ["1"]
    assert list(tmp_path.iterdir()) == [path]
