"""KITTI's frames as a dataset of one's own: JPEG and RGB masks in plain folders, as the doctor finds them."""

import json

import cv2
import numpy as np
import pytest
import yaml

from src.data.layouts import find_pairs
from src.labels import CITYSCAPES, IGNORE

pytestmark = pytest.mark.slow
QUICK = (
    "trainer.accelerator=cpu", "model.num_blocks=[1,1]", "callbacks.summary=null", "data.num_workers=0",
    "data.crop_size=[64,128]", "data.cache=none",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(real_data, tmp_path_factory):
    """The colour of a pixel is that of its class in Cityscapes' table; ignored labels are black."""
    folder = tmp_path_factory.mktemp("own") / "kitti"
    for split in ("train", "val"):
        for pair in find_pairs("cityscapes", real_data / "kitti", split):
            for kind in ("images", "masks"):
                (folder / kind / split).mkdir(parents=True, exist_ok=True)
            image = cv2.imread(str(pair.image))
            jpg = folder / "images" / split / f"{pair.name}.jpg"
            cv2.imwrite(str(jpg), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            train_ids = CITYSCAPES.to_train_id[cv2.imread(str(pair.label), cv2.IMREAD_UNCHANGED)]
            mask = folder / "masks" / split / f"{pair.name}.png"
            cv2.imwrite(str(mask), np.ascontiguousarray(CITYSCAPES.colors[train_ids][..., ::-1]))
    return folder


@pytest.fixture(scope="module")
def yaml_file(root, module_doors):
    outcome = module_doors("doctor", "data=folder", f"data.root={root}", name="proposal")
    assert outcome.code == 0, outcome.err
    (path,) = (outcome.directory / "conf/data").glob("*.yaml")
    return path


def given(path):
    return f"--config-dir={path.parent.parent}", f"data={path.stem}"


def test_frequencies_are_those_of_the_png_layout(yaml_file, module_doors, real_data):
    """To the pixel, class by class; black is the class `background` here, and ignored there."""
    outcome = module_doors("doctor", *given(yaml_file), *QUICK, "samples=0", name="own")
    assert outcome.code == 0, outcome.err
    content = json.loads((outcome.directory / "doctor.json").read_text())
    classes = yaml.safe_load(yaml_file.read_text())["classes"]
    colors = {entry["name"]: tuple(entry["colors"][0]) for entry in classes}
    found = {colors[name]: e for name, e in content["statistics"]["classes"].items()}
    for split in ("train", "val"):
        pixels = np.zeros(256, np.int64)
        for pair in find_pairs("cityscapes", real_data / "kitti", split):
            label = cv2.imread(str(pair.label), cv2.IMREAD_UNCHANGED)
            pixels += np.bincount(CITYSCAPES.to_train_id[label].ravel(), minlength=256)
        expected = {label.color: pixels[label.train_id] for label in CITYSCAPES.train_labels}
        expected[0, 0, 0] = pixels[IGNORE]
        assert expected.keys() >= found.keys()
        for color, number in expected.items():
            assert found.get(color, {f"{split}_pixels": 0})[f"{split}_pixels"] == number


def test_two_epochs(yaml_file, module_doors):
    outcome = module_doors("train", *given(yaml_file), *QUICK, "trainer.max_epochs=2", name="two")
    assert outcome.code == 0, outcome.err
    assert outcome.metrics["num_images"] == 20
    assert outcome.metrics["mIoU"] > 0


def test_the_authors_weights_are_refused(yaml_file, module_doors, real_data):
    weights = real_data / "weights/cgnet_camvid_author.pth"
    outcome = module_doors("eval", f"checkpoint={weights}", *given(yaml_file), "trainer.accelerator=cpu")
    assert outcome.code == 2
    assert "a network for 11 classes (those of camvid), but data=proposal has" in outcome.err
