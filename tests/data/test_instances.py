"""instanceIds files beside the labels: read where they are wanted, and refused where they are wrong."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from inflict import Inflict, content, each, folder, link_to_nowhere, middle, pixels

from src.data.dataset import SegmentationDataset
from src.data.instance_ids import find_instances
from src.data.layouts import find_pairs
from src.labels import CITYSCAPES

INSTANCES = "gtFine/val/*/*_instanceIds.png"
AGAIN = "Extract gtFine_trainvaltest.zip again"


def one_more(ids: np.ndarray) -> np.ndarray:
    """Another class in a single pixel."""
    changed = ids.copy()
    changed[-1, -1] = 24001
    return changed


FOUND_AT_ONCE: dict[str, tuple[Inflict, tuple[str, ...]]] = {
    "some missing": (each(INSTANCES, Path.unlink), ("2 of 7", "missing", "left out")),
    "empty": (each(INSTANCES, content(lambda _: b"")), ("not a PNG file (empty)",)),
    "half": (each(INSTANCES, content(lambda data: data[: len(data) // 2])), ("truncated",)),
    "web page": (each(INSTANCES, content(lambda _: b"<html>404</html>" * 9)), ("(a web page)",)),
    "8 bits": (each(INSTANCES, pixels(lambda ids: ids.astype(np.uint8))), ("16-bit PNG", "8-bit grey")),
    "colour": (each(INSTANCES, pixels(lambda ids: np.dstack([ids] * 3))), ("16-bit RGB",)),
    "size": (each(INSTANCES, pixels(lambda ids: ids[:-2])), ("128x62", "128x64")),
    "folder": (each(INSTANCES, folder), ("missing",)),
    "link to nowhere": (each(INSTANCES, link_to_nowhere), ("missing",)),
}
FOUND_ON_READING: dict[str, tuple[Inflict, tuple[str, ...]]] = {
    "damaged": (each(INSTANCES, content(middle)), ("cannot be decoded",)),
    "one pixel of another class": (
        each(INSTANCES, pixels(one_more)),
        ("in 1 pixels", "row 63, column 127", "24001", "same release", AGAIN),
    ),
    "another frame's": (
        each(INSTANCES, pixels(lambda ids: ids[:, ::-1])),
        ("disagrees with its label file",),
    ),
    "an id of no label": (each(INSTANCES, pixels(lambda ids: ids * 0 + 65535)), ("65535",)),
    "instances of a class without": (
        each(INSTANCES, pixels(lambda ids: np.where(ids == 7, 7001, ids).astype(np.uint16))),
        ("7001", "'road'"),
    ),
}


@pytest.mark.parametrize("kind", FOUND_AT_ONCE)
def test_found_before_anything_starts(module_for, street, refused, kind):
    inflict, says = FOUND_AT_ONCE[kind]
    paths = inflict(street)
    module = module_for("street", street)
    module.setup("validate")  # not wanted, not looked at
    with refused(*paths, *says):
        validation_set(module_for, street)


@pytest.mark.parametrize("kind", FOUND_ON_READING)
def test_found_on_reading(module_for, street, refused, kind):
    inflict, says = FOUND_ON_READING[kind]
    paths = inflict(street)
    samples = validation_set(module_for, street)
    for index, path in enumerate(paths):
        with refused(path, *says):
            samples[0, index]
    assert samples[0, len(paths)]["instances"].shape == (64, 128)


def validation_set(module_for, root) -> SegmentationDataset:
    module = module_for("street", root)
    module.instances = True
    module.setup("validate")
    return module.val_set


def test_samples_have_them_where_they_are_wanted(module_for, street_root):
    samples = validation_set(module_for, street_root)
    for index in range(len(samples)):
        [path] = street_root.glob(f"gtFine/val/*/{samples.pairs[index].name}_gtFine_instanceIds.png")
        stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        instances = samples[0, index]["instances"]
        assert instances.dtype == torch.int32
        assert np.array_equal(instances.numpy(), stored)
    assert stored.max() > 24000


def test_training_and_its_validation_read_none(module_for, street_root):
    module = module_for("street", street_root)
    module.setup("fit")
    for samples in (module.train_set, module.val_set):
        assert set(samples[0, 0]) == {"image", "target", "name"}


def test_from_an_archive_and_with_cached_frames(module_for, street_root, tmp_path):
    for name in ("leftImg8bit", "gtFine"):
        with zipfile.ZipFile(tmp_path / f"{name}_trainvaltest.zip", "w") as archive:
            for path in sorted((street_root / name).rglob("*.png")):
                archive.write(path, path.relative_to(street_root))
    module = module_for("street", tmp_path, cache="disk")
    module.instances = True
    module.setup("validate")
    module.cache_frames()
    expected = validation_set(module_for, street_root)
    for index in range(len(expected)):
        assert torch.equal(module.val_set[0, index]["instances"], expected[0, index]["instances"])


def test_none_at_all_is_said_once(street, caplog):
    for path in street.glob(INSTANCES):
        path.unlink()
    pairs = find_pairs("cityscapes", street, "val")
    with caplog.at_level("INFO"):
        assert find_instances(pairs, [(64, 128)] * len(pairs), CITYSCAPES) is None
    assert [record.message.count("no iIoU") for record in caplog.records] == [1]


def test_camvid_has_none(module_for, camvid_root):
    module = module_for("camvid", camvid_root)
    module.instances = True
    module.setup("validate")
    assert module.val_set.instances is None
