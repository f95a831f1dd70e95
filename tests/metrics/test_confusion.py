import copy
import io
import json
import math
from datetime import timedelta

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from src.labels import CITYSCAPES, IGNORE
from src.metrics.confusion import ConfusionMatrix, scores
from src.report.table import table

NAMES = [f"c{i}" for i in range(19)]


def maps(*shape, classes=19, seed=0, ignored=0.1):
    """Prediction and target that agree on about half of the pixels."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, shape)
    prediction = np.where(rng.random(shape) < 0.5, target, rng.integers(0, classes, shape))
    target = np.where(rng.random(shape) < ignored, IGNORE, target)
    return torch.from_numpy(prediction.astype(np.uint8)), torch.from_numpy(target.astype(np.uint8))


def naive(prediction, target, classes):
    matrix = [[0] * classes for _ in range(classes)]
    for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True):
        if t != IGNORE:
            matrix[t][p] += 1
    return matrix


@pytest.mark.parametrize("classes", [1, 2, 19, 255])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_counts_like_a_loop_over_pixels(classes, dtype):
    metric = ConfusionMatrix(classes)
    batches = [maps(2, 13, 17, classes=classes, seed=seed) for seed in range(3)]
    for prediction, target in batches:
        metric.update(prediction.to(dtype), target)
    prediction, target = (torch.cat(e) for e in zip(*batches, strict=True))
    matrix = metric.compute()
    assert matrix.dtype == torch.int64
    assert matrix.view(classes, classes).tolist() == naive(prediction, target, classes)


def test_rows_are_the_ground_truth():
    metric = ConfusionMatrix(3)
    metric.update(torch.tensor([[[2, 2]]]), torch.tensor([[[0, 1]]], dtype=torch.uint8))
    assert metric.compute().tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_works_with_deterministic_algorithms():
    prediction, target = maps(1, 30, 40)
    torch.use_deterministic_algorithms(True)
    try:
        metric = ConfusionMatrix(19)
        metric.update(prediction, target)
    finally:
        torch.use_deterministic_algorithms(False)
    assert metric.compute().tolist() == naive(prediction, target, 19)


@pytest.mark.parametrize("move", ["half", "bfloat16", "double", "float"])
def test_stays_integer_in_a_module_of_another_precision(move):
    module = torch.nn.ModuleDict({"metric": ConfusionMatrix(19), "layer": torch.nn.Linear(2, 2)})
    metric = module["metric"]
    metric.update(*maps(1, 20, 20))
    before = metric.compute().clone()
    getattr(module, move)()
    module.to(getattr(torch, move))
    metric.set_dtype(getattr(torch, move))
    metric.update(*maps(1, 20, 20))
    assert metric.compute().dtype == torch.int64
    assert torch.equal(metric.compute(), 2 * before)
    metric.reset()
    assert metric.counts.dtype == torch.int64


def test_huge_counts_stay_exact():
    metric = ConfusionMatrix(2)
    metric.counts[0, 0] = 2**60 + 1
    metric.update(torch.zeros(1, 4, 4, dtype=torch.uint8), torch.zeros(1, 4, 4, dtype=torch.uint8))
    matrix = metric.compute()
    assert matrix[0, 0] == 2**60 + 17
    assert scores(matrix, ["a", "b"])["confusion_matrix"][0][0] == 2**60 + 17
    big = torch.tensor([[2**62, 1], [2**62, 2**62]])
    assert scores(big, ["a", "b"])["pixel_accuracy"] == pytest.approx(2 / 3, rel=1e-15)


def test_an_image_of_one_class_counts_beyond_float32():
    metric = ConfusionMatrix(2)
    metric.counts[0, 0] = 2**24
    metric.update(torch.zeros(1, 1, 1, dtype=torch.uint8), torch.zeros(1, 1, 1, dtype=torch.uint8))
    assert metric.compute()[0, 0].item() == 2**24 + 1


@pytest.mark.parametrize(("prediction", "target"), [(0, 7), (7, 0), (0, 254), (19, 5)])
def test_a_value_that_is_no_class_is_no_score(prediction, target):
    metric = ConfusionMatrix(7)
    metric.update(*maps(1, 5, 5, classes=7))
    metric.update(torch.full((1, 2, 3), prediction), torch.full((1, 2, 3), target, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\b6 pixels of the|\b6 of the prediction"):
        metric.compute()


def test_a_stray_prediction_on_ignored_ground_truth_does_no_harm():
    metric = ConfusionMatrix(7)
    metric.update(torch.full((1, 2, 2), 200), torch.full((1, 2, 2), IGNORE, dtype=torch.uint8))
    assert not metric.compute().any()


def test_forward_and_reset():
    metric = ConfusionMatrix(19)
    first, second = maps(1, 9, 9, seed=1), maps(1, 9, 9, seed=2)
    metric(*first)
    assert metric(*second).tolist() == naive(*second, 19)
    assert metric.compute().tolist() == (np.add(naive(*first, 19), naive(*second, 19))).tolist()
    metric.reset()
    metric.update(*first)
    assert metric.compute().tolist() == naive(*first, 19)
    assert metric.sync_on_compute


def test_scores_by_hand():
    result = scores(torch.tensor([[6, 2, 0], [1, 1, 0], [0, 0, 0]]), ["a", "b", "c"])
    assert result == {
        "mIoU": pytest.approx((6 / 9 + 1 / 4) / 2),
        "pixel_accuracy": pytest.approx(7 / 10),
        "mean_accuracy": pytest.approx((6 / 8 + 1 / 2) / 2),
        "IoU": {"a": pytest.approx(6 / 9), "b": pytest.approx(1 / 4), "c": None},
        "classes": ["a", "b", "c"],
        "confusion_matrix": [[6, 2, 0], [1, 1, 0], [0, 0, 0]],
    }


def test_a_class_that_is_only_predicted_counts_for_iou_and_not_for_accuracy():
    result = scores(torch.tensor([[4, 4], [0, 0]]), ["a", "b"])
    assert result["IoU"] == {"a": 0.5, "b": 0.0}
    assert result["mIoU"] == 0.25
    assert result["mean_accuracy"] == 0.5


def test_no_pixel_no_score():
    result = scores(torch.zeros(19, 19, dtype=torch.int64), NAMES)
    assert result["mIoU"] is result["pixel_accuracy"] is result["mean_accuracy"] is None
    assert set(result["IoU"].values()) == {None}
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_scores_survive_json():
    metric = ConfusionMatrix(19)
    metric.update(*maps(1, 40, 40, classes=12))
    result = scores(metric.compute(), NAMES)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_scores_want_a_name_for_each_class():
    with pytest.raises(ValueError, match="2 class names"):
        scores(torch.zeros(3, 3, dtype=torch.int64), ["a", "b"])


def test_table_for_the_terminal():
    console = Console(file=io.StringIO(), width=60)
    console.print(table(scores(torch.tensor([[6, 2, 0], [1, 1, 0], [0, 0, 0]]), ["road", "car", "sky"])))
    lines = [line.strip("│ ").split("│") for line in console.file.getvalue().splitlines() if "│" in line]
    cells = {line[0].strip(): line[1].strip() for line in lines}
    assert cells == {
        "road": "66.67",
        "car": "25.00",
        "sky": "-",
        "mIoU": "45.83",
        "pixel accuracy": "70.00",
        "mean accuracy": "62.50",
    }


def test_equals_the_official_script(tmp_path):
    """cityscapesScripts on label id files; no bus and no train at all, no rider in the ground truth, and a
    third of the ground truth under labels that are not evaluated."""
    official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    rng = np.random.default_rng(7)
    void = [label.id for label in CITYSCAPES.labels if label.train_id == IGNORE]
    absent = {15, 16}  # bus, train
    rider = 12
    metric = ConfusionMatrix(19)
    predictions, targets = [], []
    for i in range(7):
        shape = (41 + i, 67)
        present = np.array(sorted(set(rng.choice(19, 9, replace=False).tolist()) - absent | {rider}))
        prediction = rng.choice(present, shape).astype(np.uint8)
        truth = np.where(rng.random(shape) < 0.6, prediction, rng.choice(present, shape)).astype(np.uint8)
        truth[truth == rider] = present[0]
        label_ids = CITYSCAPES.to_label_id[truth]
        label_ids = np.where(rng.random(shape) < 0.3, rng.choice(void, shape), label_ids).astype(np.uint8)

        predictions.append(str(tmp_path / f"{i}_pred.png"))
        targets.append(str(tmp_path / f"{i}_gtFine_labelIds.png"))
        cv2.imwrite(predictions[-1], CITYSCAPES.to_label_id[prediction])
        cv2.imwrite(targets[-1], label_ids)
        metric.update(
            torch.from_numpy(prediction)[None], torch.from_numpy(CITYSCAPES.to_train_id[label_ids])[None]
        )

    args = copy.copy(official.args)
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    expected = official.evaluateImgLists(predictions, targets, args)

    result = scores(metric.compute(), CITYSCAPES.class_names)
    for name in CITYSCAPES.class_names:
        official_iou = expected["classScores"][name]
        assert result["IoU"][name] == (None if math.isnan(official_iou) else official_iou), name
    assert [name for name, value in result["IoU"].items() if value is None] == ["bus", "train"]
    assert result["IoU"]["rider"] == 0.0
    assert result["mIoU"] == expected["averageScoreClasses"]


def _count_on_a_rank(rank, folder):
    """Batches 0 and 2 on rank 0, batch 1 on rank 1, on top of counts that a float32 sum would round."""
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    try:
        metric = ConfusionMatrix(19)
        metric.counts[0, 0] = 2**40
        for seed in range(rank, 3, 2):
            metric.update(*maps(1, 21, 33, seed=seed))
        (folder / f"{rank}.json").write_text(json.dumps(metric.compute().tolist()))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_add_up_to_one_process(tmp_path):
    other = torch.multiprocessing.get_context("spawn").Process(target=_count_on_a_rank, args=(1, tmp_path))
    other.start()
    _count_on_a_rank(0, tmp_path)
    other.join(60)
    expected = sum(np.array(naive(*maps(1, 21, 33, seed=seed), 19)) for seed in range(3))
    expected[0, 0] += 2**41
    assert other.exitcode == 0
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == expected.tolist()
