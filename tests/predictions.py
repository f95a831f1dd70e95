"""What a prediction leaves in its run directory, as tests read it."""

import csv

import cv2
import numpy as np
from PIL import Image


def images(root):
    return sorted((root / "leftImg8bit/val").glob("*/*.png"))


def rgb(path):
    return np.array(Image.open(path).convert("RGB"))


def grey(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def rows(run):
    with (run.directory / "shares.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def results(run):
    """Each file of results, with the time of its last change."""
    found = [path for path in run.directory.glob("*/**/*") if path.is_file()]
    return {path.relative_to(run.directory).as_posix(): path.stat().st_mtime_ns for path in found}
