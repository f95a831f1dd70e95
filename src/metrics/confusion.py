"""Confusion matrix over a whole set, and the metrics that follow from it by Cityscapes' own rule."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
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

        A value that is no class makes `compute` raise an error. `update` does not raise one, because it would
        have to read the counts back from the device after each batch.
        """
        self.counts += count_pairs(prediction, target, self.num_classes)

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


def count_pairs(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """The counts that `ConfusionMatrix.update` adds, int64 (classes + 1, classes + 1): the last row and the
    last column count values that are no class."""
    columns = prediction.int().clamp(max=classes)
    # A row for each of the 256 byte values is cheaper than selecting the pixels whose value is a class.
    bins = 256 * (classes + 1)
    pairs = torch.add(columns, target.int(), alpha=classes + 1)
    counts = torch.bincount(pairs.flatten(), minlength=bins).view(256, classes + 1)
    return torch.cat((counts[:classes], counts[classes:IGNORE].sum(0, keepdim=True)))


def scores(matrix: Tensor, class_names: Sequence[str]) -> dict[str, Any]:
    """Metrics of a (C, K) matrix as plain Python values, ready for JSON: fractions in [0, 1], counts as int.

    Columns from C on are predictions that are no class. They count as misses of the true class, but as a
    false positive of no class. `confusion_matrix` leaves them out.

    IoU = TP / (TP + FP + FN) over the whole set, None for a class with an empty union; mIoU is the mean over
    the other classes (cityscapesScripts, evalPixelLevelSemanticLabeling.py). mean_accuracy is the mean of
    TP / (TP + FN) over the classes that occur in the ground truth. Without any pixel all of them are None.
    """
    number = len(class_names)
    if len(matrix) != number or matrix.shape[1] < number:
        raise ValueError(f"matrix of shape {tuple(matrix.shape)} for {number} class names")
    # Python's integers: sums are exact, and their quotient is the float64 nearest to the true one.
    counts: list[list[int]] = matrix.tolist()
    hits = [counts[i][i] for i in range(number)]
    in_target = [sum(row) for row in counts]
    in_prediction = [sum(column) for column in zip(*counts, strict=True)]
    iou = [ratio(hits[i], in_target[i] + in_prediction[i] - hits[i]) for i in range(number)]
    accuracy = [ratio(hits[i], in_target[i]) for i in range(number)]
    return {
        "mIoU": mean(iou),
        "pixel_accuracy": ratio(sum(hits), sum(in_target)),
        "mean_accuracy": mean(accuracy),
        "IoU": dict(zip(class_names, iou, strict=True)),
        "classes": list(class_names),
        "confusion_matrix": [row[:number] for row in counts],
    }


def ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None. They are added one by one as in cityscapesScripts, because
    the last bit of the result depends on the order."""
    total, number = 0.0, 0
    for value in values:
        if value is not None:
            total, number = total + value, number + 1
    return total / number if number else None
