"""mmsegmentation's own network gives the same logits. It needs an environment of its own."""

import os
import sys

import pytest
import torch

from scripts.logits_against_mmsegmentation import compare, main
from src.weights.trained_network import restore

CASES = [
    {"classes": 19, "num_blocks": [3, 21], "sizes": [[45, 67]], "seed": 5},
    {"classes": 11, "num_blocks": [2, 4], "sizes": [[64, 96], [33, 40]], "seed": 6},
]


@pytest.fixture
def python():
    given = os.environ.get("MMSEG_PYTHON")
    if not given:
        pytest.skip("no mmsegmentation: set the environment variable MMSEG_PYTHON to its interpreter")
    return given


def test_logits_of_random_weights_are_equal(python, tmp_path):
    differences, versions = compare(python, CASES, tmp_path)
    assert len(differences) == 3
    assert max(differences) < 1e-4
    assert versions["mmseg"] == "1.2.2"
    image, expected = torch.load(tmp_path / "0.logits", weights_only=True)[0]
    segmenter = restore(str(tmp_path / "0.pth")).segmenter()
    for module in segmenter.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5
    with torch.no_grad():
        assert (segmenter(image) - expected).abs().max() > 1e-3, "another eps would be seen"


def test_an_environment_that_does_not_work_is_said(monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\nraise SystemExit('no module named mmseg')\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.argv", ["logits_against_mmsegmentation", "--python", str(python)])
    with pytest.raises(SystemExit, match="mmsegmentation's side ended"):
        main()
