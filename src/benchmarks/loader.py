"""Samples per second of the DataLoader that a training would have."""

import time
from itertools import chain, pairwise, repeat
from typing import Any

from src.benchmarks.spread import spread
from src.data.datamodule import SegmentationDataModule
from src.data.dataset import SegmentationDataset

_EPOCH = 50_000  # samples: with epochs of a few frames, the workers would mostly be starting epochs


def measure_loader(
    data: SegmentationDataModule, dataset: SegmentationDataset, seconds: float, rounds: int
) -> dict[str, Any]:
    """The rate at which batches arrive if nothing is done with them: its spread over parts of that time.

    Batches that the workers prefetched before the measurement do not count.
    """
    pairs = list(dataset.pairs) * (_EPOCH // len(dataset.pairs) + 1)
    data.train_set = SegmentationDataset(pairs, dataset.table, dataset.transform, dataset.read)
    loader = data.train_dataloader()
    ahead = loader.num_workers * (loader.prefetch_factor or 0)
    arrivals: list[float] = []
    sizes: list[int] = []
    for number, batch in enumerate(chain.from_iterable(repeat(loader))):
        if number < ahead:
            continue
        arrivals.append(time.perf_counter())
        sizes.append(len(batch["image"]))
        if arrivals[-1] - arrivals[0] > seconds and len(arrivals) > rounds:
            break
    cuts = [round(i * (len(arrivals) - 1) / rounds) for i in range(rounds + 1)]
    rates = [sum(sizes[a + 1 : b + 1]) / (arrivals[b] - arrivals[a]) for a, b in pairwise(cuts)]
    return {
        "samples_per_second": spread(rates),
        "workers": loader.num_workers,
        "batch": loader.batch_size,
        "batches": len(arrivals) - 1,
    }
