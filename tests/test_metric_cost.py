"""`python -m scripts.metric_cost` measures what it says."""

import json

import numpy as np
import pytest

from scripts.metric_cost import main


@pytest.mark.slow
def test_a_small_measurement(tmp_path, monkeypatch, capsys):
    pytest.importorskip("cityscapesscripts")
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # the script's own patch would stay
    out = tmp_path / "cost.json"
    small = ["--width", "128", "--height", "64", "--frames", "2", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", ["metric_cost", *small, "--out", str(out)])
    main()
    found = json.loads(out.read_text())
    cost = found["evaluation"]
    assert 0 < cost["share without instances"] < cost["share"] < 1
    assert cost["milliseconds"]["network and argmax"] > 0
    assert found["from files"]["cityscapesScripts"]["times"] == 1
    assert found["machine"]
    assert found["versions"]
    assert "| all counts |" in capsys.readouterr().out
