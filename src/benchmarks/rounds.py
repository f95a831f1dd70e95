"""Samples per second on one core: every variant once a round, so that the machine's noise hits all alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import default_collate

from src.benchmarks.one_core import one_core
from src.benchmarks.stopwatch import Stopwatch, spread
from src.benchmarks.variants import Key, Variant
from src.data.parallel import progress


def measure_variants(
    variants: Mapping[str, Variant], frames: int, samples: int, batch: int, rounds: int, warmup: int
) -> dict[str, Any]:
    """Per variant: samples per second, and milliseconds per sample of each part, spread over the rounds.

    Args:
        frames: how many there are; a round takes the next ones, as an epoch of its own.
        samples: of each variant in a round.
        batch: samples that are collated together.
        rounds, warmup: the latter come first and do not count.
    """
    watch = Stopwatch()
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    with one_core() as core:
        collate = watch.timed("collate", default_collate)
        for number in progress(range(-warmup, rounds), rounds + warmup, "Measuring on one core"):
            keys = keys_of_round(number + warmup, samples, frames)
            for name, variant in variants.items():
                with variant.timed(watch), watch.running():
                    for start in range(0, samples, batch):
                        collate([variant.sample(key) for key in keys[start : start + batch]])
                seconds = watch.take()
                if number >= 0:
                    taken[name].append(seconds)
    return {
        "core": core,
        "variants": {name: _figures(measured, samples) for name, measured in taken.items()},
    }


def keys_of_round(number: int, samples: int, frames: int) -> list[Key]:
    return [(number, (number * samples + i) % frames) for i in range(samples)]


def _figures(rounds: Sequence[Mapping[str, float]], samples: int) -> dict[str, Any]:
    parts = sorted({part for seconds in rounds for part in seconds})
    return {
        "samples_per_second": spread([samples / sum(seconds.values()) for seconds in rounds]),
        "milliseconds": spread([1e3 * sum(seconds.values()) / samples for seconds in rounds]),
        "parts": {
            part: spread([1e3 * seconds.get(part, 0.0) / samples for seconds in rounds]) for part in parts
        },
    }
