"""Category IoU and iIoU are cityscapesScripts', to the last bit."""

import json
from dataclasses import replace

import cv2
import numpy as np
import official
import pytest
import torch

from scripts.score_files import score
from src.labels import CAMVID, CITYSCAPES, IGNORE
from src.metrics.cityscapes import AVERAGE_SIZE, Instance, by_label_id, official_scores
from src.metrics.confusion import ConfusionMatrix, scores
from src.metrics.instances import InstanceCounter
from src.street import write_street

SCENES = 24
LEARNED = [label.id for label in CITYSCAPES.train_labels]


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets") / "street"
    write_street(root, {"val": SCENES}, 192, 96, seed=11)
    return root


@pytest.fixture(scope="module")
def labels(streets):
    return sorted(streets.glob("gtFine/val/*/*_labelIds.png"))


def predict(labels, folder, void, change=None):
    """Corrupted predictions as files, under names as the server takes them."""
    paths = []
    for number, path in enumerate(labels):
        prediction = official.corrupted(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), number, void)
        paths.append(folder / path.name.replace("_gtFine_labelIds", "_pred_labelIds"))
        cv2.imwrite(str(paths[-1]), prediction if change is None else change(prediction))
    return paths


def count(predictions, labels, counter, of_predictions):
    """As an evaluation does, image by image, in another order than cityscapesScripts."""
    metric, counted = ConfusionMatrix(19), []
    for number in reversed(range(len(labels))):
        ids = cv2.imread(str(labels[number]), cv2.IMREAD_UNCHANGED)
        path = str(labels[number]).replace("labelIds", "instanceIds")
        instances = torch.from_numpy(cv2.imread(path, cv2.IMREAD_UNCHANGED).astype(np.int32))
        classes = of_predictions[cv2.imread(str(predictions[number]), cv2.IMREAD_UNCHANGED)]
        metric.update(torch.from_numpy(classes)[None], torch.from_numpy(CITYSCAPES.to_train_id[ids])[None])
        counted += counter(torch.from_numpy(classes), instances, number)
    matrix = metric.compute()
    metrics = scores(matrix, CITYSCAPES.class_names)
    return metrics | official_scores(by_label_id(matrix.numpy(), CITYSCAPES), counted, CITYSCAPES)


def test_class_maps_as_an_evaluation_makes_them(labels, tmp_path):
    predictions = predict(labels, tmp_path, void=False)
    metrics = count(predictions, labels, InstanceCounter(CITYSCAPES, LEARNED), CITYSCAPES.to_train_id)
    expected = official.evaluate(predictions, labels)
    official.assert_equal(metrics, expected)
    known = [value for key in official.KEYS for value in _values(metrics[key])]
    assert len({value for value in known if value is not None and 0 < value < 1}) > 30
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def _values(figure):
    return figure.values() if isinstance(figure, dict) else [figure]


@pytest.mark.parametrize("number", range(SCENES))
def test_each_scene_alone(labels, tmp_path, number):
    """Most classes are missing somewhere: in the truth, in the prediction or in both."""
    one = labels[number : number + 1]
    predictions = predict(labels, tmp_path, void=False)[number : number + 1]
    metrics = count(predictions, one, InstanceCounter(CITYSCAPES, LEARNED), CITYSCAPES.to_train_id)
    official.assert_equal(metrics, official.evaluate(predictions, one))


def test_files_with_ids_that_are_not_learned(streets, labels, tmp_path):
    predictions = predict(labels, tmp_path, void=True)
    metrics = score(tmp_path, streets, ["val"])
    official.assert_equal(metrics, official.evaluate(predictions, labels))
    without = score_without_void(streets, labels, tmp_path / "without")
    assert metrics["mIoU"] != without["mIoU"]


def score_without_void(streets, labels, folder):
    folder.mkdir()
    predict(labels, folder, void=False)
    return score(folder, streets, ["val"])


@pytest.mark.parametrize("only", [0, 7, 26, 29])
def test_files_of_one_id_alone(streets, labels, tmp_path, only):
    predictions = predict(labels, tmp_path, True, lambda ids: np.full_like(ids, only))
    official.assert_equal(score(tmp_path, streets, ["val"]), official.evaluate(predictions, labels))


