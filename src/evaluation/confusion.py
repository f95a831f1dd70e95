"""Confusion matrix over a whole set, and the figures that follow from it by Cityscapes' own rule."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torchmetrics import Metric

from src.labels import IGNORE


class ConfusionMatrix(Metric):
    """Counts pixels, int64 (C, C): rows are the ground truth, columns the prediction; summed over ranks.

    Counts stay int64 whatever precision the module around it is moved to: float32 loses single pixels from
    2^24 on, which is eight full Cityscapes images.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    counts: Tensor

    def __init__(self, num_classes: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        # One row and one column more than classes, for values that are no class.
        state = torch.zeros(num_classes + 1, num_classes + 1, dtype=torch.int64)
        self.add_state("counts", state, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """prediction: class map (B, H, W), any integer type, not negative; target: uint8 (B, H, W), 255 is
        not counted.

        A value that is no class makes `compute` fail: to raise here, each batch would have to wait for the
        device.
        """
        classes = self.num_classes
        rows = target.int()
        rows = torch.where(rows == IGNORE, classes + 1, rows.clamp(max=classes))
        columns = prediction.int().clamp(max=classes)
        # A row of its own for ignored pixels is cheaper than picking out the others.
        bins = (classes + 2) * (classes + 1)
        counts = torch.bincount((rows * (classes + 1) + columns).flatten(), minlength=bins)
        self.counts += counts.view(classes + 2, classes + 1)[:-1]

    def compute(self) -> Tensor:
        """The matrix, int64 (C, C). Raises ValueError if a target or a prediction was no class."""
        stray_targets = int(self.counts[-1].sum())
        stray_predictions = int(self.counts[:-1, -1].sum())
        if stray_targets or stray_predictions:
            raise ValueError(
                f"{stray_targets} pixels of the ground truth and {stray_predictions} of the prediction are "
                f"outside the {self.num_classes} classes: expected 0 to {self.num_classes - 1}, or {IGNORE} "
                "in the ground truth; do the dataset and the network agree on num_classes?"
            )
        return self.counts[:-1, :-1]

    def set_dtype(self, dst_type: str | torch.dtype) -> "ConfusionMatrix":
        """Does nothing: torchmetrics would turn the counts into floats."""
        return self


def scores(matrix: Tensor, class_names: Sequence[str]) -> dict[str, Any]:
    """Figures of a (C, C) matrix as plain Python values, ready for JSON: fractions in [0, 1], counts as int.

    IoU = TP / (TP + FP + FN) over the whole set, None for a class with an empty union; mIoU is the mean over
    the other classes (cityscapesScripts, evalPixelLevelSemanticLabeling.py). mean_accuracy is the mean of
    TP / (TP + FN) over the classes that occur in the ground truth. Without any pixel all of them are None.
    """
    number = len(class_names)
    if matrix.numel() != number**2:
        raise ValueError(f"matrix of shape {tuple(matrix.shape)} for {number} class names")
    # Python's integers: sums are exact, and their quotient is the float64 nearest to the true one.
    counts: list[list[int]] = matrix.reshape(number, number).tolist()
    hits = [counts[i][i] for i in range(number)]
    in_target = [sum(row) for row in counts]
    in_prediction = [sum(column) for column in zip(*counts, strict=True)]
    iou = [_ratio(hits[i], in_target[i] + in_prediction[i] - hits[i]) for i in range(number)]
    accuracy = [_ratio(hits[i], in_target[i]) for i in range(number)]
    return {
        "mIoU": _mean(iou),
        "pixel_accuracy": _ratio(sum(hits), sum(in_target)),
        "mean_accuracy": _mean(accuracy),
        "IoU": dict(zip(class_names, iou, strict=True)),
        "classes": list(class_names),
        "confusion_matrix": counts,
    }


def table(figures: dict[str, Any]) -> Table:
    """What `scores` returned, for the terminal."""
    result = Table(title="IoU per class, %")
    result.add_column("class")
    result.add_column("IoU", justify="right")
    for name in figures["classes"]:
        result.add_row(name, _percent(figures["IoU"][name]))
    result.add_section()
    result.add_row("mIoU", _percent(figures["mIoU"]), style="bold")
    result.add_row("pixel accuracy", _percent(figures["pixel_accuracy"]))
    result.add_row("mean accuracy", _percent(figures["mean_accuracy"]))
    return result


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [e for e in values if e is not None]
    return math.fsum(known) / len(known) if known else None


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"
