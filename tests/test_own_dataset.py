"""A dataset of one's own through the front doors: the doctor proposes its YAML, everything works with it."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from front_doors import REPOSITORY
from own_data import CLASSES, IGNORED, RGB_CLASSES, RGB_IGNORED, ids_of, rgb_of, save, write_folders
from published_networks import MmsegNetwork

from src.diagnosis import proposal

TINY = (
    "trainer.accelerator=cpu", "model.num_blocks=[1,1]", "callbacks.summary=null", "data.num_workers=0",
    "data.batch_size=2", "data.crop_size=[32,64]",
)  # fmt: skip
SHORT = (*TINY, "trainer.max_epochs=2")


def write_yaml(folder, root, classes, ignored, **keys):
    (folder / "data").mkdir(parents=True, exist_ok=True)
    values = {"defaults": ["folder", "_self_"], "name": "mine", "root": str(root), "classes": classes}
    text = yaml.safe_dump(values | {"ignored": ignored} | keys)
    (folder / "data/mine.yaml").write_text(text)
    return f"--config-dir={folder}", "data=mine"


def cityscapes_weights(folder):
    torch.save({"state_dict": MmsegNetwork(19, m=2, n=2).state_dict()}, folder / "weights.pth")
    return folder / "weights.pth"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_folders(tmp_path_factory.mktemp("own") / "street parts", rgb=True)


@pytest.fixture(scope="module")
def mine(tmp_path_factory, root):
    return write_yaml(tmp_path_factory.mktemp("conf"), root, RGB_CLASSES, RGB_IGNORED)


@pytest.fixture(scope="module")
def trained(module_doors, mine):
    outcome = module_doors("train", *mine, *SHORT)
    assert outcome.code == 0, outcome.err
    return outcome


# ---- training and evaluation


def test_classes_are_those_of_the_yaml(trained):
    assert list(trained.metrics["IoU"]) == ["ground", "house", "car"]
    assert "category_mIoU" not in trained.metrics
    assert sum(map(sum, trained.metrics["confusion_matrix"])) == 3 * 60 * 96, (
        "all pixels but the ignored ones"
    )
    with (trained.directory / "metrics.csv").open() as file:
        assert {"val_IoU/ground", "val_IoU/house", "val_IoU/car"} <= next(csv.DictReader(file)).keys()


def test_report_and_pictures(trained):
    text = (trained.directory / "report.html").read_text()
    assert all(name in text for name in ("house", "rgb(128,64,128)"))
    (picture, *_) = sorted((trained.directory / "pictures").glob("*.jpg"))
    pixels = cv2.imread(str(picture))[..., ::-1].reshape(-1, 3)
    near = np.abs(pixels.astype(int) - (128, 64, 128)).max(1) < 12
    assert near.sum() > 1000, "the ground truth has the colour of the class"


def test_the_checkpoint_knows_its_classes(trained, doors):
    best = trained.directory / "checkpoints/best.ckpt"
    judged = doors("eval", f"checkpoint={best}", "trainer.accelerator=cpu", "latency=0", "pictures=1")
    assert judged.code == 0, judged.err
    assert judged.metrics["confusion_matrix"] == trained.metrics["confusion_matrix"]
    assert "category_mIoU" not in judged.metrics
    train = doors(
        "eval", f"checkpoint={best}", "trainer.accelerator=cpu", "latency=0", "data.split=train", name="t"
    )
    assert train.metrics["num_images"] == 6


def test_ids_and_colours_train_the_same_network(trained, doors, root, tmp_path):
    """Pixel for pixel the same targets: the same classes, class weights, samples and weights."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/images").symlink_to(root / "images")
    for mask in sorted((root / "masks").rglob("*.png")):
        place = tmp_path / "own" / mask.relative_to(root)
        save(place, ids_of(int(mask.stem)))
    given = write_yaml(tmp_path / "conf", tmp_path / "own", CLASSES, IGNORED, cache="none")
    outcome = doors("train", *given, *SHORT)
    assert outcome.code == 0, outcome.err
    assert outcome.metrics["confusion_matrix"] == trained.metrics["confusion_matrix"]
    states = [
        torch.load(run.directory / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (trained, outcome)
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_yaml_of_the_readme(doors, tmp_path):
    root = write_folders(tmp_path / "fields")
    for mask in root.glob("masks/**/*.png"):
        save(mask, np.where(ids_of(1) == 3, 2, ids_of(1)).astype(np.uint8))
    text = (REPOSITORY / "docs/datasets.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "conf/data").mkdir(parents=True)
    (tmp_path / "conf/data/fields.yaml").write_text(text.replace("/path/to/fields", str(root)))
    outcome = doors("train", f"--config-dir={tmp_path}/conf", "data=fields", *TINY, "trainer.max_epochs=1")
    assert outcome.code == 0, outcome.err
    assert list(outcome.metrics["IoU"]) == ["soil", "plant"]


def test_weights_for_other_classes_are_refused(doors, mine, tmp_path):
    path = cityscapes_weights(tmp_path)
    outcome = doors("eval", f"checkpoint={path}", *mine, "trainer.accelerator=cpu")
    assert outcome.code == 2
    assert "a network for 19 classes (those of cityscapes), but data=mine has 3 of its own" in outcome.err


@pytest.mark.slow
def test_fine_tuning_begins_with_a_new_classifier(doors, mine, tmp_path):
    path = cityscapes_weights(tmp_path)
    keys = [key for key in TINY if not key.startswith("model.")]
    outcome = doors("train", *mine, *keys, f"checkpoint={path}", "trainer.max_epochs=1")
    assert outcome.code == 0, outcome.err
    assert "The classifier (network.classifier) starts anew, for 3 classes" in outcome.out


def test_all_errors_of_a_training_without_classes(doors, root):
    outcome = doors("train", "data=folder", f"data.root={root}")
    assert outcome.code == 2
    assert outcome.err.strip().startswith("data.classes is not set")
    assert "python -m src.doctor data=folder" in outcome.err


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"clases": []}, "Unknown config key: data.clases. The nearest one is data.classes"),
        ({"ignored": [255]}, "data/mine: a list where keys with values are expected"),
    ],
)
def test_a_wrong_file_of_one_s_own(doors, root, tmp_path, keys, said):
    given = write_yaml(tmp_path, root, RGB_CLASSES, **{"ignored": RGB_IGNORED, **keys})
    outcome = doors("train", *given, *SHORT)
    assert outcome.code == 2
    assert outcome.err.strip().startswith(said)


