"""scripts/against_mmsegmentation.py with a stand-in for mmsegmentation's side: the rest of it is real."""

import json
import sys

import cv2
import numpy as np
import pytest

from scripts.against_mmsegmentation import labels_with_train_ids, main
from src.data.dataset import read_target
from src.data.layouts import find_pairs
from src.labels import CITYSCAPES

STAND_IN = f"""#!{sys.executable}
import json, sys
start = json.loads(sys.stdin.readline())
assert len(start["images"]) == len(start["labels"]) == 5
print(json.dumps({{"mmseg": "none"}}), flush=True)
for line in sys.stdin:
    assert len(json.loads(line)["indices"]) == 3
    print(json.dumps({{"seconds": 0.5}}), flush=True)
"""


def _run(monkeypatch, folder, root, stand_in, *more):
    python = folder / "python"
    python.write_text(stand_in)
    python.chmod(0o755)
    arguments = ["--root", root, "--python", python, "--frames", 5, "--samples", 3, "--rounds", 2, *more]
    monkeypatch.setattr("sys.argv", ["against_mmsegmentation", *map(str, arguments)])
    main()


def test_sides_take_turns_and_ratios_are_those_of_the_rates(monkeypatch, capsys, tmp_path, street_root):
    _run(monkeypatch, tmp_path, street_root, STAND_IN, "--out", tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    rates = found["samples_per_second"]
    assert rates.keys() == {"none", "mmsegmentation", "disk"}
    assert rates["mmsegmentation"]["median"] == pytest.approx(3 / 0.5)
    for name, ratio in found["times_mmsegmentation"].items():
        assert ratio == pytest.approx(rates[name]["median"] / 6)
        assert len(found["rounds"][name]) == 2
    assert "| mmsegmentation | 6.0 |" in capsys.readouterr().out


def test_an_environment_that_does_not_work_is_said(monkeypatch, tmp_path, street_root):
    with pytest.raises(SystemExit, match="mmsegmentation's side ended"):
        _run(monkeypatch, tmp_path, street_root, "#!/bin/sh\necho no module named mmseg >&2\nexit 1\n")


def test_train_ids_are_made_where_they_are_missing(tmp_path, street_root):
    pairs = find_pairs("cityscapes", street_root, "val")
    for pair, path in zip(pairs, labels_with_train_ids(pairs, CITYSCAPES, tmp_path), strict=True):
        assert path.parent == tmp_path
        made = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(made, read_target(pair, CITYSCAPES))
