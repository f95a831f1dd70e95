"""An image of training samples as the network will see them, made with the transform of the training."""

from pathlib import Path

import numpy as np

from src.data.dataset import SegmentationDataset
from src.report.pictures import Sample, samples_panel, write_image

_CROPS = 3  # of each frame, one for each of the first epochs


def write_samples(dataset: SegmentationDataset, count: int, path: Path) -> None:
    """`count` frames, spread evenly over the training set, each with the crops of its first epochs."""
    frames = SegmentationDataset(dataset.pairs, dataset.table)
    indices = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int).tolist()
    rows = [
        (
            dataset.pairs[index].name,
            _sample(frames, 0, index),
            [_sample(dataset, epoch, index) for epoch in range(_CROPS)],
        )
        for index in indices
    ]
    write_image(path, samples_panel(rows, dataset.table))


def _sample(dataset: SegmentationDataset, epoch: int, index: int) -> Sample:
    sample = dataset[epoch, index]
    return sample["image"].permute(1, 2, 0).numpy(), sample["target"].numpy()
