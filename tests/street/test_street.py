"""The synthetic street: what is drawn."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from src.labels import CITYSCAPES, IGNORE
from src.street import draw_scene

SIZE = (128, 64)


def labels_of(root: Path, split: str) -> list[np.ndarray]:
    files = sorted(root.glob(f"gtFine/{split}/*/*_labelIds.png"))
    return [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]


def test_same_numbers_same_scene() -> None:
    first, again = draw_scene(1, 2, *SIZE), draw_scene(1, 2, *SIZE)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.instance_ids.tobytes() == again.instance_ids.tobytes()


@pytest.mark.parametrize(("seed", "index"), [(2, 2), (1, 3)])
def test_other_numbers_other_scene(seed: int, index: int) -> None:
    scene, other = draw_scene(1, 2, *SIZE), draw_scene(seed, index, *SIZE)
    assert (scene.label_ids != other.label_ids).mean() > 0.1


def test_global_random_state_is_neither_read_nor_moved() -> None:
    np.random.seed(0)
    first = draw_scene(5, 0, *SIZE).image
    left = np.random.random()
    np.random.seed(0)
    assert np.random.random() == left
    assert (draw_scene(5, 0, *SIZE).image == first).all()


@pytest.mark.parametrize(("width", "height"), [(64, 32), (250, 131), (64, 128)])
def test_any_size(width: int, height: int) -> None:
    scene = draw_scene(0, 1, width, height)
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    assert scene.label_ids.shape == scene.instance_ids.shape == (height, width)
    assert (scene.label_ids.dtype, scene.instance_ids.dtype) == (np.uint8, np.uint16)
    sky = 23
    assert (scene.label_ids[height // 2] != sky).all()
    assert (scene.label_ids[-height // 4 :] != sky).all()


@pytest.mark.parametrize("index", range(4))
def test_same_scene_at_every_size(index: int) -> None:
    """Labels of the large scene, thinned to the small one's grid, agree but for the edges of things."""
    small, large = draw_scene(0, index, 256, 128), draw_scene(0, index, 2048, 1024)
    thinned = large.label_ids[4::8, 4::8]
    assert (thinned == small.label_ids).mean() > 0.92
    fractions = [
        np.bincount(ids.ravel(), minlength=34) / ids.size for ids in (small.label_ids, large.label_ids)
    ]
    out_of_roi = 3  # one pixel at least, so its share does not scale
    assert np.abs(np.delete(fractions[0] - fractions[1], out_of_roi)).max() < 0.02


@pytest.mark.parametrize("index", range(6))
def test_instance_ids_agree_with_label_ids(index: int) -> None:
    scene = draw_scene(4, index, *SIZE)
    for value in np.unique(scene.instance_ids).tolist():
        label = value // 1000 if value >= 1000 else value
        assert CITYSCAPES.is_known[label]
        has_instances = next(e.has_instances for e in CITYSCAPES.labels if e.id == label)
        assert (value >= 1000) == has_instances
        assert (scene.label_ids[scene.instance_ids == value] == label).all()


@pytest.mark.parametrize("seed", [3, 8])
def test_a_dozen_scenes_hold_all_classes(seed: int) -> None:
    pixels = sum(np.bincount(draw_scene(seed, i, *SIZE).label_ids.ravel(), minlength=34) for i in range(12))
    share = {label.name: pixels[label.id] / pixels.sum() for label in CITYSCAPES.train_labels}
    assert min(share.values()) > 0.002, share


def test_void_is_there_but_rare(dozen: Path) -> None:
    ids = np.stack(labels_of(dozen, "train"))
    void = (CITYSCAPES.to_train_id[ids] == IGNORE).mean()
    assert 0.01 < void < 0.2


def test_colour_alone_does_not_tell_the_classes() -> None:
    """Naming each pixel by the commonest class of its colour on the same scenes, an upper bound for any
    classifier that sees one pixel, stays far from what the labels say."""
    scenes = [draw_scene(0, i, 256, 128) for i in range(12)]
    cells = np.concatenate([(s.image.reshape(-1, 3) >> 4) @ np.array((256, 16, 1)) for s in scenes])
    target = np.concatenate([CITYSCAPES.to_train_id[s.label_ids].ravel() for s in scenes])
    cells, target = cells[target != IGNORE], target[target != IGNORE]
    counts = np.bincount(cells * 19 + target, minlength=4096 * 19).reshape(4096, 19)
    matrix = np.bincount(target * 19 + counts.argmax(1)[cells], minlength=361).reshape(19, 19)
    hits = np.diag(matrix)
    assert (hits / (matrix.sum(0) + matrix.sum(1) - hits)).mean() < 0.35
