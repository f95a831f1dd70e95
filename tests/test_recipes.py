"""No recipe changes silently: the first steps of each network with each experiment are as they were kept."""

import json

import pytest
from recipes import EXPERIMENTS, KEPT, NETWORKS, first_steps

CASES = [(network, experiment) for network in NETWORKS for experiment in EXPERIMENTS]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("network", "experiment"), CASES)
def test_first_steps(network, experiment, cache_dir):
    kept = json.loads(KEPT.read_text())[f"{network}, {experiment}"]
    found = first_steps(network, experiment, cache_dir)
    assert len(found) == len(kept) == 2
    for step, (one, other) in enumerate(zip(found, kept, strict=True)):
        # Other machines and versions of PyTorch round otherwise; Adam's first step makes more of it.
        assert one == pytest.approx(other, rel=(1e-3, 2e-2)[step]), (
            f"loss and gradient norm of step {step + 1}"
        )


def test_nothing_is_kept_of_what_is_gone():
    assert list(json.loads(KEPT.read_text())) == [f"{network}, {experiment}" for network, experiment in CASES]
