"""Several datasets under one table of classes: a street in Cityscapes' layout, and folders of one's own."""

import copy
import json

import cv2
import numpy as np
import pytest
import torch
from front_doors import REPOSITORY
from hostile_values import VALUES, places, put
from own_data import CLASSES, IGNORED, ids_of, save, write_folders
from test_own_dataset import TINY

from src.data.datamodule import SegmentationDataModule
from src.data.dataset import read_target
from src.data.layouts import find_pairs
from src.errors import UserError
from src.label_tables import part_tables, table_of
from src.labels import CITYSCAPES, IGNORE
from src.weights.checkpoint_schema import check_schema

TEXT = (REPOSITORY / "docs/datasets.md").read_text().partition("under one table of classes")[2]
YAML = TEXT.partition("```yaml\n")[2].partition("```")[0]
NAMES = ["road", "vehicle", "plant"]
PLACES = {"images": "images/{split}/**/*.jpg", "masks": "masks/{split}/{name}.png"}
QUIET = (*TINY, "trainer.max_epochs=2", "data.val_batch_size=4")
TOWN = {"road": ["road"], "vehicle": ["car", "truck", "bus"], "plant": ["vegetation", "terrain"]}


def fields_at(root):
    write_folders(root)
    for mask in root.glob("masks/**/*.png"):
        save(mask, np.where(ids_of(int(mask.stem)) == 3, 2, ids_of(int(mask.stem))).astype(np.uint8))
    return root


def write_yaml(folder, street, fields, text=YAML):
    (folder / "data").mkdir(parents=True, exist_ok=True)
    text = text.replace("/path/to/cityscapes", str(street)).replace("/path/to/fields", str(fields))
    (folder / "data/both.yaml").write_text(text)
    return f"--config-dir={folder}", "data=both"


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    return fields_at(tmp_path_factory.mktemp("own") / "fields")


@pytest.fixture(scope="module")
def both(tmp_path_factory, street_root, fields):
    return write_yaml(tmp_path_factory.mktemp("conf"), street_root, fields)


@pytest.fixture(scope="module")
def trained(module_doors, both):
    outcome = module_doors("train", *both, *QUIET, "data.cache=disk")
    assert outcome.code == 0, outcome.err
    return outcome


def pixels(street, split, fields=None):
    """Pixels of each class, counted from the files."""
    counts = np.zeros(3, int)
    for path in (street / "gtFine" / split).glob("*/*_labelIds.png"):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        for number, labels in enumerate(TOWN.values()):
            counts[number] += np.isin(ids, [e.id for e in CITYSCAPES.labels if e.name in labels]).sum()
    for path in (fields / "masks" / split).rglob("*.png") if fields else ():
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        counts += [(ids == 0).sum(), 0, np.isin(ids, [1, 2]).sum()]
    return counts.tolist()


def of_two(street, fields, **changes):
    """The data group of two parts, as plain values."""
    parts = {
        "town": {
            "layout": "cityscapes",
            "root": str(street),
            "classes": [{"name": name, "labels": labels} for name, labels in TOWN.items()],
        },
        "fields": {
            "layout": "folder",
            "root": str(fields),
            **PLACES,
            "classes": [{"name": "plant", "ids": [1, 2]}, {"name": "road", "ids": [0]}],
            "ignored": {"ids": [255]},
        },
    }
    own = {"parts": parts, "classes": [{"name": name} for name in NAMES], "root": "/"}
    return {"name": "both", "layout": "joined", "labels": "classes", **own, **changes}


# ---- training and evaluation


def test_trained_on_both(trained, module_doors, street_root, fields):
    assert list(trained.metrics["IoU"]) == NAMES
    assert "category_mIoU" not in trained.metrics
    assert "18 training and 7 validation images" in trained.out
    assert "data.parts.town: ignored, since no class names them: sidewalk, building, wall" in trained.out
    assert list(map(sum, trained.metrics["confusion_matrix"])) == pixels(street_root, "val")
    counted = [json.loads(path.read_text()) for path in module_doors.cache.glob("class-counts-*")]
    assert pixels(street_root, "train", fields) in [entry["counts"] for entry in counted]
    assert "town." in (trained.directory / "report.html").read_text(), "the name of the part"


