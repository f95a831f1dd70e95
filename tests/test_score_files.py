"""`python -m scripts.score_files` says what is wrong with predictions."""

import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from front_doors import REPOSITORY

from scripts.score_files import main


@pytest.fixture
def predictions(street_root, tmp_path):
    """The truth, two files deep, under the server's names."""
    folder = tmp_path / "predictions" / "valstadt"
    folder.mkdir(parents=True)
    for path in street_root.glob("gtFine/val/*/*_labelIds.png"):
        shutil.copyfile(path, folder / path.name.replace("_gtFine_labelIds", ""))
    return folder


@pytest.fixture
def run(street_root, predictions, monkeypatch, capsys):
    def command(*arguments):
        defaults = ["--predictions", str(predictions.parent), "--root", str(street_root)]
        monkeypatch.setattr("sys.argv", ["score_files", *defaults, *arguments])
        code = main()
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return command


def rewrite(path, change):
    cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


FRAME = "valstadt_000003_000000"
DAMAGES = {
    "missing": (lambda path: path.unlink(), (f"{FRAME}*.png", "1 prediction missing, of 7 frames")),
    "extra": (
        lambda path: shutil.copyfile(path, path.with_name("trainstadt_000000_000000.png")),
        ("trainstadt_000000_000000.png", "1 file for no frame", "right split"),
    ),
    "strange name": (lambda path: shutil.copyfile(path, path.with_name("a.png")), ("a.png", "no frame")),
    "two": (
        lambda path: shutil.copyfile(path, path.parent.parent / f"{FRAME}_b.png"),
        (f"{FRAME}_b.png", f"{FRAME}.png", "more than one"),
    ),
    "size": (lambda path: rewrite(path, lambda ids: ids[::2, ::2]), (FRAME, "64x32", "128x64", "full size")),
    "colours": (lambda path: rewrite(path, lambda ids: np.dstack([ids] * 3)), (FRAME, "8-bit RGB")),
    "16 bits": (lambda path: rewrite(path, lambda ids: ids.astype(np.uint16)), (FRAME, "16-bit grey")),
    "train ids": (
        lambda path: rewrite(path, lambda ids: np.where(ids == 7, 255, ids).astype(np.uint8)),
        (FRAME, "[255]", "not train ids"),
    ),
    "empty": (lambda path: path.write_bytes(b""), (FRAME, "not a PNG file (empty)")),
    "half": (lambda path: path.write_bytes(path.read_bytes()[:-40]), (FRAME, "truncated")),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_what_is_wrong_is_said(run, predictions, kind):
    damage, says = DAMAGES[kind]
    damage(predictions / f"{FRAME}.png")
    code, text = run()
    assert code == 2
    for part in says:
        assert part in text, text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--root", "nowhere"), "nowhere"),
        (("--predictions", "nowhere"), "no such folder"),
    ],
)
def test_wrong_folders(run, arguments, says):
    code, text = run(*arguments)
    assert code == 2
    assert says in text


def test_labels_alone_will_do(street_root, predictions, run, tmp_path):
    shutil.copytree(
        street_root / "gtFine" / "val",
        tmp_path / "alone/gtFine/val",
        ignore=shutil.ignore_patterns("*instance*"),
    )
    code, text = run("--root", str(tmp_path / "alone"))
    assert code == 0, text
    assert "iIoU" not in text
    assert "category mIoU" in text


@pytest.mark.parametrize("threads", ["1", "3"])
def test_any_number_of_threads(run, tmp_path, threads):
    code, text = run("--threads", threads)
    assert code == 0, text
    rows = [line for line in text.splitlines() if "mIoU" in line]
    assert all(row.count("100.00") == 2 for row in rows)
    assert len(rows) == 2


@pytest.mark.slow
def test_help_says_what_it_does():
    command = [sys.executable, "-m", "scripts.score_files", "--help"]
    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert "--predictions" in shown
    assert "cityscapesScripts" in shown
