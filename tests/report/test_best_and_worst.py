import base64
import json
import math

import cv2
import numpy as np
import pytest
import torch

from src.labels import CITYSCAPES, IGNORE
from src.metrics.by_image import image_counts, image_mious, miou, read_by_image, write_by_image
from src.metrics.confusion import ConfusionMatrix, scores
from src.report.best_and_worst import BestAndWorst, indexed_png, merged


def batch(number, shape=(24, 40), classes=19, seed=0, right=0.5):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, (number, *shape))
    prediction = np.where(rng.random(target.shape) < right, target, rng.integers(0, classes, target.shape))
    target[rng.random(target.shape) < 0.1] = IGNORE
    image = rng.integers(0, 256, (number, 3, *shape))
    return tuple(torch.from_numpy(part.astype(np.uint8)) for part in (image, target, prediction))


def naive(prediction, target, classes):
    labelled = target != IGNORE
    values = []
    for label in range(classes):
        truth, guess = (target == label) & labelled, (prediction == label) & labelled
        if truth.any():
            values.append((truth & guess).sum().item() / (truth | guess).sum().item())
    return sum(values) / len(values) if values else math.nan


@pytest.mark.parametrize("classes", [1, 2, 19, 255])
def test_miou_of_each_image(classes):
    _, target, prediction = batch(3, classes=classes)
    found = image_mious(image_counts(prediction, target, classes).numpy()).tolist()
    assert found == pytest.approx([naive(p, t, classes) for p, t in zip(prediction, target, strict=True)])


def test_classes_that_are_only_predicted_count_as_mistakes_for_the_others():
    target = torch.zeros(1, 10, 10, dtype=torch.uint8)
    prediction = target.clone()
    prediction[0, 0, 0] = 5
    assert image_mious(image_counts(prediction, target, 19).numpy()).item() == pytest.approx(0.99)


def test_counts_of_images_add_up_to_the_metric_of_all(tmp_path):
    _, target, prediction = batch(4, classes=7)
    target[target == 3] = IGNORE
    prediction[prediction == 3] = 2  # a class that occurs nowhere
    counts = image_counts(prediction, target, 7).numpy()
    matrix = ConfusionMatrix(7)
    matrix.update(prediction, target)
    assert miou(counts.sum(0)) == scores(matrix.compute(), list("abcdefg"))["mIoU"]
    names = [f"image, {n}" for n in (3, 1, 2, 0)]
    write_by_image(tmp_path / "by_image.csv", zip(names, counts, strict=True), list("abcdefg"))
    read = read_by_image(tmp_path / "by_image.csv")
    assert list(read) == sorted(names)
    assert all(np.array_equal(read[name], of_image) for name, of_image in zip(names, counts, strict=True))
    assert read_by_image(tmp_path / "none.csv") is None


def test_an_image_without_labels_has_no_miou_and_is_not_kept():
    image, target, prediction = batch(2)
    target[0] = IGNORE
    mious = image_mious(image_counts(prediction, target, 19).numpy()).tolist()
    assert math.isnan(mious[0])
    seen = BestAndWorst(3)
    seen.add(mious, ["blank", "other"], image, target, prediction)
    assert [kept.name for kept in seen.worst] == ["other"]


def images(number, seed=0):
    """name -> (miou, image, target, prediction)"""
    rights = np.random.default_rng(seed).permutation(np.linspace(0.1, 0.9, number))
    made = {}
    for index, right in enumerate(rights):
        image, target, prediction = batch(1, seed=index, right=right)
        mious = image_mious(image_counts(prediction, target, 19).numpy())
        made[f"city_{index:03d}"] = mious.tolist(), image, target, prediction
    return made


def seen_of(made, names, count=2):
    seen = BestAndWorst(count)
    for name in names:
        mious, *maps = made[name]
        seen.add(mious, [name], *maps)
    return seen.found(CITYSCAPES)


def test_any_order_and_any_number_of_devices_give_the_same():
    made = images(9)
    names = list(made)
    alone = merged([seen_of(made, names)], 2)
    assert merged([seen_of(made, names[::-1])], 2) == alone
    assert merged([seen_of(made, names[rank::3]) for rank in range(3)], 2) == alone
    by_miou = sorted(names, key=lambda name: made[name][0])
    assert [entry["name"] for entry in alone["worst"]] == by_miou[:2]
    assert [entry["name"] for entry in alone["best"]] == by_miou[:-3:-1]
    assert alone["all"] == sorted(round(made[name][0][0], 4) for name in names)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_of_few_images_none_is_both_best_and_worst(number):
    made = images(number)
    found = merged([seen_of(made, list(made), count=4)], 4)
    names = [entry["name"] for entry in found["worst"] + found["best"]]
    assert sorted(names) == sorted(made)


def picture(uri):
    data = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


def test_pictures_show_what_they_are_called():
    image, target, prediction = batch(1, classes=3)
    target[0, :5] = IGNORE
    seen = BestAndWorst(1)
    seen.add([0.5], ["x"], image, target, prediction)
    (entry,) = merged([seen.found(CITYSCAPES)], 1)["best"]
    truth, guess, errors = (picture(entry[key]) for key in ("truth", "prediction", "errors"))
    labelled = (target[0] != IGNORE).numpy()
    assert (truth[..., 3] == np.where(labelled, 255, 0)).all(), "unlabelled pixels show the image"
    colors = CITYSCAPES.colors[..., ::-1]
    assert (truth[labelled][:, :3] == colors[target[0].numpy()[labelled]]).all()
    assert (guess[..., :3] == colors[prediction[0].numpy()]).all()
    wrong = labelled & (target[0] != prediction[0]).numpy()
    assert ((errors[..., 3] == 255) == wrong).all()
    assert entry["wrong"] == pytest.approx(wrong.sum() / labelled.sum())
    pairs = np.stack((target[0].numpy()[wrong], prediction[0].numpy()[wrong]), 1).tolist()
    counts = {tuple(pair): pairs.count(pair) for pair in pairs}
    assert tuple(CITYSCAPES.class_names.index(name) for name in entry["confused"]) == max(
        counts, key=counts.get
    )
    assert picture(entry["image"]).shape == (24, 40, 3)
    assert json.loads(json.dumps(entry)) == entry


def test_large_images_become_small_pictures():
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8), (2048, 1024))
    image = torch.from_numpy(smooth).permute(2, 0, 1)[None]
    target = torch.arange(19, dtype=torch.uint8).repeat_interleave(108)[:2048].expand(1, 1024, 2048)
    sizes = {}
    for count in (4, 20):
        seen = BestAndWorst(count)
        seen.add([0.1] * 3 * count, [f"{i}" for i in range(3 * count)], *(
            part.expand(3 * count, *part.shape[1:]) for part in (image, target, target)
        ))  # fmt: skip
        found = merged([seen.found(CITYSCAPES)], count)
        assert len(found["best"]) == len(found["worst"]) == count
        sizes[count] = picture(found["best"][0]["truth"]).shape[:2]
        assert len(json.dumps(found)) < 3e6
    assert sizes[4] == (360, 720)
    assert sizes[20] < sizes[4]


def test_a_png_that_others_read():
    indices = np.random.default_rng(0).integers(0, 256, (7, 13), np.uint8)
    palette = np.random.default_rng(1).integers(1, 256, (256, 4), np.uint8)
    read = cv2.imdecode(np.frombuffer(indexed_png(indices, palette), np.uint8), cv2.IMREAD_UNCHANGED)
    assert (read == palette[indices][..., [2, 1, 0, 3]]).all()
