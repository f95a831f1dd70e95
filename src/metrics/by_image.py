"""Pixel counts of each image of a validation: what mIoU is made of, image by image, in by_image.csv.

With them two networks are compared on the same images: where they differ most, and whether their difference
is larger than the choice of the images explains.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.runs.atomic_files import write_text

BY_IMAGE = "by_image.csv"  # in the run directory
Counts = Mapping[str, np.ndarray]
"""name of an image -> int64 (3, C): pixels that are right, of the ground truth, of the prediction"""

_PARTS = ("right", "true", "predicted")


def image_counts(prediction: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """int64 (B, 3, C): of each image and class, the pixels that are right, of the ground truth, and of the
    prediction. Pixels whose ground truth is no class are not counted.

    Args:
        prediction, target: uint8 (B, H, W) on the same device; target 255 is not counted.
    """
    batch, classes = len(target), num_classes + 1  # one more row and column, for values that are no class
    rows = target.int().clamp_(max=num_classes)
    cells = rows.mul_(classes).add_(prediction.clamp(max=num_classes))
    cells += (torch.arange(batch, device=target.device, dtype=torch.int32) * classes**2).view(-1, 1, 1)
    counts = torch.bincount(cells.flatten(), minlength=batch * classes**2).view(batch, classes, classes)
    counts = counts[:, :num_classes]
    return torch.stack(
        [counts.diagonal(dim1=1, dim2=2), counts.sum(2), counts.sum(1)[:, :num_classes]], dim=1
    )


def image_mious(counts: np.ndarray) -> np.ndarray:
    """float64 (B,): the mean IoU of each image over the classes in its ground truth; NaN where it has none.

    A class that is only predicted has no IoU in the mean; its pixels count as mistakes for the true classes.
    Otherwise a single stray pixel would add an IoU of 0 to an image's mean.

    Args:
        counts: int64 (B, 3, C) of `image_counts`.
    """
    right, true, predicted = np.moveaxis(np.asarray(counts, np.float64), 1, 0)
    there = true > 0
    iou = np.divide(right, true + predicted - right, out=np.zeros_like(right), where=there)
    number = there.sum(1)
    return np.divide(iou.sum(1), number, out=np.full(len(iou), np.nan), where=number > 0)


def miou(counts: np.ndarray) -> np.ndarray:
    """float64 (...): the mIoU over all images of a sum of their counts, int64 (..., 3, C), by the rule of
    `src.metrics.confusion`: a class that is neither in ground truth nor in prediction is left out."""
    right, true, predicted = np.moveaxis(np.asarray(counts, np.float64), -2, 0)
    union = true + predicted - right
    iou = np.divide(right, union, out=np.zeros_like(right), where=union > 0)
    return iou.sum(-1) / np.maximum((union > 0).sum(-1), 1)


def write_by_image(path: Path, counts: Iterable[tuple[str, np.ndarray]], classes: Sequence[str]) -> None:
    """A row for each image, sorted by name: its mIoU, and three numbers of pixels for each class."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "mIoU", *(f"{name} {part}" for name in classes for part in _PARTS)])
    for name, of_image in sorted(counts, key=lambda entry: entry[0]):
        value = image_mious(of_image[None])[0]
        writer.writerow([name, "" if np.isnan(value) else f"{value:.6f}", *of_image.T.flatten().tolist()])
    write_text(path, text.getvalue())


def read_by_image(path: Path) -> Counts | None:
    """The counts of each image; None if there is no such file, or if it is damaged."""
    try:
        with path.open(newline="") as file:
            _, *rows = csv.reader(file)
        return {name: np.array(values, np.int64).reshape(-1, 3).T for name, _, *values in rows}
    except (OSError, ValueError, csv.Error):
        return None