def test_evaluated_from_its_checkpoint(trained, doors):
    best = f"checkpoint={trained.directory}/checkpoints/best.ckpt"
    keys = ("trainer.accelerator=cpu", "latency=0", "pictures=1")
    judged = doors("eval", best, *keys)
    assert judged.code == 0, judged.err
    assert judged.metrics["confusion_matrix"] == trained.metrics["confusion_matrix"]
    train = doors("eval", best, *keys, "data.split=trainval", name="t")
    assert train.metrics["num_images"] == 12 + 6 + 7


def test_evaluated_where_a_part_has_moved(trained, doors, both, street_root, tmp_path):
    (tmp_path / "moved").symlink_to(street_root)
    best = f"checkpoint={trained.directory}/checkpoints/best.ckpt"
    keys = ("trainer.accelerator=cpu", "latency=0", "pictures=0")
    judged = doors("eval", best, *both, *keys, f"data.parts.town.root={tmp_path}/moved")
    assert judged.code == 0, judged.err
    assert judged.metrics["confusion_matrix"] == trained.metrics["confusion_matrix"]


def test_the_cache_changes_nothing(trained, doors, both):
    outcome = doors("train", *both, *QUIET, "data.cache=none")
    assert outcome.code == 0, outcome.err
    assert outcome.metrics["confusion_matrix"] == trained.metrics["confusion_matrix"]
    states = [
        torch.load(run.directory / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (trained, outcome)
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_hostile_checkpoint_is_refused(trained, doors, tmp_path):
    content = torch.load(trained.directory / "checkpoints/last.ckpt", weights_only=True)
    data = content["hyper_parameters"]["data"]
    refused = 0
    for place in places({"parts": data["parts"]}):
        for kind in ("None", "-1", "a list", "a dict", "other keys", "a text", "a switch", "a tensor"):
            changed = copy.copy(content)
            changed["hyper_parameters"] = copy.deepcopy(content["hyper_parameters"])
            put(changed["hyper_parameters"]["data"], place, VALUES[kind]())
            try:
                check_schema(changed, "changed.ckpt")
            except UserError as error:
                refused += "it has values that no training here records" in error.text
    assert refused > 200, "the others are other values of the right type"
    torch.save(changed, tmp_path / "changed.ckpt")
    outcome = doors("eval", f"checkpoint={tmp_path}/changed.ckpt", "trainer.accelerator=cpu")
    assert outcome.code == 2
    assert "data.parts" in outcome.err


# ---- the doctor


def test_the_doctor_counts_the_joined_classes(doors, both, street_root, fields):
    outcome = doors("doctor", *both, *QUIET, "samples=2")
    assert outcome.code == 0, outcome.err
    classes = json.loads((outcome.directory / "doctor.json").read_text())["statistics"]["classes"]
    assert [entry["train_pixels"] for entry in classes.values()] == pixels(street_root, "train", fields)
    assert [entry["val_pixels"] for entry in classes.values()] == pixels(street_root, "val")
    assert all(text in outcome.out for text in ("town/train", "fields/train", "town/val"))


def test_the_doctor_names_the_part_and_the_file(doors, street_root, tmp_path):
    root = fields_at(tmp_path / "fields")
    save(root / "masks/train/000.png", np.full((64, 96), 9, np.uint8))
    save(root / "masks/train/002.png", np.zeros((64, 96, 3), np.uint8))
    (root / "masks/train/004.png").unlink()
    outcome = doors("doctor", *write_yaml(tmp_path / "conf", street_root, root), *QUIET, "samples=0")
    assert outcome.code == 2
    for text in (
        f"{root}/masks/train/000.png: the ids [9] are not listed. data.parts.fields.classes and "
        f"data.parts.fields.ignored list [0, 1, 2, 255]",
        f"{root}/masks/train/002.png: the mask has colours (8-bit RGB), but data.parts.fields.classes lists",
        f"{root}/images/train/004.jpg: no mask",
    ):
        assert text in outcome.out, outcome.out


def test_parts_that_are_not_there(doors, tmp_path):
    outcome = doors("train", *write_yaml(tmp_path / "conf", "/nowhere", tmp_path / "no"), *QUIET)
    assert outcome.code == 2
    assert "data.parts.town: /nowhere: no Cityscapes here" in outcome.err
    assert "set data.parts.town.root=/path/to/cityscapes" in outcome.err
    assert f"data.parts.fields: {tmp_path}/no: no such folder" in outcome.err
    assert "python -m src.doctor data=folder data.root=" in outcome.err


# ---- tables, pairs and frames


def test_each_part_has_a_table_of_its_own(street_root, fields):
    data = of_two(street_root, fields)
    assert table_of(data).class_names == tuple(NAMES)
    town, mine = part_tables(data).values()
    ids = {label.name: label.id for label in CITYSCAPES.labels}
    named = ["road", "bus", "terrain", "building", "sky"]
    assert town.to_train_id[[ids[name] for name in named]].tolist() == [0, 1, 2, IGNORE, IGNORE]
    assert mine.to_train_id[[0, 1, 2, 255]].tolist() == [0, 2, 2, IGNORE]
    pairs = find_pairs("joined", "/", "val", data)
    assert [pair.table for pair in pairs] == [town] * 7 + [mine] * 3
    assert len({pair.name for pair in pairs}) == 10
    assert pairs[-1].name == "fields.town_001"
    assert set(np.unique(read_target(pairs[-1], table_of(data))).tolist()) == {0, 2, IGNORE}


def test_roots_are_below_data_root(street_root, fields):
    data = of_two(street_root.name, fields, root=str(street_root.parent))
    assert len(find_pairs("joined", data["root"], "train", data)) == 12 + 6


def test_one_image_in_two_parts(tmp_path):
    """With other classes in each: two samples, two frames in the cache."""
    root = write_folders(tmp_path / "own")
    part = {"layout": "folder", "root": str(root), **PLACES, "classes": CLASSES, "ignored": IGNORED}
    turned = [{"name": b["name"], "ids": a["ids"]} for a, b in zip(CLASSES, CLASSES[::-1], strict=True)]
    parts = {"one": part, "other": part | {"classes": turned, "only": ["train"]}}
    rest = {"street": None, "train_split": "train", "val_split": "train", "cache": "disk", "mean": [0, 0, 0]}
    names = [{"name": entry["name"]} for entry in CLASSES]
    data = of_two("", "", parts=parts, classes=names) | rest
    module = SegmentationDataModule(data, cache_dir=tmp_path / "cache")
    module.setup("validate")
    module.cache_frames()
    one, other = (module.val_set[number]["target"].numpy() for number in (0, 6))
    assert module.val_set[0]["name"] == "one.000"
    assert module.val_set[6]["name"] == "other.000"
    assert np.array_equal(np.where(one == IGNORE, IGNORE, 2 - one.astype(int)), other)
    assert len(list((tmp_path / "cache").rglob("*.frame"))) == 12
    assert len(module.originals.digests()) == 12


def test_digests_change_with_the_table_of_a_part(street_root, fields):
    def digests(data):
        module = SegmentationDataModule(data | {"street": None, "val_split": "val", "cache": "none"})
        module.setup("validate")
        module.cache_frames()
        return module.originals.digests()

    data = of_two(street_root, fields)
    before = digests(data)
    data["parts"]["fields"]["classes"][0]["ids"] = [1]
    data["parts"]["fields"]["ignored"]["ids"] = [2, 255]
    after = digests(data)
    assert before[:7] == after[:7]
    assert not set(before[7:]) & set(after[7:])


def test_no_part_has_the_split(street_root, fields):
    data = of_two(street_root, fields)
    for part in data["parts"].values():
        part["only"] = ["train"]
    with pytest.raises(UserError, match="no part has the split 'val'"):
        find_pairs("joined", "/", "val", data)
    assert len(find_pairs("joined", "/", "trainval", data)) == 18
