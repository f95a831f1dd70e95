"""The official tools accept the synthetic dozen."""

import importlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.labels import CITYSCAPES


@pytest.fixture
def official(dozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Imports one of cityscapesscripts' evaluations, set to `street`; they read the environment on import."""
    pytest.importorskip("cityscapesscripts")
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    monkeypatch.setenv("CITYSCAPES_DATASET", str(dozen))
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(predictions))
    monkeypatch.setenv("CITYSCAPES_EXPORT_DIR", str(tmp_path))
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)

    def load(name: str):
        module = importlib.reload(importlib.import_module(f"cityscapesscripts.evaluation.{name}"))
        module.args.quiet = True
        module.args.JSONOutput = False
        return module

    return dozen, predictions, load


def test_official_pixel_evaluation(official) -> None:
    dozen, predictions, load = official
    tool = load("evalPixelLevelSemanticLabeling")
    truth = sorted(dozen.glob("gtFine/val/*/*_gtFine_labelIds.png"))
    for file in truth:
        ids = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(predictions / file.name.replace("_gtFine_labelIds", "_pred")), ids)
    names = [str(file) for file in truth]
    result = tool.evaluateImgLists([tool.getPrediction(tool.args, name) for name in names], names, tool.args)
    assert result["averageScoreClasses"] == 1.0
    assert result["averageScoreInstClasses"] == 1.0
    assert not np.isnan([result["classScores"][name] for name in CITYSCAPES.class_names]).any()


def test_official_evaluation_notices_errors(official) -> None:
    dozen, predictions, load = official
    tool = load("evalPixelLevelSemanticLabeling")
    truth = sorted(dozen.glob("gtFine/val/*/*_gtFine_labelIds.png"))
    for file in truth:
        ids = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        ids[ids == 28] = 27  # every bus a truck
        cv2.imwrite(str(predictions / file.name.replace("_gtFine_labelIds", "_pred")), ids)
    names = [str(file) for file in truth]
    result = tool.evaluateImgLists([tool.getPrediction(tool.args, name) for name in names], names, tool.args)
    assert result["classScores"]["bus"] == 0.0
    assert result["classScores"]["truck"] < 1.0
    assert result["classScores"]["car"] == 1.0


def test_official_instance_evaluation(official, monkeypatch: pytest.MonkeyPatch) -> None:
    dozen, predictions, load = official
    tool = load("evalInstanceLevelSemanticLabeling")
    tool.args.predictionPath = str(predictions)
    monkeypatch.setattr(tool, "writeDict2JSON", lambda *_: None)  # its cache; fails on numpy 2's integers
    tool.args.gtInstancesFile = str(predictions / "instances.json")
    truth = sorted(dozen.glob("gtFine/val/*/*_gtFine_instanceIds.png"))[:4]
    for file in truth:
        ids = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        stem = file.name.replace("_gtFine_instanceIds.png", "")
        lines = []
        for value in np.unique(ids[ids >= 1000]).tolist():
            mask = f"{stem}_mask_{value}.png"
            cv2.imwrite(str(predictions / mask), np.where(ids == value, 255, 0).astype(np.uint8))
            lines.append(f"{mask} {value // 1000} 1.0")
        (predictions / f"{stem}_pred.txt").write_text("\n".join(lines))
    names = [str(file) for file in truth]
    found = [str(predictions / file.name.replace("_gtFine_instanceIds.png", "_pred.txt")) for file in truth]
    result = tool.evaluateImgLists(found, names, tool.args)
    assert result["averages"]["allAp50%"] == pytest.approx(1.0)
