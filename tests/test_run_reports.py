"""report.html as the front doors leave it: after every training and evaluation, of the right validation."""

import json
import re
import signal

import pytest
from faults import ALL_IS_WELL, fault
from front_doors import TINY

from src.metrics.by_image import BY_IMAGE
from src.report import write

IMAGES = write.IMAGES
ON_CPU = "trainer.accelerator=cpu"


# Averaged weights, so that pictures of others would show, and a rate that spoils all epochs but the first.
# The weights shrink from the first epoch on: it is the best one on any machine.
SPOILED = ("callbacks=ema", "optimizer.lr=1e-2", "optimizer.weight_decay=100", "trainer.max_epochs=3")


KEEP_PAGES = "+callbacks.keep={_target_: faults.KeepPages}"


@pytest.fixture(scope="module")
def trained(module_doors):
    return module_doors("train", *TINY, *SPOILED, KEEP_PAGES, name="trained")


def images(run):
    return json.loads((run.directory / IMAGES).read_text())


def test_a_training_ends_with_a_page(trained):
    assert trained.code == 0, trained.err
    page = (trained.directory / "report.html").read_text()
    assert f"Report: {trained.directory}/report.html" in trained.out
    for text in (
        f"{100 * trained.metrics['mIoU']:.2f}",
        "Parameters",
        "Learning rate",
        "python -m src.train",
        f", best of 3 validations; the last: {100 * trained.metrics['last']['mIoU']:.2f} %",
    ):
        assert text in page
    assert "selected on these same images, as the best of 3 validations" in trained.out
    assert page.count('class="shot"') == 7, "each of the seven scenes is among the best or the worst"


def test_the_page_is_written_while_the_training_goes_on(trained):
    """After each validation, with the best one so far; it reloads itself until the training has ended."""
    assert {"page_1.html", "page_2.html"} <= trained.files
    pages = [(trained.directory / name).read_text() for name in ("page_1.html", "page_2.html", "report.html")]
    assert ['http-equiv="refresh"' in page for page in pages] == [True, True, False]
    for number, page in enumerate(pages[:2], 1):
        assert re.search(
            # No time in the last second.
            rf"The training is in epoch {number} of 3(, \d+ (s|min) left)?\. This page, written",
            page,
        )
        assert page.count('class="shot"') == 7, "the pictures of the best validation so far"
        assert "Finished" not in page
    assert "best of 2 validations; the last: " in pages[1]
    assert "The training is" not in pages[2]


def test_pictures_are_those_of_best_and_not_of_last(trained, module_doors):
    assert trained.metrics["epoch"] < 3, "choose another weight decay: the last epoch should not be the best"
    judged = module_doors("eval", f"checkpoint={trained.metrics['checkpoint']}", ON_CPU, name="best")
    assert judged.code == 0, judged.err
    kept, again = images(trained), images(judged)
    assert kept["epoch"] == trained.metrics["epoch"]
    for key in ("mIoU", "all", "best", "worst", "size"):
        assert kept[key] == again[key], key
    assert (judged.directory / "report.html").read_text().count('class="shot"') == 7


@pytest.mark.slow
def test_pictures_of_best_survive_a_killed_training(trained, doors, monkeypatch):
    """Killed in the second epoch; the first one, before, is the best."""
    command = (*TINY, *SPOILED, KEEP_PAGES, *fault("Die", step=6))
    killed = doors("train", *command, own_process=True)
    assert killed.code == -signal.SIGKILL
    page = (killed.directory / "report.html").read_text()
    assert "The training is in epoch 1 of 3" in page
    assert doors("train", *command, own_process=True).code == -signal.SIGKILL
    page = (killed.directory / "report.html").read_text()
    assert "The training is in epoch 2 of 3" in page, "written at the start of a resumed run"
    monkeypatch.setenv(ALL_IS_WELL, "1")
    resumed = doors("train", *command)
    assert resumed.code == 0, resumed.err
    assert resumed.metrics["epoch"] == 1
    assert images(resumed) == images(trained)
    page = (resumed.directory / "report.html").read_text()
    assert page.count('class="shot"') == 7
    assert "3 starts" in page
    assert "refresh" not in page
    page = (resumed.directory / "page_2.html").read_text()
    assert "The training is in epoch 2 of 3" in page
    assert page.count('class="shot"') == 7, "of the best validation, before the resume"


