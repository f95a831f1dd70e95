"""Datasets that are a YAML file alone, on made-up files in the folders that their publishers document."""

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from own_data import save
from PIL import Image

from src.config import CONF_DIR, plain, register_resolvers
from src.data.checks.pairs import check_pairs
from src.data.dataset import read_target
from src.data.layouts import find_pairs
from src.label_tables import default_color, table_of
from src.labels import CITYSCAPES, IGNORE
from src.schema.check import check_values

VALUES = {"bdd100k": [*range(19), 255], "mapillary_vistas": list(range(66)), "voc2012": [*range(21), 255]}


@pytest.fixture(scope="module")
def group():
    register_resolvers()

    def read(name, root="/nowhere"):
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose("train", [f"data={name}", f"data.root='{root}'"])
        check_values(config, "train")
        return plain(config.data)

    return read


def grey(path, ids):
    save(path, ids)


def palette(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", ids.shape[::-1], ids.tobytes())
    image.putpalette([level for number in range(256) for level in default_color(number)])
    image.save(path)


def bdd100k(root, split, name, image, ids):
    save(root / f"images/10k/{split}/{name}.jpg", image)
    grey(root / f"labels/sem_seg/masks/{split}/{name}.png", ids)


def mapillary_vistas(root, split, name, image, ids):
    folder = {"train": "training", "val": "validation"}[split]
    save(root / f"{folder}/images/{name}.jpg", image)
    palette(root / f"{folder}/v1.2/labels/{name}.png", ids)


def voc2012(root, split, name, image, ids):
    save(root / f"JPEGImages/{name}.jpg", image)
    palette(root / f"SegmentationClass/{name}.png", ids)
    (root / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
    with (root / f"ImageSets/Segmentation/{split}.txt").open("a") as file:
        file.write(f"{name}\n")


@pytest.mark.parametrize("write", [bdd100k, mapillary_vistas, voc2012], ids=lambda write: write.__name__)
def test_every_value_becomes_a_class_or_is_ignored(group, tmp_path, write):
    values = np.array(VALUES[write.__name__], np.uint8)
    ids = np.resize(values, (40, 66))
    for split, names in (("train", ("2007_000032", "2007_000039")), ("val", ("2007_000033",))):
        for name in names:
            write(tmp_path, split, name, np.full((40, 66, 3), 90, np.uint8), ids)
    data = group(write.__name__, tmp_path)
    table = table_of(data)
    train, val = (find_pairs("folder", tmp_path, split, data) for split in ("train", "val"))
    assert [pair.name.rpartition("_")[2] for pair in (*train, *val)] == ["000032", "000039", "000033"]
    assert check_pairs([*train, *val], table) == [(40, 66)] * 3
    assert set(np.unique(read_target(val[0], table)).tolist()) == {*range(table.num_classes), IGNORE}
    assert set(np.flatnonzero(table.is_known).tolist()) == set(values.tolist())


@pytest.mark.parametrize("name", ["bdd100k", "mapillary_vistas"])
def test_cityscapes_networks_can_be_evaluated_there(group, name):
    table = table_of(group(name))
    assert table.class_names == CITYSCAPES.class_names
    assert np.array_equal(table.colors, CITYSCAPES.colors)


def test_some_classes_by_hand(group):
    vistas, bdd, voc = (table_of(group(name)) for name in ("mapillary_vistas", "bdd100k", "voc2012"))
    named = {"road": 13, "sidewalk": 15, "building": 17, "rider": 21, "sky": 27, "car": 55, "train": 58}
    assert {name: vistas.class_names[vistas.to_train_id[number]] for name, number in named.items()} == {
        name: name for name in named
    }
    assert bdd.to_train_id[:19].tolist() == list(range(19))
    assert (voc.class_names[0], voc.class_names[15], voc.class_names[20]) == (
        "background",
        "person",
        "tvmonitor",
    )
    assert voc.colors[15].tolist() == [192, 128, 128], "as in the devkit"
