"""`python -m src.eval submission=true`, on a handmade test split."""

import copy
import importlib
import math
import sys

import cv2
import pytest
from front_doors import TEST_NAMES

from scripts.check_submission import main


@pytest.fixture(scope="module")
def submit(module_doors, trained_checkpoint, cityscapes_root):
    data = ("data.street=null", f"data.root={cityscapes_root}", "trainer.accelerator=cpu")

    def run(name, *keys, **how):
        keys = ("submission=true", *keys) if not any(k.startswith("submission=") for k in keys) else keys
        return module_doors("eval", f"checkpoint={trained_checkpoint}", *data, *keys, name=name, **how)

    return run


@pytest.fixture(scope="module")
def submitted(submit):
    return submit("test", "data.split=test")


def test_the_test_split_becomes_an_archive_for_the_server(submitted, cityscapes_root, monkeypatch, capsys):
    assert submitted.code == 0, submitted.err
    assert submitted.files == {
        *(f"submission/{name}_labelIds.png" for name in TEST_NAMES),
        *("submission.zip", "config.yaml", "record.json", "eval.log", ".lock", "pictures/panel.png"),
    } | {name for name in submitted.files if name.startswith("code-")}
    assert "5 class maps, checked" in submitted.out
    assert "WARNING: the server wants all 1525 images of 'test'" in submitted.out
    for place in ("submission.zip", "submission"):
        command = ["check_submission", str(submitted.directory / place), "--root", str(cityscapes_root)]
        monkeypatch.setattr(sys, "argv", command)
        assert main() == 0
        said = capsys.readouterr().out
        assert f"{place}: fine, 5 predictions" in said
        assert "5 of the 1525 images" in said


def test_the_official_script_scores_the_files_as_the_evaluation_does(submit, cityscapes_root, monkeypatch):
    judged = submit("val", "data.split=val", "tta=flip")
    assert judged.code == 0, judged.err
    pytest.importorskip("cityscapesscripts")
    monkeypatch.setenv("CITYSCAPES_DATASET", str(cityscapes_root))
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(judged.directory / "submission"))
    name = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
    tool = importlib.reload(importlib.import_module(name))
    args = copy.copy(tool.args)  # other tests use the module's own
    args.quiet, args.JSONOutput, args.evalInstLevelScore = True, False, False
    labels = [str(path) for path in sorted(cityscapes_root.glob("gtFine/val/*/*_labelIds.png"))]
    official = tool.evaluateImgLists([tool.getPrediction(args, path) for path in labels], labels, args)
    assert len(labels) == judged.metrics["num_images"] == 7
    assert official["averageScoreClasses"] == pytest.approx(judged.metrics["mIoU"], abs=1e-12)
    for name, score in judged.metrics["IoU"].items():
        assert official["classScores"][name] == pytest.approx(
            math.nan if score is None else score, nan_ok=True
        )


def test_the_same_command_begins_anew_and_gives_the_same_archive(submit, submitted):
    before = (submitted.directory / "submission.zip").read_bytes()
    (submitted.directory / "submission/berlin_000099_000019_labelIds.png").write_bytes(b"of an earlier try")
    (submitted.directory / "submission/.berlin_000001_000019_labelIds.png.123.tmp").write_bytes(b"half")
    (submitted.directory / "submission.zip").write_bytes(b"half")
    for name in ("metrics.json", "report.html"):
        (submitted.directory / name).write_text('{"mIoU": 0.9}')
    again = submit("test", "data.split=test")
    assert again.code == 0, again.err
    assert (again.directory / "submission.zip").read_bytes() == before
    assert len(list((again.directory / "submission").iterdir())) == 5
    assert not {"metrics.json", "report.html"} & again.files, "these metrics were of other images"


@pytest.mark.slow
def test_two_devices_write_the_same_archive(submit, submitted):
    two = submit("two", "data.split=test", "trainer.devices=2", "data.val_batch_size=2", own_process=True)
    assert two.code == 0, two.err
    one = submit("one", "data.split=test", "data.val_batch_size=2")
    archives = [(run.directory / "submission.zip").read_bytes() for run in (one, two)]
    assert archives[0] == archives[1]


@pytest.mark.slow
def test_the_panel_has_no_ground_truth(submit, submitted):
    wide = submit("val", "data.split=val")
    shapes = [cv2.imread(str(run.directory / "pictures/panel.png")).shape[1] for run in (submitted, wide)]
    assert shapes[0] < 0.75 * shapes[1]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("submission=false", "data.split=test"), "no public labels: no ground truth. python -m src.eval"),
        (("submission=maybe", "data.split=test"), "submission=maybe: expected true or false."),
    ],
    ids=str,
)
def test_what_cannot_be_submitted_is_refused_first(submit, keys, message):
    refused = submit("refused", *keys)
    assert refused.code == 2
    assert message in refused.err
    assert not refused.directory.exists()


def test_a_part_of_the_split_is_no_submission(submit):
    part = submit("part", "data.split=test", "trainer.limit_val_batches=1", "data.val_batch_size=2")
    assert part.code == 2
    assert "ulm_000001_000019: no prediction." in part.err
    assert "limit_val_batches" in part.err
