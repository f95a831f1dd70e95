"""From a pair of files to a sample: `uint8` image and `uint8` train ids."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from src.data.augment import SeededTransform
from src.data.files import Source, read_image
from src.data.instance_ids import read_instances
from src.data.layouts import Pair
from src.data.masks.decoding import read_mask
from src.data.masks.mismatches import size_mismatch, unknown_ids
from src.labels import IGNORE, LabelTable


class SegmentationDataset(Dataset):
    """Samples {"image": uint8 (3, H, W) RGB, "target": uint8 (H, W) train ids, "name": str}.

    Indexed by (epoch, index): nothing else tells persistent workers that a new epoch has begun.
    A pair without label (test split) has a target of IGNORE everywhere.

    Args:
        read: function that returns the image and target of a pair; by default `read_pair`.
        instances: an instanceIds file for each pair; samples then have "instances", int32 (H, W), see
            `read_instances`. Cannot be combined with a transform.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        table: LabelTable,
        transform: SeededTransform | None = None,
        read: Callable[[Pair], tuple[np.ndarray, np.ndarray]] | None = None,
        instances: Sequence[Source] | None = None,
    ):
        self.pairs = pairs
        self.table = table
        self.transform = transform
        self.read = read or partial(read_pair, table=table)
        self.instances = instances

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def has_labels(self) -> bool:
        return all(pair.label is not None for pair in self.pairs)

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)  # int: trainer.overfit_batches
        pair = self.pairs[index]
        image, target = self.read(pair)
        if self.transform is not None:
            image, target = self.transform(image, target, epoch, index).values()
        sample = {**_to_tensors(image, target), "name": pair.name}
        if self.instances is not None:
            sample["instances"] = torch.from_numpy(read_instances(self.instances[index], target, self.table))
        return sample


def _to_tensors(image: np.ndarray, target: np.ndarray) -> dict[str, torch.Tensor]:
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, list(planes))  # takes a sixth of the time of numpy's transpose
    # `require` copies a target that is not contiguous or not writeable, such as that of a cached frame.
    return {
        "image": torch.from_numpy(planes),
        "target": torch.from_numpy(np.require(target, requirements=["C", "W"])),
    }


def read_pair(pair: Pair, table: LabelTable) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 RGB and target (H, W) uint8 train ids, decoded. Raises UserError."""
    image = read_image(pair.image)
    if pair.label is None:
        return image, np.full(image.shape[:2], IGNORE, np.uint8)
    target = read_target(pair, table)
    if target.shape != image.shape[:2]:
        raise size_mismatch(pair, image.shape[:2], target.shape, pair.table or table)
    return image, target


def read_target(pair: Pair, table: LabelTable) -> np.ndarray:
    """(H, W) uint8 train ids of a pair with a label. Raises UserError for ids outside the table."""
    assert pair.label is not None
    table = pair.table or table
    return to_target(read_mask(pair.label, table), pair, table)


def to_target(label: np.ndarray, pair: Pair, table: LabelTable) -> np.ndarray:
    """As `read_target`, for label ids that are already read."""
    # Look-up tables take 1.3 ms for a Cityscapes frame; counting and numpy's indexing take 6 ms.
    if not cv2.LUT(label, table.is_known.astype(np.uint8)).all():
        raise unknown_ids(pair, np.unique(label).tolist(), table)
    return cv2.LUT(label, table.to_train_id)
