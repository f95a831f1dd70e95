import itertools

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from src.data.samplers import EvalBatchSampler, TrainSampler

SHARES = [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (4, 2)]  # devices, accumulated batches


class Keys(Dataset):
    """Its samples are the keys that it is asked for."""

    def __getitem__(self, key):
        return torch.tensor(key)


def loader_of(sampler):
    return DataLoader(Keys(), batch_size=sampler.per_device, sampler=sampler, drop_last=True)


def steps_of(epoch, devices, accumulate, num_samples=103, batch_size=16, seed=5):
    """For each optimizer step, what all devices take in it: lists of (epoch, index)."""
    taken = []
    for rank in range(devices):
        sampler = TrainSampler(num_samples, batch_size, seed, rank, devices, accumulate)
        sampler.set_epoch(epoch)
        batches = list(loader_of(sampler))
        assert len(batches) % accumulate == 0
        groups = [batches[start : start + accumulate] for start in range(0, len(batches), accumulate)]
        taken.append([torch.cat(group).tolist() for group in groups])
    return [[tuple(key) for part in step for key in part] for step in zip(*taken, strict=True)]


def order(epoch, seed=5):
    return [index for _, index in itertools.chain(*steps_of(epoch, 1, 1, seed=seed))]


@pytest.mark.parametrize(("devices", "accumulate"), SHARES)
def test_a_step_is_the_same_however_it_is_shared(devices, accumulate):
    for epoch in (0, 3):
        alone, shared = steps_of(epoch, 1, 1), steps_of(epoch, devices, accumulate)
        assert [sorted(step) for step in shared] == [sorted(step) for step in alone]


@pytest.mark.parametrize(("devices", "accumulate"), SHARES)
def test_whole_steps_without_repetition(devices, accumulate):
    steps = steps_of(2, devices, accumulate)
    assert [len(step) for step in steps] == [16] * 6  # of 103 samples the last 7 are left out
    keys = list(itertools.chain(*steps))
    assert {epoch for epoch, _ in keys} == {2}
    indices = [index for _, index in keys]
    assert len(set(indices)) == 96
    assert set(indices) <= set(range(103))


@pytest.mark.parametrize(("devices", "accumulate"), SHARES)
def test_lengths(devices, accumulate):
    sampler = TrainSampler(103, 16, 0, devices - 1, devices, accumulate)
    assert len(sampler) == len(list(sampler)) == 96 // devices
    loader = loader_of(sampler)
    assert len(loader) == len(list(loader)) == 6 * accumulate


def test_each_epoch_and_seed_has_its_own_order():
    orders = [order(epoch, seed) for seed in (5, 6) for epoch in range(10)]
    assert len({tuple(one) for one in orders}) == 20
    assert order(4) == order(4)
    # Every sample has its turn: what an epoch leaves out is not always the same.
    assert set(itertools.chain(*orders[:10])) == set(range(103))


def test_orders_are_shuffled():
    first = [order(epoch)[0] for epoch in range(30)]
    assert len(set(first)) > 15
    follows = sum(b == a + 1 for a, b in itertools.pairwise(order(0)))
    assert follows < 8


def test_an_exact_multiple_is_used_to_the_last_sample():
    sampler = TrainSampler(32, 16, 0)
    assert sorted(index for _, index in sampler) == list(range(32))


def eval_batches(sizes, batch_size, devices):
    return [list(EvalBatchSampler(sizes, batch_size, rank, devices)) for rank in range(devices)]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 101])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("devices", [1, 2, 3, 8])
def test_every_image_is_validated_exactly_once(count, batch_size, devices):
    ranks = eval_batches([(64, 128)] * count, batch_size, devices)
    indices = [index for batches in ranks for batch in batches for _, index in batch]
    assert sorted(indices) == list(range(count))
    assert max(map(len, ranks)) - min(map(len, ranks)) <= 1


@pytest.mark.parametrize("devices", [2, 3, 8])
@pytest.mark.parametrize(
    "sizes", [[(64, 128)] * 31, [(64, 128), (64, 130), (64, 128)] * 11], ids=["equal", "mixed"]
)
def test_validation_batches_are_composed_alike_on_any_number_of_devices(sizes, devices):
    alone, together = eval_batches(sizes, 3, 1)[0], eval_batches(sizes, 3, devices)
    assert sorted(itertools.chain(*together)) == sorted(alone)
    assert len(alone) == sum(-(-sizes.count(size) // 3) for size in set(sizes))  # no more than needed


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_only_equal_sizes_share_a_batch(devices):
    sizes = [((64, 128), (64, 130), (62, 128))[number * number % 3] for number in range(50)] + [(10, 10)]
    ranks = eval_batches(sizes, 4, devices)
    batches = list(itertools.chain(*ranks))
    assert all(len({sizes[index] for _, index in batch}) == 1 for batch in batches)
    assert sorted(index for batch in batches for _, index in batch) == list(range(51))
    assert max(map(len, batches)) == 4


def test_validation_is_the_same_each_time():
    sampler = EvalBatchSampler([(1, 1), (2, 2)] * 5, 2)
    assert list(sampler) == list(sampler)
    assert len(sampler) == len(list(DataLoader(Keys(), batch_sampler=sampler)))
