"""Run directories in which something was damaged, replaced or removed: a message, or a run that resumes."""

import csv
import json
import shutil

import pytest
from front_doors import TINY

from src.errors import UserError
from src.runs.jobs import Job

QUIET = (*TINY, "callbacks.summary=null", "callbacks.pictures=null", "trainer.max_epochs=1")
NOISE = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def trained(module_doors):
    outcome = module_doors("train", *QUIET, name="trained")
    assert outcome.code == 0, outcome.err
    return outcome.directory


@pytest.fixture
def stopped(trained, module_doors):
    """A copy of the run, as if it had been stopped, and how it resumes."""
    run = module_doors.folder / "train/stopped"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(trained, run)
    (run / "metrics.json").unlink()
    return run, lambda *more: module_doors("train", *QUIET, *more, name="stopped")


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "name",
    [
        "config.yaml", "record.json", "metrics.csv", "metrics.json", "train.log", "report.html", ".lock",
        "wandb_id.txt", "job.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt",
    ],
)  # fmt: skip
def test_a_folder_in_place_of_a_file(stopped, name):
    run, resume = stopped
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir()
    outcome = resume()
    assert outcome.code == 2
    assert f"{run / name}: a folder, but the run needs a file there" in outcome.err


@pytest.mark.slow
def test_a_folder_of_other_files_is_no_run_directory(doors, tmp_path):
    (tmp_path / "train/run").mkdir(parents=True)
    (tmp_path / "train/run/letter.tmp").write_text("mine")
    for place in ("", "run_dir=/"):
        outcome = doors("train", *QUIET, *filter(None, [place]))
        assert outcome.code == 2
        assert "a folder with files that are not a run's" in outcome.err
    assert [path.name for path in (tmp_path / "train/run").iterdir()] == ["letter.tmp"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["checkpoints", "pictures", "wandb", "tensorboard"])
def test_a_file_in_place_of_a_folder(stopped, name):
    run, resume = stopped
    shutil.rmtree(run / name, ignore_errors=True)
    (run / name).write_bytes(NOISE)
    outcome = resume()
    assert outcome.code == 2
    assert f"{run / name}: a file, but the run needs a folder there" in outcome.err
    assert (run / name).read_bytes() == NOISE


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "content", [NOISE, b"step\nabc\n", b"epoch\n1\n", b'step,a\n1,"open', b"step\n1,2,3\n"]
)
def test_a_damaged_metrics_csv_is_kept_aside(stopped, content):
    run, resume = stopped
    (run / "checkpoints/last.ckpt").unlink()  # so that there is something to train
    (run / "metrics.csv").write_bytes(content)
    outcome = resume()
    assert outcome.code == 0, outcome.err
    assert (run / "metrics.csv.damaged").read_bytes() == content
    assert "metrics.csv.damaged" in outcome.out
    assert "Traceback" not in outcome.out + outcome.err


@pytest.mark.slow
def test_a_damaged_record_is_kept_aside(stopped):
    run, resume = stopped
    for number, content in enumerate((NOISE, b"{}", b'{"starts": [5]}')):
        (run / "metrics.json").unlink(missing_ok=True)
        (run / "record.json").write_bytes(content)
        assert resume().code == 0
        assert (run / f"record.json.damaged{number + 1 if number else ''}").read_bytes() == content
        assert len(json.loads((run / "record.json").read_text())["starts"]) == 1


@pytest.mark.sampled(1)
@pytest.mark.parametrize("content", [NOISE, b"[1, 2]", b'{"mIoU": "x"}', b'{"mIoU": 0.5}', b"[" * 100_000])
def test_damaged_metrics_are_named(stopped, content):
    run, resume = stopped
    (run / "metrics.json").write_bytes(content)
    outcome = resume()
    assert outcome.code == 2
    assert f"{run}/metrics.json: damaged" in outcome.err


@pytest.mark.sampled(1)
@pytest.mark.parametrize("content", [NOISE, b"- 1", b"a: [", b"5", b""])
def test_a_damaged_config_is_named(stopped, content):
    run, resume = stopped
    (run / "config.yaml").write_bytes(content)
    outcome = resume()
    assert outcome.code == 2
    assert f"{run}/config.yaml: damaged" in outcome.err
    assert (run / "config.yaml").read_bytes() == content


@pytest.mark.sampled(1)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_config_that_is_cut_off_is_named(stopped, share):
    run, resume = stopped
    text = (run / "config.yaml").read_text()
    cut = text[: int(len(text) * share)].rpartition("\n")[0] + "\n"  # so that it is YAML still
    (run / "config.yaml").write_text(cut)
    outcome = resume()
    assert outcome.code == 2
    assert f"{run}/config.yaml: damaged (cut off after " in outcome.err


def test_a_damaged_wandb_id_is_named(stopped):
    run, resume = stopped
    (run / "wandb_id.txt").write_bytes(NOISE)
    outcome = resume("logger=wandb")
    assert outcome.code == 2
    assert f"{run}/wandb_id.txt: damaged" in outcome.err


@pytest.mark.parametrize("content", [NOISE, b"[]", b'{"a": 1}'])
def test_a_damaged_job_is_named(tmp_path, content):
    (tmp_path / "job.json").write_bytes(content)
    with pytest.raises(UserError, match=r"job\.json: damaged"):
        Job.read(tmp_path)


@pytest.mark.slow
def test_a_lost_best_is_written_again(stopped):
    """Its score was remembered: no later epoch that was worse would have been kept."""
    run, resume = stopped
    (run / "checkpoints/best.ckpt").unlink()
    outcome = resume()
    assert outcome.code == 0, outcome.err
    assert "best.ckpt is gone" in outcome.out
    assert "The metrics are those of last.ckpt" in outcome.out
    assert outcome.metrics["checkpoint"].endswith("last.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize("absent", ["~callbacks.last", "callbacks.last=null"])
def test_a_training_without_last_ckpt_ends_with_its_report(doors, absent):
    outcome = doors("train", *QUIET, absent)
    assert outcome.code == 0, outcome.err
    assert (
        "Without callbacks.last no last.ckpt is written: if the run is stopped, it begins anew" in outcome.out
    )
    assert outcome.metrics["checkpoint"].endswith("best.ckpt")
    assert "last" not in outcome.metrics
    assert (outcome.directory / "report.html").exists()
    again = doors("train", *QUIET, absent)
    assert "is finished" in again.out
    other = doors("train", *QUIET, absent, "seed=43")
    assert other.code == 2
    assert "seed: 1 before, 43 now" in other.err or "seed: 42 before, 43 now" in other.err


@pytest.mark.slow
def test_a_training_without_best_ckpt_reports_the_last_epoch(doors):
    outcome = doors("train", *QUIET, "callbacks.best=null")
    assert outcome.code == 0, outcome.err
    assert outcome.metrics["checkpoint"].endswith("last.ckpt")
    assert "The metrics are those of last.ckpt" in outcome.out
    with (outcome.directory / "metrics.csv").open() as file:
        assert outcome.metrics["mIoU"] == float(list(csv.DictReader(file))[-1]["val/mIoU"])