# ---- the doctor


def proposed(outcome):
    (path,) = (outcome.directory / "conf/data").glob("*.yaml")
    return f"--config-dir={outcome.directory}/conf", f"data={path.stem}", yaml.safe_load(path.read_text())


@pytest.mark.sampled(1)
@pytest.mark.parametrize("rgb", [True, False], ids=["colours", "ids"])
def test_the_doctor_proposes_a_yaml_that_trains(doors, tmp_path, rgb):
    root = write_folders(tmp_path / "parts", suffix=".png", rgb=rgb)
    outcome = doors("doctor", "data=folder", f"data.root={root}")
    assert outcome.code == 0, outcome.err
    *given, values = proposed(outcome)
    assert values["name"] == "run"
    found = [tuple(entry["colors"][0]) if rgb else entry["ids"][0] for entry in values["classes"]]
    expected = {(10, 20, 30), (128, 64, 128), (0, 0, 142), (255, 255, 0), (0, 0, 0)} if rgb else {0, 1, 2, 3}
    assert set(found) == expected
    assert values["ignored"]["ids"] == ([] if rgb else [255])
    assert values["crop_size"] == [64, 96]
    assert values["batch_size"] == 4
    assert "in 9 of 9 masks" in outcome.out
    assert f"python -m src.train {' '.join(given)}" in outcome.out
    again = doors("doctor", *given, *TINY, "samples=1", name="again")
    assert again.code == 0, again.err
    content = json.loads((again.directory / "doctor.json").read_text())
    assert content["statistics"]["mean"] == pytest.approx(values["mean"], abs=0.01)
    shares = [entry["train_pixels"] for entry in content["statistics"]["classes"].values()]
    counts = [sum(int((ids_of(n) == value).sum()) for n in range(6)) for value in (0, 1, 2, 3)]
    assert sorted(shares) == sorted([*counts, 6 * 4 * 96] if rgb else counts)


def test_a_proposed_name_needs_no_quotes_on_a_command_line(monkeypatch):
    monkeypatch.setattr(proposal, "overrides", list)
    names = [proposal._name(None, Path(folder)) for folder in ("/a/my fields", "/a/été", "/a/田", "/a/9")]
    assert names == ["my_fields", "t", "dataset", "my_9"]


def test_folders_without_splits_are_divided(doors, tmp_path):
    for number in range(10):
        save(tmp_path / f"flat/pics/a {number}.jpg", np.full((64, 96, 3), 9 * number, np.uint8))
        save(tmp_path / f"flat/truth/a {number}_mask.png", ids_of(number))
    outcome = doors("doctor", "data=folder", f"data.root={tmp_path}/flat")
    assert outcome.code == 0, outcome.err
    *given, _ = proposed(outcome)
    lines = {split: (outcome.directory / f"conf/lists/{split}.txt").read_text() for split in ("train", "val")}
    assert lines["val"].splitlines() == [f"pics/a {n}.jpg\ttruth/a {n}_mask.png" for n in (4, 9)]
    assert len(lines["train"].splitlines()) == 8
    trained = doors("train", *given, *TINY, "trainer.max_epochs=1")
    assert trained.code == 0, trained.err
    assert trained.metrics["num_images"] == 2


