"""Made-up run directories."""

import json

import numpy as np
import pytest

from src.metrics.by_image import miou, write_by_image
from src.runs.jobs import Job

CLASSES = ["a", "b", "c"]
NAMES = [f"image{i:02d}" for i in range(40)]


def counts(quality, seed):
    """Pixel counts of 40 images; a class is right on about `quality` of its pixels."""
    rng = np.random.default_rng(seed)
    true = np.random.default_rng(5).integers(200, 1000, (40, 3))  # the same images for all
    right = rng.binomial(true, quality)
    return np.stack([right, true, true + rng.integers(0, 50, true.shape)], axis=1)


@pytest.fixture
def sweep(tmp_path):
    """Writes a run of a sweep; its mIoU is that of its pixel counts."""
    folder = tmp_path / "sweep"

    def write(number, overrides, seed, quality, last=None, *, config="", varied=(), repeats=None):
        directory = folder / str(number)
        directory.mkdir(parents=True)
        of_images = counts(quality, seed)
        value = float(miou(of_images.sum(0))) if last is None else last
        scores = {"mIoU": value, "IoU": dict.fromkeys(CLASSES, value), "epoch": 3}
        metrics = scores | {"classes": CLASSES, "data": "x", "split": "val", "num_images": 40, "last": scores}
        (directory / "metrics.json").write_text(json.dumps(metrics | {"mIoU": value + 0.01}))
        command = f"# python -m src.train experiment=debug {overrides} seed={seed} name=sweep/{number}\n"
        text = f"task: train\nseed: {seed}\ntrainer: {{max_epochs: 3}}\n{config}"
        (directory / "config.yaml").write_text(command + text)
        if varied:
            Job(directory, overrides.split(), "finished", varied=list(varied)).write()
        if repeats:
            (directory / "record.json").write_text(json.dumps({"starts": [{"repeats": repeats}]}))
        write_by_image(directory / "by_image.csv", zip(NAMES, of_images, strict=True), CLASSES)
        (directory / "train.log").write_text(
            "2026-01-01 10:00:00,000 INFO Run directory: x\n2026-01-01 10:30:00,000 INFO stopped\n"
            "2026-01-02 10:00:00,000 INFO Run directory: x\n2026-01-02 11:00:00,000 INFO done\n"
        )
        return directory

    write.folder = folder
    return write


@pytest.fixture
def four(sweep):
    for number, (residual, seed, quality) in enumerate(
        [("global", 1, 0.9), ("global", 2, 0.91), ("local", 1, 0.8), ("local", 2, 0.82)]
    ):
        sweep(number, f"model.residual={residual}", seed, quality)
    return sweep.folder
