"""cityscapesScripts' evaluation for comparisons, and predictions that are wrong in many ways."""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.labels import CITYSCAPES, IGNORE

KEYS = {
    "mIoU": "averageScoreClasses",
    "mean_iIoU": "averageScoreInstClasses",
    "category_mIoU": "averageScoreCategories",
    "category_mean_iIoU": "averageScoreInstCategories",
    "IoU": "classScores",
    "iIoU": "classInstScores",
    "category_IoU": "categoryScores",
    "category_iIoU": "categoryInstScores",
}
VOID = [label.id for label in CITYSCAPES.labels if label.train_id == IGNORE]


def evaluate(predictions: Sequence[Path], labels: Sequence[Path], instances: bool = True) -> dict[str, Any]:
    """Its results for pairs of files of label ids."""
    tool = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    args = copy.copy(tool.args)
    args.evalInstLevelScore, args.JSONOutput, args.quiet = instances, False, True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "in1d", np.isin, raising=False)  # its name until numpy 2.4
        return tool.evaluateImgLists(
            [str(path) for path in predictions], [str(path) for path in labels], args
        )


def assert_equal(metrics: Mapping[str, Any], official: Mapping[str, Any]) -> None:
    """To the last bit; what has no value is None here and NaN there, and may be left out here."""
    for ours, theirs in KEYS.items():
        expected = official[theirs]
        if not isinstance(expected, dict):
            assert metrics[ours] == _or_none(expected), ours
            continue
        assert metrics[ours].items() <= {name: _or_none(e) for name, e in expected.items()}.items(), ours
        left_out = set(expected) - set(metrics[ours])
        assert all(math.isnan(expected[name]) for name in left_out), ours


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def corrupted(label: np.ndarray, seed: int, void: bool) -> np.ndarray:
    """A prediction of label ids: the truth, shifted, with blobs of other classes and holes, without some
    classes, and pixels of single instances lost. With `void` also ids that are not learned; else none."""
    rng = np.random.default_rng(seed)
    learned = [e.id for e in CITYSCAPES.train_labels]
    result = np.roll(label, tuple(rng.integers(-3, 4, 2)), (0, 1))
    height, width = label.shape
    rows, columns = np.mgrid[:height, :width]
    for _ in range(rng.integers(3, 9)):
        y, x, radius = rng.integers(height), rng.integers(width), rng.integers(2, height // 4)
        blob = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        result[blob] = rng.choice(VOID if void and rng.random() < 0.4 else learned)
    for lost in rng.choice(learned, 3, replace=False):
        result[result == lost] = rng.choice([e for e in learned if e != lost])
    vehicles = result == 26
    result[vehicles & (rng.random(label.shape) < 0.3)] = 29 if void else 27  # cars as caravans or trucks
    noise = rng.random(label.shape) < 0.02
    result[noise] = rng.choice(learned, noise.sum())
    if not void:
        hidden = np.isin(result, VOID)
        result[hidden] = rng.choice(learned, hidden.sum())
    return result
