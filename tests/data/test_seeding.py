"""An augmented sample is a function of (seed, epoch, index) alone."""

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from src.data.augment import PhotometricDistortion, RandomScaledCrop, SeededTransform
from src.data.dataset import SegmentationDataset
from src.data.layouts import find_pairs
from src.data.samplers import TrainSampler
from src.labels import CITYSCAPES


def transform(seed=0):
    pad = A.PadIfNeeded(48, 64, position="top_left")
    steps = [RandomScaledCrop((48, 64)), A.HorizontalFlip(p=0.5), PhotometricDistortion(), pad]
    return SeededTransform(steps, seed)


def batches_by_epoch(root, epochs, workers, seed=0):
    """{epoch: images, targets and names in their order}, from one DataLoader."""
    dataset = SegmentationDataset(find_pairs("cityscapes", root, "train"), CITYSCAPES, transform(seed))
    sampler = TrainSampler(len(dataset), batch_size=4, seed=seed)
    loader = DataLoader(
        dataset,
        batch_size=4,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )
    found = {}
    for epoch in epochs:
        sampler.set_epoch(epoch)
        batches = list(loader)
        found[epoch] = (
            torch.cat([batch["image"] for batch in batches]),
            torch.cat([batch["target"] for batch in batches]),
            [name for batch in batches for name in batch["name"]],
        )
    return found


def assert_same(one, other):
    assert one[2] == other[2]
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_number_of_workers_changes_nothing(street_root, workers):
    here, there = (batches_by_epoch(street_root, (0, 1, 2), n) for n in (0, workers))
    for epoch in here:
        assert_same(here[epoch], there[epoch])


def test_a_restart_at_a_later_epoch_changes_nothing(street_root):
    whole = batches_by_epoch(street_root, (0, 1, 2), workers=0)
    rest = batches_by_epoch(street_root, (2,), workers=2)
    assert_same(whole[2], rest[2])


def outcomes(keys, seed=0):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (100, 200, 3), dtype=np.uint8)
    mask = rng.integers(0, 19, (100, 200), dtype=np.uint8)
    chain = transform(seed)
    return [chain(image, mask, epoch, index)["image"].tobytes() for epoch, index in keys]


def test_seed_epoch_and_index_each_matter():
    keys = [(epoch, index) for epoch in range(5) for index in range(5)]
    found = outcomes(keys) + outcomes(keys, seed=1)
    assert len(set(found)) == 50


def test_samples_do_not_depend_on_those_before():
    keys = [(epoch, index) for epoch in range(3) for index in range(3)]
    assert outcomes(keys) == outcomes(keys[::-1])[::-1]
