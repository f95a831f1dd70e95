"""How many pixels of each person and vehicle were recognised: the counts from which iIoU is computed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from src.labels import IGNORE, PER_LABEL, LabelTable
from src.metrics.cityscapes import Instance


class InstanceCounter:
    """Counts the pixels of every instance of the learned classes, exactly, on the tensors' device.

    Args:
        table: a label table that has labels with instances.
        predicted: entry i is the label id that value i of a prediction stands for; any one of its class.
    """

    def __init__(self, table: LabelTable, predicted: Sequence[int]):
        labels = {label.id: label for label in table.labels}
        counted = [label for label in table.labels if label.has_instances]
        self.first = min(label.id for label in counted)
        self.number = max(label.id for label in counted) + 1 - self.first
        self.columns = len(predicted)
        shape = (self.number, self.columns)
        # Whether a prediction is right for an instance of a label: its class, or its category.
        self.is_class, self.is_category = (
            torch.zeros(shape, dtype=torch.bool),
            torch.zeros(shape, dtype=torch.bool),
        )
        for label in counted:
            if label.train_id == IGNORE:
                continue
            for column, number in enumerate(predicted):
                row, other = label.id - self.first, labels[number]
                self.is_class[row, column] = other.train_id == label.train_id
                self.is_category[row, column] = other.category == label.category

    def __call__(self, prediction: Tensor, instances: Tensor, image: int) -> list[Instance]:
        """The instances of one image, sorted by instance id.

        Args:
            prediction: (H, W), any integer type, each value one of those of `predicted`.
            instances: int32 (H, W), ids as Cityscapes stores them.
            image: index in the split.
        """
        first, number = self.first * PER_LABEL, self.number * PER_LABEL
        # One row for all pixels outside instances is cheaper than selecting the pixels inside.
        rows = (instances - (first - 1)).clamp_(min=0)
        pairs = torch.add(prediction.int(), rows, alpha=self.columns)
        counts = torch.bincount(pairs.flatten(), minlength=(number + 1) * self.columns)
        counts = counts.view(number + 1, self.columns)[1:]
        present = counts.any(1).nonzero().flatten()
        counts, labels = counts[present], present // PER_LABEL
        columns = torch.stack(
            (
                present + first,
                counts.sum(1),
                (counts * self.is_class.to(counts.device)[labels]).sum(1),
                (counts * self.is_category.to(counts.device)[labels]).sum(1),
            ),
            dim=1,
        )
        return [Instance(image, *row) for row in columns.tolist()]
