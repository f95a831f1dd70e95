"""Which sample goes to which device, and when. Both samplers yield (epoch, index)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class TrainSampler(Sampler[tuple[int, int]]):
    """A device's share of each optimizer step, so that the recipe is the same for any number of devices.

    Step s of an epoch consists of the entries [s * batch_size, (s + 1) * batch_size) of the epoch's
    permutation, whatever the number of devices and accumulated batches: each device's accumulated batches are
    consecutive parts of these entries.
    The incomplete last step is dropped.

    Args:
        num_samples: size of the training set.
        batch_size: samples of one optimizer step over all devices.
        seed: of the permutations; each epoch has a permutation of its own.
        rank, world_size, accumulate: must divide batch_size (checked by the datamodule).
        epoch: the first epoch.
        batch: the first batch of that epoch; a run that resumes within an epoch skips those before.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        epoch: int = 0,
        batch: int = 0,
    ):
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.per_device = batch_size // (world_size * accumulate)
        self.epoch = epoch
        self.begin = (epoch, batch)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, except for the first one after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples // self.batch_size * (self.batch_size // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_samples)
        used = order[: self.num_samples // self.batch_size * self.batch_size]
        parts = used.reshape(-1, self.world_size, self.per_device)
        epoch, batch = self.begin
        skipped = batch * self.per_device if self.epoch == epoch else 0
        for index in parts[:, self.rank].ravel()[skipped:]:
            yield self.epoch, int(index)


class EvalBatchSampler(Sampler[list[tuple[int, int]]]):
    """Every image exactly once over all devices: nothing is repeated or padded to make shares equal.

    Each device gets whole batches, so that a batch has the same images on any number of devices: an image in
    a different batch is rounded differently, which can flip a pixel's class. Only images of equal size share
    a batch, because padding would change the averages in f_glo.

    Args:
        sizes: (height, width) of each image.
        batch_size: images of a batch.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], batch_size: int, rank: int = 0, world_size: int = 1):
        by_size = defaultdict(list)
        for index, size in enumerate(sizes):
            by_size[size].append((0, index))
        batches = [
            group[start : start + batch_size]
            for group in by_size.values()
            for start in range(0, len(group), batch_size)
        ]
        self.batches = batches[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        yield from self.batches
