"""`python -m src.eval` and `python -m scripts.score_files` give cityscapesScripts' metrics."""

import json
import shutil

import cv2
import official
import pytest
from front_doors import TINY

from scripts.score_files import main
from src.labels import CITYSCAPES
from src.training.module import SegmentationModule


@pytest.fixture(scope="module")
def trained(module_doors):
    run = module_doors("train", *TINY, "model.num_blocks=[1,1]", "model.init=authors", "trainer.max_epochs=3")
    assert run.code == 0, run.err
    return run


def judge(doors, trained, *keys, name="judged"):
    return doors(
        "eval",
        f"checkpoint={trained.directory}/checkpoints/last.ckpt",
        "trainer.accelerator=cpu",
        *keys,
        name=name,
    )


@pytest.fixture
def written(monkeypatch, tmp_path):
    """Evaluations then leave their class maps in this folder, as label ids."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    step = SegmentationModule.validation_step

    def validation_step(self, batch, batch_idx):
        prediction = step(self, batch, batch_idx)
        for name, classes in zip(batch["name"], prediction.cpu().numpy(), strict=True):
            cv2.imwrite(str(folder / f"{name}_pred.png"), CITYSCAPES.to_label_id[classes])
        return prediction

    monkeypatch.setattr(SegmentationModule, "validation_step", validation_step)
    return folder


def test_eval_and_files_give_the_official_figures(
    doors, trained, written, street_root, tmp_path, monkeypatch, capsys
):
    judged = judge(doors, trained, "data.street=null", f"data.root={street_root}")
    assert judged.code == 0, judged.err
    labels = sorted(street_root.glob("gtFine/val/*/*_labelIds.png"))
    predictions = [next(written.glob(f"{path.name[:-20]}*")) for path in labels]
    expected = official.evaluate(predictions, labels)
    official.assert_equal(judged.metrics, expected)
    assert judged.metrics["category_mIoU"] > judged.metrics["mean_iIoU"] > 0
    for line in ("iIoU", "category mIoU", "vehicle"):
        assert line in judged.out

    output = tmp_path / "metrics.json"
    arguments = ["--predictions", str(written), "--root", str(street_root), "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["score_files", *arguments])
    assert main() == 0
    assert "category mIoU" in capsys.readouterr().out
    metrics = json.loads(output.read_text())
    assert {key: metrics[key] for key in official.KEYS} == {key: judged.metrics[key] for key in official.KEYS}
    assert metrics["confusion_matrix"] == judged.metrics["confusion_matrix"]
    assert metrics["num_images"] == 7


def test_without_instance_files(doors, trained, street_root, tmp_path):
    root = tmp_path / "street"
    shutil.copytree(street_root, root, ignore=shutil.ignore_patterns("*instanceIds*"))
    judged = judge(doors, trained, "data.street=null", f"data.root={root}")
    assert judged.code == 0, judged.err
    assert judged.metrics["mean_iIoU"] is judged.metrics["category_mean_iIoU"] is None
    assert set(judged.metrics["iIoU"].values()) == {None}
    assert judged.metrics["category_mIoU"] > 0
    assert judged.out.count("no iIoU") == 1


@pytest.mark.slow
def test_zipped(doors, trained, street_root, tmp_path):
    for name in ("leftImg8bit", "gtFine"):
        shutil.make_archive(str(tmp_path / f"{name}_trainvaltest"), "zip", street_root, name)
    there = judge(doors, trained, "data.street=null", f"data.root={tmp_path}", name="zipped")
    here = judge(doors, trained, "data.street=null", f"data.root={street_root}", name="extracted")
    assert there.code == here.code == 0, there.err
    assert there.metrics["mean_iIoU"] > 0
    for key in official.KEYS:
        assert there.metrics[key] == here.metrics[key]


def test_instances_of_another_frame(doors, trained, street_root, tmp_path):
    """Found by a worker, while the evaluation runs."""
    root = shutil.copytree(street_root, tmp_path / "street")
    one, other = sorted(root.glob("gtFine/val/*/*_instanceIds.png"))[2:4]
    shutil.copyfile(one, other)
    judged = judge(doors, trained, "data.street=null", f"data.root={root}", "data.num_workers=1")
    assert judged.code == 2
    assert str(other) in judged.err
    assert "disagrees with its label file" in judged.err
    assert "Traceback" not in judged.out + judged.err
    assert "metrics.json" not in judged.files


@pytest.mark.slow
def test_real_frames_without_instances(doors, trained, real_data):
    root = f"data.root={real_data / 'kitti'}"
    judged = judge(doors, trained, "data.street=null", root, "trainer.limit_val_batches=2", "pictures=0")
    assert judged.code == 0, judged.err
    assert judged.metrics["mean_iIoU"] is None
    assert 0 < judged.metrics["category_mIoU"] < 1
