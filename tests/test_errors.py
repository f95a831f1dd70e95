"""What can be wrong from outside: one message with the file, what was expected and the fix; exit code 2; no
traceback; nothing written."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from front_doors import TINY

from src.street import write_street

SMALL = ("data=cityscapes", "data.class_weights=labels", "data.batch_size=2", "data.num_workers=0")


@pytest.fixture(scope="session")
def intact(tmp_path_factory):
    root = tmp_path_factory.mktemp("street") / "root"
    write_street(root, {"train": 3, "val": 2}, width=64, height=32, seed=5)
    return root


@pytest.fixture
def root(intact, tmp_path):
    return Path(shutil.copytree(intact, tmp_path / "root"))


def _refused(doors, *overrides: str, task: str = "train") -> str:
    outcome = doors(task, *overrides)
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err + outcome.out
    assert not outcome.directory.exists(), "a run directory was made before the checks had passed"
    return outcome.err


def _first(root: Path, pattern: str) -> Path:
    return min(root.glob(pattern))


LABELS, IMAGES = "gtFine/train/*/*_labelIds.png", "leftImg8bit/train/*/*.png"


def test_no_dataset(doors, monkeypatch):
    monkeypatch.delenv("CITYSCAPES_DATASET", raising=False)
    message = _refused(doors)
    assert "data.root" in message
    assert "CITYSCAPES_DATASET" in message
    assert "experiment=demo" in message


def test_root_from_the_environment(doors, root, monkeypatch):
    monkeypatch.setenv("CITYSCAPES_DATASET", str(root))
    _first(root, LABELS).unlink()
    assert str(root) in _refused(doors, *SMALL)


def test_folder_without_cityscapes(doors, tmp_path):
    message = _refused(doors, f"data.root={tmp_path}")
    assert str(tmp_path) in message
    assert "leftImg8bit" in message


def test_empty_split(doors, root):
    shutil.rmtree(root / "leftImg8bit/val")
    assert "leftImg8bit/val" in _refused(doors, *SMALL, f"data.root={root}")


def test_missing_label(doors, root):
    missing = _first(root, LABELS)
    missing.unlink()
    message = _refused(doors, *SMALL, f"data.root={root}")
    assert missing.name in message
    assert "extract" in message.lower()


@pytest.mark.slow
def test_half_downloaded_split(doors, root):
    for image in list(root.glob(IMAGES))[1:]:
        image.unlink()
    message = _refused(doors, *SMALL, f"data.root={root}")
    assert "1 images, 3 labels" in message


def test_truncated_png(doors, root):
    image = _first(root, IMAGES)
    image.write_bytes(image.read_bytes()[:-100])
    message = _refused(doors, *SMALL, f"data.root={root}")
    assert str(image) in message
    assert "truncated" in message


def test_unreadable_png(doors, root):
    image = _first(root, IMAGES)
    image.write_text("<html>404</html>")
    assert f"{image}: not a PNG" in _refused(doors, *SMALL, f"data.root={root}")


@pytest.mark.slow
def test_label_of_another_size(doors, root):
    label = _first(root, LABELS)
    cv2.imwrite(str(label), np.full((16, 64), 7, np.uint8))
    message = _refused(doors, *SMALL, f"data.root={root}")
    assert str(label) in message
    assert "64x16" in message
    assert "64x32" in message


@pytest.mark.slow
def test_id_outside_the_table(doors, root):
    label = _first(root, LABELS)
    cv2.imwrite(str(label), np.full((32, 64), 77, np.uint8))
    message = _refused(doors, *SMALL, f"data.root={root}")
    assert str(label) in message
    assert "77" in message


@pytest.mark.slow
def test_train_ids_given_for_label_ids(doors, root):
    for label in root.glob("gtFine/*/*/*_labelIds.png"):
        ids = np.tile(np.arange(19, dtype=np.uint8).repeat(2)[:32, None], (1, 64))
        cv2.imwrite(str(label), ids)
    assert "labelTrainIds" in _refused(doors, *SMALL, f"data.root={root}")


def test_batch_size_that_the_devices_do_not_divide(doors):
    message = _refused(doors, *TINY, "trainer.devices=3", "trainer.strategy=ddp")
    assert "data.batch_size=4" in message
    assert "3 devices" in message


def test_fewer_images_than_a_batch(doors, root):
    assert "data.batch_size=16" in _refused(doors, "data=cityscapes", f"data.root={root}")


def test_unwritable_run_directory(doors):
    (doors.folder / "train").write_text("a file")
    outcome = doors("train", *TINY)
    assert outcome.code == 2
    assert str(doors.folder / "train") in outcome.err


@pytest.mark.slow
def test_checkpoint_of_another_class_count(doors, module_doors, root):
    trained = module_doors("train", *TINY, "trainer.max_epochs=1", name="nineteen")
    camvid = doors.folder / "camvid"
    for folder in ("val", "valannot"):
        (camvid / folder).mkdir(parents=True)
        cv2.imwrite(str(camvid / folder / "a.png"), np.zeros((32, 32), np.uint8))
    message = _refused(
        doors,
        f"checkpoint={trained.directory}/checkpoints/best.ckpt",
        "data=camvid",
        f"data.root={camvid}",
        task="eval",
    )
    assert "19 classes" in message
    assert "has 11 of its own" in message


@pytest.mark.sampled(1)
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_damaged_checkpoint(doors, tmp_path, content):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    assert str(path) in _refused(doors, f"checkpoint={path}", task="eval")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("traner.devices=4", "trainer"),
        ("trainer.max_epoch=3", "trainer.max_epochs"),
        ("experiment=dem", "demo"),
        ("+optimizer.learning_rate=1", "optimizer"),
        ("data.batchsize=3", "data.batch_size"),
    ],
)
def test_unknown_key(doors, override, nearest):
    assert nearest in _refused(doors, override, "data=street_tiny")


def test_unknown_key_in_an_experiment_file(doors, tmp_path, monkeypatch):
    folder = tmp_path / "more/experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\ntrainer:\n  max_epoch: 3\n")
    message = _refused(doors, f"--config-dir={tmp_path / 'more'}", "experiment=mine")
    assert "trainer.max_epoch." in message
    assert "trainer.max_epochs" in message


def test_a_file_that_breaks_in_mid_epoch(doors, root):
    """Damage inside a file shows only when a worker decodes it: still one message, without traceback."""
    for image in root.glob(IMAGES):
        data = image.read_bytes()
        middle = len(data) // 2
        image.write_bytes(data[:middle] + bytes(200) + data[middle + 200 :])
    outcome = doors(
        "train",
        *SMALL,
        f"data.root={root}",
        "data.num_workers=1",
        "data.crop_size=[32,64]",
        "model.num_blocks=[1,1]",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
    )
    assert outcome.code == 2
    assert outcome.err.strip().startswith(f"{root}/leftImg8bit/train")
    assert "_leftImg8bit.png: damaged" in outcome.err
    assert "Traceback" not in outcome.err
