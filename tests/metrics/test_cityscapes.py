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
from src.metrics.cityscapes import AVERAGE_SIZE, Individual, by_label_id, official_scores
from src.metrics.confusion import ConfusionMatrix, scores
from src.metrics.instances import IndividualCounter
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
    metric, individuals = ConfusionMatrix(19), []
    for number in reversed(range(len(labels))):
        ids = cv2.imread(str(labels[number]), cv2.IMREAD_UNCHANGED)
        path = str(labels[number]).replace("labelIds", "instanceIds")
        instances = torch.from_numpy(cv2.imread(path, cv2.IMREAD_UNCHANGED).astype(np.int32))
        classes = of_predictions[cv2.imread(str(predictions[number]), cv2.IMREAD_UNCHANGED)]
        metric.update(torch.from_numpy(classes)[None], torch.from_numpy(CITYSCAPES.to_train_id[ids])[None])
        individuals += counter(torch.from_numpy(classes), instances, number)
    matrix = metric.compute()
    figures = scores(matrix, CITYSCAPES.class_names)
    return figures | official_scores(by_label_id(matrix.numpy(), CITYSCAPES), individuals, CITYSCAPES)


def test_class_maps_as_an_evaluation_makes_them(labels, tmp_path):
    predictions = predict(labels, tmp_path, void=False)
    figures = count(predictions, labels, IndividualCounter(CITYSCAPES, LEARNED), CITYSCAPES.to_train_id)
    expected = official.evaluate(predictions, labels)
    official.assert_equal(figures, expected)
    known = [value for key in official.KEYS for value in _values(figures[key])]
    assert len({value for value in known if value is not None and 0 < value < 1}) > 30
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def _values(figure):
    return figure.values() if isinstance(figure, dict) else [figure]


@pytest.mark.parametrize("number", range(SCENES))
def test_each_scene_alone(labels, tmp_path, number):
    """Most classes are missing somewhere: in the truth, in the prediction or in both."""
    one = labels[number : number + 1]
    predictions = predict(labels, tmp_path, void=False)[number : number + 1]
    figures = count(predictions, one, IndividualCounter(CITYSCAPES, LEARNED), CITYSCAPES.to_train_id)
    official.assert_equal(figures, official.evaluate(predictions, one))


def test_files_with_ids_that_are_not_learned(streets, labels, tmp_path):
    predictions = predict(labels, tmp_path, void=True)
    figures = score(tmp_path, streets, ["val"])
    official.assert_equal(figures, official.evaluate(predictions, labels))
    without = score_without_void(streets, labels, tmp_path / "without")
    assert figures["mIoU"] != without["mIoU"]


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
    figures = score(tmp_path, streets, ["val"])
    official.assert_equal(figures, official.evaluate([tmp_path / path.name for path in labels], labels))
    assert figures["mean_iIoU"] == figures["category_mIoU"] == figures["mIoU"] == 1


def test_by_hand():
    """A car of 4 pixels, half of it seen; one of 16, taken for a bus; 3 pixels of road taken for cars."""
    matrix = np.zeros((34, 34), np.int64)
    matrix[26, 26], matrix[26, 7], matrix[26, 28], matrix[7, 26] = 2, 2, 16, 3
    cars = [Individual(1, 26001, 16, 0, 16), Individual(0, 26004, 4, 2, 2)]
    figures = official_scores(matrix, cars, CITYSCAPES)
    size = AVERAGE_SIZE["car"]
    assert figures["category_IoU"]["vehicle"] == 18 / (18 + 2 + 3)
    assert figures["iIoU"]["car"] == pytest.approx(0.5 * size / (2 * size + 3), rel=1e-15)
    assert figures["category_iIoU"] == {
        "human": None,
        "vehicle": pytest.approx(1.5 * size / (2 * size + 3), rel=1e-15),
    }
    assert figures["iIoU"]["bus"] == 0  # false positives alone
    assert figures["iIoU"]["train"] is None


def test_without_individuals():
    figures = official_scores(np.eye(34, dtype=np.int64), None, CITYSCAPES)
    assert figures["category_mIoU"] == 1
    assert figures["mean_iIoU"] is figures["category_mean_iIoU"] is None
    assert set(figures["iIoU"].values()) == set(figures["category_iIoU"].values()) == {None}


def test_a_class_of_one_s_own_without_an_average_size():
    renamed = [replace(e, name="tuktuk") if e.name == "car" else e for e in CITYSCAPES.labels]
    table = replace(CITYSCAPES, labels=tuple(renamed))
    matrix = by_label_id(np.ones((19, 19), np.int64), table)
    figures = official_scores(matrix, [Individual(0, 26001, 9, 1, 1), Individual(0, 24001, 9, 1, 1)], table)
    assert figures["iIoU"]["tuktuk"] is figures["category_iIoU"]["vehicle"] is None
    assert figures["iIoU"]["person"] > 0


def test_figures_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    individuals = [
        Individual(image, 24000 + n, 97, *sorted(rng.integers(0, 97, 2).tolist()))
        for image in range(40)
        for n in range(9)
    ]
    matrix = np.ones((34, 34), np.int64)
    expected = official_scores(matrix, individuals, CITYSCAPES)
    shuffled = [individuals[i] for i in rng.permutation(len(individuals))]
    assert official_scores(matrix, shuffled, CITYSCAPES) == expected


def test_counting_individuals():
    instances = torch.tensor([[24003, 24003, 24003, 24, 11, 33000, 29007]], dtype=torch.int32)
    prediction = torch.tensor([[11, 12, 0, 11, 11, 18, 18]], dtype=torch.uint8)  # person, rider, road, ...
    found = IndividualCounter(CITYSCAPES, LEARNED)(prediction, instances, 5)
    assert [i for i in found if i.instance // 1000 != 29] == [(5, 24003, 3, 1, 2), (5, 33000, 1, 1, 1)]
    assert IndividualCounter(CITYSCAPES, LEARNED)(prediction, instances * 0, 5) == []


def test_tables():
    assert list(CITYSCAPES.categories) == [
        *("flat", "construction", "object", "nature", "sky", "human", "vehicle"),
    ]
    assert CITYSCAPES.has_categories
    assert not CAMVID.has_categories
    assert not CAMVID.has_instances
    individual = {e.name for e in CITYSCAPES.train_labels if e.has_instances and e.train_id != IGNORE}
    assert set(AVERAGE_SIZE) == individual
