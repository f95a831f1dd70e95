"""What cityscapesScripts reports beside the IoU of classes: IoU of categories, and iIoU of both.

The definitions are those of its version 2.3.0, evaluation/evalPixelLevelSemanticLabeling.py. Sums are added
in the same order as there, so that equal counts give bitwise equal metrics. The names in metrics.json are:

    category_IoU, category_mIoU         TP / (TP + FP + FN) of the pixels of a category, and their mean
    iIoU, mean_iIoU                     iTP / (iTP + FP + iFN) of the classes with instances, and their mean
    category_iIoU, category_mean_iIoU   the same of the categories with instances

iTP and iFN are pixels of instances, each weighted with (mean size of its class's instances) / (size of
this one), so that distant (small) instances count as much as near ones. Groups are not instances. False
positives belong to no instance and are not weighted.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from src.labels import IGNORE, PER_LABEL, Label, LabelTable
from src.metrics.confusion import mean, ratio

AVERAGE_SIZE = {
    "bicycle": 4672.3249222261,
    "motorcycle": 6298.7200839748,
    "rider": 3930.4788056518,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "car": 12794.0202738185,
    "person": 3462.4756337644,
    "truck": 27855.1264367816,
}
"""Pixels of an instance in Cityscapes' training set (cityscapesScripts, avgClassSize). A class
that has no entry here has no iIoU."""


class Instance(NamedTuple):
    """How much of one person or vehicle was recognised. Sorts by image, then by instance id."""

    image: int  # index in the split
    instance: int  # 1000 * label id + number
    pixels: int
    hits: int  # pixels predicted as its class
    category_hits: int  # pixels predicted as any label of its category, also one that is not learned


def by_label_id(matrix: np.ndarray, table: LabelTable) -> np.ndarray:
    """A confusion matrix over train ids (C, C) as one over label ids, int64 (N, N)."""
    learned = _ids(table.train_labels)
    number = 1 + max(label.id for label in table.labels)
    result = np.zeros((number, number), np.int64)
    result[np.ix_(learned, learned)] = matrix
    return result


def official_scores(
    matrix: np.ndarray, instances: Iterable[Instance] | None, table: LabelTable
) -> dict[str, Any]:
    """The metrics above as plain Python values, fractions in [0, 1]; None for what does not occur.

    Args:
        matrix: int64 (N, N) over label ids, rows are the ground truth.
        instances: each instance once, in any order; None if they are not known, then every iIoU is None.
    """
    category_iou = {name: _category_iou(matrix, name, table) for name in table.categories}
    class_iiou: dict[str, float | None] = {}
    category_iiou: dict[str, float | None] = {}
    of_classes, of_categories = _weighted_pixels(instances or (), table)
    for label in table.train_labels:
        if label.has_instances:
            false = _false_positives(matrix, [label], [e for e in table.train_labels if e is not label])
            known = label.name in AVERAGE_SIZE
            class_iiou[label.name] = _iiou(of_classes[label.train_id], false) if known else None
    for name, members in table.categories.items():
        if all(label.has_instances for label in members):
            false = _false_positives(matrix, members, _outside(name, table))
            known = all(e.name in AVERAGE_SIZE for e in members if e.train_id != IGNORE)
            category_iiou[name] = _iiou(of_categories[name], false) if known else None
    if instances is None:
        class_iiou, category_iiou = dict.fromkeys(class_iiou), dict.fromkeys(category_iiou)
    return {
        "category_mIoU": mean(category_iou.values()),
        "category_IoU": category_iou,
        "mean_iIoU": mean(class_iiou.values()),
        "iIoU": class_iiou,
        "category_mean_iIoU": mean(category_iiou.values()),
        "category_iIoU": category_iiou,
    }


def _category_iou(matrix: np.ndarray, name: str, table: LabelTable) -> float | None:
    members = [label for label in table.categories[name] if label.train_id != IGNORE]
    in_target = int(matrix[_ids(members)].sum())
    return ratio(
        int(matrix[np.ix_(_ids(members), _ids(members))].sum()),
        in_target + _false_positives(matrix, members, _outside(name, table)),
    )


def _outside(name: str, table: LabelTable) -> list[Label]:
    return [label for label in table.train_labels if label.category != name]


def _false_positives(matrix: np.ndarray, predicted: Sequence[Label], truth: Sequence[Label]) -> int:
    return int(matrix[np.ix_(_ids(truth), _ids(predicted))].sum())


def _ids(labels: Sequence[Label]) -> list[int]:
    return [label.id for label in labels]


@dataclass
class _Weighted:
    """iTP and iFN."""

    hits: float = 0.0
    missed: float = 0.0


def _weighted_pixels(
    instances: Iterable[Instance], table: LabelTable
) -> tuple[dict[int, _Weighted], dict[str, _Weighted]]:
    """iTP and iFN by train id, and by category."""
    labels = {label.id: label for label in table.labels}
    by_class: dict[int, _Weighted] = defaultdict(_Weighted)
    by_category: dict[str, _Weighted] = defaultdict(_Weighted)
    for instance in sorted(instances):
        label = labels[instance.instance // PER_LABEL]
        if label.train_id == IGNORE or label.name not in AVERAGE_SIZE:
            continue
        weight = AVERAGE_SIZE[label.name] / instance.pixels
        for sums, hits in (
            (by_class[label.train_id], instance.hits),
            (by_category[label.category], instance.category_hits),
        ):
            sums.hits += hits * weight
            sums.missed += (instance.pixels - hits) * weight
    return by_class, by_category


def _iiou(pixels: _Weighted, false: int) -> float | None:
    whole = pixels.hits + false + pixels.missed  # floats: the sum depends on this order
    return pixels.hits / whole if whole else None