@pytest.mark.slow
def test_an_evaluation_says_on_its_page_what_it_warns_of(trained, module_doors):
    checkpoint = f"checkpoint={trained.metrics['checkpoint']}"
    baseline = f"report.baseline={trained.directory}"
    judged = module_doors(
        "eval", checkpoint, ON_CPU, "data.split=train", baseline, "report.images=1", name="other"
    )
    page = (judged.directory / "report.html").read_text()
    assert "this network was trained on" in page
    assert "16 images" in page
    assert page.count('class="shot"') == 2
    assert f"mIoU {100 * trained.metrics['mIoU']:.2f} %" in page, "of the baseline"
    assert ", beside" in page, "of another split: nothing to subtract"
    assert "WARNING: this network was trained on" in (judged.directory / "eval.log").read_text()
    again = module_doors("eval", checkpoint, ON_CPU, "trainer.limit_val_batches=1", baseline, name="other")
    page = (again.directory / "report.html").read_text()
    assert "The directory already has metrics. They are kept in" in again.out
    assert "WARNING: 3 of the split's 7 images" in again.out
    assert " against " in page
    clean = module_doors("eval", checkpoint, ON_CPU, "report.images=0", name="clean")
    page = (clean.directory / "report.html").read_text()
    assert "this network was trained on" not in page
    assert 'class="shot"' not in page
    assert IMAGES not in clean.files
    assert BY_IMAGE in clean.files, "intervals over images need it"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("task", ["train", "eval"])
def test_a_baseline_that_is_none_is_refused_before_anything_starts(trained, doors, task):
    what = TINY if task == "train" else (f"checkpoint={trained.metrics['checkpoint']}", ON_CPU)
    refused = doors(task, *what, "report.baseline=/no/such/run")
    assert refused.code == 2
    assert "report.baseline=/no/such/run" in refused.err
    assert not refused.directory.exists()


def test_a_baseline_of_other_classes_is_refused(trained, doors):
    metrics = json.loads((trained.directory / "metrics.json").read_text())
    other = doors.folder / "other.json"
    other.write_text(json.dumps(metrics | {"IoU": {"sky": 0.5}}))
    refused = doors("eval", f"checkpoint={trained.metrics['checkpoint']}", ON_CPU, f"report.baseline={other}")
    assert refused.code == 2
    assert "its metrics are of other classes" in refused.err


def test_a_root_of_one_s_own_is_no_place_to_draw_a_street(trained, doors, tmp_path):
    refused = doors("eval", f"checkpoint={trained.metrics['checkpoint']}", ON_CPU, f"data.root={tmp_path}/no")
    assert refused.code == 2
    assert f"{tmp_path}/no: no Cityscapes here" in refused.err
    assert not (tmp_path / "no").exists()


def test_a_report_that_fails_costs_no_result(trained, doors, monkeypatch):
    def fail(report):
        raise RuntimeError("a fault in the drawing")

    monkeypatch.setattr(write, "render", fail)
    judged = doors("eval", f"checkpoint={trained.metrics['checkpoint']}", ON_CPU)
    assert judged.code == 0
    assert judged.metrics["mIoU"] == trained.metrics["mIoU"]
    assert "report.html" not in judged.files
    logged = (judged.directory / "eval.log").read_text()
    assert "No report.html" in logged
    assert "a fault in the drawing" in logged


@pytest.mark.slow
def test_no_room_for_the_pictures_costs_no_result(doors, monkeypatch, caplog):
    from src.runs.atomic_files import CannotWriteError
    from src.training.callbacks import image_ranking as best_and_worst

    def full(path, content):
        raise CannotWriteError(f"{path}: cannot be written, No space left on device.")

    monkeypatch.setattr(best_and_worst, "write_json", full)
    run = doors("train", *TINY, "trainer.max_epochs=1")
    assert run.code == 0
    assert "The report will be without pictures" in run.out
    assert 'class="shot"' not in (run.directory / "report.html").read_text()


def test_a_training_without_validation_has_no_page(doors):
    run = doors("train", *TINY, "trainer.max_epochs=1", "trainer.limit_val_batches=0")
    assert run.code == 0, run.err
    assert not {"report.html", "metrics.json", IMAGES} & run.files


@pytest.mark.slow
def test_a_hostile_name_of_a_run(doors):
    name = "<script>alert(1)"
    run = doors("train", *TINY, "trainer.max_epochs=1", name=f"'{name}'")
    (page,) = (path.read_text() for path in doors.folder.rglob("report.html"))
    assert run.code == 0, run.err
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in page