def test_two_classes_of_0_and_255(doors, tmp_path):
    root = write_folders(tmp_path / "cells")
    for mask in root.glob("masks/**/*.png"):
        save(mask, np.where(ids_of(1) == 3, 255, 0).astype(np.uint8))
    *_, values = proposed(doors("doctor", "data=folder", f"data.root={root}"))
    assert [entry["ids"] for entry in values["classes"]] == [[0], [255]]
    assert values["ignored"]["ids"] == []


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ids: cv2.GaussianBlur(rgb_of(ids), (0, 0), 3), ("colours", "anti-aliasing")),
        (lambda ids: np.zeros_like(ids), ("one and the same value",)),
        (lambda ids: ids.astype(np.uint16), ("16-bit grey",)),
    ],
    ids=["smoothed", "one value", "16 bits"],
)
def test_masks_without_classes(doors, tmp_path, change, said):
    root = write_folders(tmp_path / "own")
    for mask in root.glob("masks/**/*.png"):
        save(mask, change(ids_of(int(mask.stem))))
    outcome = doors("doctor", "data=folder", f"data.root={root}")
    assert outcome.code == 2
    assert all(text in outcome.err for text in ("masks/", *said)), outcome.err


def test_ids_and_colours_together(doors, tmp_path):
    root = write_folders(tmp_path / "own")
    save(root / "masks/val/000.png", rgb_of(ids_of(0)))
    outcome = doors("doctor", "data=folder", f"data.root={root}")
    assert outcome.code == 2
    assert f"{root}/masks/val/000.png has colours" in outcome.err


def test_the_doctor_names_each_bad_file(doors, tmp_path):
    root = write_folders(tmp_path / "own")
    save(root / "masks/train/000.png", np.full((64, 96), 9, np.uint8))
    save(root / "masks/train/002.png", ids_of(0, 32, 96))
    save(root / "images/train/004.jpg", ids_of(0))
    (root / "masks/train/town/001.png").unlink()
    given = write_yaml(tmp_path / "conf", root, [*CLASSES, {"name": "unicorn", "ids": [77]}], IGNORED)
    outcome = doors("doctor", *given, *TINY, "samples=0")
    assert outcome.code == 2
    for text in (
        f"{root}/masks/train/000.png: the ids [9] are not listed",
        f"{root}/masks/train/002.png: 96x32 pixels, but its image 002.jpg has 96x64",
        f"{root}/images/train/004.jpg: 8-bit grey JPEG; it is read as 8-bit RGB, with three equal channels",
        f"{root}/images/train/town/001.jpg: no mask, expected {root}/masks/train/town/001.*",
        "Classes that never occur in train: unicorn.",
        "correct their ids or colors in data.classes",
    ):
        assert text in outcome.out, outcome.out


# ---- the doctor's file, once it is edited, and images beside their masks


def test_the_doctor_keeps_a_file_that_was_edited(doors, root):
    def doctor():
        return doors("doctor", "data=folder", f"data.root={root}", "trainer.accelerator=cpu", name="mine")

    path = doctor().directory / "conf/data/mine.yaml"
    path.write_text(path.read_text().replace("color_255_255_0", "car"))
    again = doctor()
    assert again.code == 0, again.err
    assert "mine.yaml is kept as it is" in again.out
    assert "name: car," in path.read_text()


@pytest.mark.parametrize(
    "patterns", [(), ('data.images="*.jpg"', 'data.masks="{name}.png"')], ids=["found", "given"]
)
def test_images_beside_their_masks(doors, tmp_path, patterns):
    for number in range(6):
        save(tmp_path / f"field/{number}.jpg", np.full((64, 64, 3), 40 * number, np.uint8))
        save(tmp_path / f"field/{number}.png", ids_of(number, 64, 64))
    doctor = doors("doctor", "data=folder", f"data.root={tmp_path / 'field'}", *patterns, name="field")
    assert doctor.code == 0, doctor.err
    text = yaml.safe_load((doctor.directory / "conf/data/field.yaml").read_text())
    assert len(text["classes"]) == 4
    assert (doctor.directory / "conf/lists/val.txt").read_text().split("\n")[0] == "4.jpg\t4.png"
    assert all(std > 1 for std in text["std"])
