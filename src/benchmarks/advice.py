"""Whether a training waits for its data or for its network, and what would change that."""

from collections.abc import Mapping
from math import ceil
from typing import Any


def advice(
    mode: str,
    workers: Mapping[str, int],
    rates: Mapping[str, float],
    step: float,
    cores: int,
    devices: int,
    on_cpu: bool,
) -> dict[str, Any]:
    """{"waits_for": "data" or "network", "loader_over_step": ratio, "sentence": both in words}.

    Args:
        mode: data.cache of the run.
        workers: of the DataLoader, by data.cache; 0 = the main process loads.
        rates: samples per second of the DataLoader, by data.cache.
        step: samples per second of one device.
        cores: number that the process may use, for all its devices together.
        devices: number of devices of this machine that the training uses.
    """
    loader, own = rates[mode], workers[mode]
    waits_for = "data" if loader < step else "network"
    how = f"{own} worker{'s' if own != 1 else ''}" if own else "the main process"
    sentence = (
        f"A run would wait for the {waits_for}: the loader gives {rounded(loader)} samples/s with {how} "
        f"and data.cache={mode}, and the step processes {rounded(step)} samples/s. The loader's throughput "
        f"is {rounded(loader / step)} times that of the step."
    )
    if waits_for == "data":
        per_worker = {name: rate / max(1, workers[name]) for name, rate in rates.items()}
        sentence += " " + _way_out(mode, step, per_worker, cores // devices)
    if on_cpu:
        sentence += (
            f" On a CPU the workers and the step share the {cores} cores: in a run, each is slower than in "
            f"this benchmark, which measured them separately."
        )
    elif devices > 1:
        sentence += f" Measured on one of {devices} devices, with its share of batch and workers."
    return {"waits_for": waits_for, "loader_over_step": loader / step, "sentence": sentence}


def _way_out(mode: str, step: float, per_worker: Mapping[str, float], cores: int) -> str:
    needed = {name: ceil(step / rate) for name, rate in per_worker.items()}
    by_mode = sorted(needed, key=lambda name: (name != mode, name))  # the run's own mode first
    ways = [f"data.cache={name} data.num_workers={needed[name]}" for name in by_mode]
    possible = [way for way, name in zip(ways, by_mode, strict=True) if needed[name] <= cores]
    if possible:
        return f"At the measured rate per worker, enough would be {', or '.join(possible)}."
    return f"More than the {cores} cores per device would be needed: {', or '.join(ways)}."


def rounded(number: float) -> str:
    """Three significant digits; from 100 on a whole number."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
