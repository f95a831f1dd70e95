"""The time that the networks of a comparison take for an image, measured on this machine."""

from collections.abc import Sequence
from dataclasses import replace
from json import dumps
from typing import Any

import torch

from src.network.cost import latency
from src.network.segmenter import Segmenter
from src.results.result_tables import cost_of
from src.results.runs import RunResult
from src.runs.machine import machine


def with_latency(runs: Sequence[RunResult], passes: int) -> list[RunResult]:
    """The runs, with the milliseconds that their networks take for a class map of one image of the size of
    their crops, on the GPU if there is one.

    Each network is measured once, with weights of its own: trained ones take the same time. Evaluations that
    have measured it themselves, and networks whose code is not here, stay as they are.

    Args:
        passes: predictions of which the median is taken; three warm-up ones come before them.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    here = machine()
    measured: dict[str, dict[str, float]] = {}
    found = []
    for run in runs:
        cost: dict[str, Any] = dict(cost_of(run))
        model, size = run.config.get("model"), cost.get("image")
        if model and size and not cost.get("latency_ms"):
            key = dumps([model, size])
            if key not in measured:
                network = Segmenter.from_config(model).eval().to(device)
                with torch.inference_mode():
                    measured[key] = latency(network.class_map, size, device, passes)
            cost |= {"latency_ms": measured[key], "device": here["gpu"] or here["cpu"]}
            run = replace(run, metrics={**run.metrics, "cost": cost})
        found.append(run)
    return found