def test_a_perfect_prediction(streets, labels, tmp_path):
    for path in labels:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    metrics = score(tmp_path, streets, ["val"])
    official.assert_equal(metrics, official.evaluate([tmp_path / path.name for path in labels], labels))
    assert metrics["mean_iIoU"] == metrics["category_mIoU"] == metrics["mIoU"] == 1


def test_by_hand():
    """A car of 4 pixels, half of it seen; one of 16, taken for a bus; 3 pixels of road taken for cars."""
    matrix = np.zeros((34, 34), np.int64)
    matrix[26, 26], matrix[26, 7], matrix[26, 28], matrix[7, 26] = 2, 2, 16, 3
    cars = [Instance(1, 26001, 16, 0, 16), Instance(0, 26004, 4, 2, 2)]
    metrics = official_scores(matrix, cars, CITYSCAPES)
    size = AVERAGE_SIZE["car"]
    assert metrics["category_IoU"]["vehicle"] == 18 / (18 + 2 + 3)
    assert metrics["iIoU"]["car"] == pytest.approx(0.5 * size / (2 * size + 3), rel=1e-15)
    assert metrics["category_iIoU"] == {
        "human": None,
        "vehicle": pytest.approx(1.5 * size / (2 * size + 3), rel=1e-15),
    }
    assert metrics["iIoU"]["bus"] == 0  # false positives alone
    assert metrics["iIoU"]["train"] is None


def test_without_instances():
    metrics = official_scores(np.eye(34, dtype=np.int64), None, CITYSCAPES)
    assert metrics["category_mIoU"] == 1
    assert metrics["mean_iIoU"] is metrics["category_mean_iIoU"] is None
    assert set(metrics["iIoU"].values()) == set(metrics["category_iIoU"].values()) == {None}


def test_a_class_of_one_s_own_without_an_average_size():
    renamed = [replace(e, name="tuktuk") if e.name == "car" else e for e in CITYSCAPES.labels]
    table = replace(CITYSCAPES, labels=tuple(renamed))
    matrix = by_label_id(np.ones((19, 19), np.int64), table)
    metrics = official_scores(matrix, [Instance(0, 26001, 9, 1, 1), Instance(0, 24001, 9, 1, 1)], table)
    assert metrics["iIoU"]["tuktuk"] is metrics["category_iIoU"]["vehicle"] is None
    assert metrics["iIoU"]["person"] > 0


def test_figures_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    instances = [
        Instance(image, 24000 + n, 97, *sorted(rng.integers(0, 97, 2).tolist()))
        for image in range(40)
        for n in range(9)
    ]
    matrix = np.ones((34, 34), np.int64)
    expected = official_scores(matrix, instances, CITYSCAPES)
    shuffled = [instances[i] for i in rng.permutation(len(instances))]
    assert official_scores(matrix, shuffled, CITYSCAPES) == expected


def test_counting_instances():
    instances = torch.tensor([[24003, 24003, 24003, 24, 11, 33000, 29007]], dtype=torch.int32)
    prediction = torch.tensor([[11, 12, 0, 11, 11, 18, 18]], dtype=torch.uint8)  # person, rider, road, ...
    found = InstanceCounter(CITYSCAPES, LEARNED)(prediction, instances, 5)
    assert [i for i in found if i.instance // 1000 != 29] == [(5, 24003, 3, 1, 2), (5, 33000, 1, 1, 1)]
    assert InstanceCounter(CITYSCAPES, LEARNED)(prediction, instances * 0, 5) == []


def test_tables():
    assert list(CITYSCAPES.categories) == [
        *("flat", "construction", "object", "nature", "sky", "human", "vehicle"),
    ]
    assert CITYSCAPES.has_categories
    assert not CAMVID.has_categories
    assert not CAMVID.has_instances
    known = {e.name for e in CITYSCAPES.train_labels if e.has_instances and e.train_id != IGNORE}
    assert set(AVERAGE_SIZE) == known
