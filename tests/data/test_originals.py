"""Images and labels that are replaced while a training reads them, or between two starts of it."""

import os
import shutil

import cv2
import numpy as np
import pytest

from src.data.dataset import read_pair
from src.data.layouts import find_pairs
from src.data.originals import Originals
from src.labels import CITYSCAPES

QUIET = ("callbacks.summary=null", "callbacks.pictures=null", "data=cityscapes", "data.num_workers=0")
SMALL = ("data.crop_size=[32,64]", "data.batch_size=4", "data.class_weights=labels", "model.num_blocks=[1,1]")


def _touch(path):
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def test_files_that_stay_are_read_as_they_are(street):
    pairs = find_pairs("cityscapes", street, "train")
    originals = Originals(pairs, CITYSCAPES)
    for pair in pairs:
        found, expected = originals.read_pair(pair), read_pair(pair, CITYSCAPES)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", ["image", "label"])
@pytest.mark.parametrize("change", ["time", "content"])
def test_a_file_that_was_replaced(street, refused, kind, change):
    pairs = find_pairs("cityscapes", street, "train")
    originals = Originals(pairs, CITYSCAPES)
    path = getattr(pairs[3], kind)
    _touch(path) if change == "time" else shutil.copyfile(getattr(pairs[4], kind), path)
    originals.read_pair(pairs[2])
    with refused(pairs[3].image, "has been replaced since this run began"):
        originals.read_pair(pairs[3])


def test_with_the_loader_s_workers(ready, street, module_for, refused):
    module = ready(module_for("street", street, num_workers=2, cache="none"))
    module.cache_frames()
    path = module.train_set.pairs[5].label
    cv2.imwrite(str(path), np.full((64, 128), 7, np.uint8))
    with refused("has been replaced since this run began"):
        list(module.train_dataloader())


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["none", "disk"])
def test_a_run_that_resumes_says_that_the_dataset_has_changed(doors, street, cache):
    keys = (*QUIET, *SMALL, f"data.root={street}", f"data.cache={cache}", "trainer.accelerator=cpu")
    first = doors("train", *keys, "trainer.max_epochs=2", "trainer.limit_train_batches=2")
    assert first.code == 0, first.err
    metrics = first.directory / "metrics.json"

    def again():
        metrics.unlink()
        outcome = doors("train", *keys, "trainer.max_epochs=2", "trainer.limit_train_batches=2")
        assert outcome.code == 0, outcome.err
        return outcome.out + outcome.err

    assert "the dataset has changed" not in again()
    pairs = find_pairs("cityscapes", street, "train")
    _touch(pairs[0].label)
    shutil.copyfile(pairs[2].image, pairs[1].image)
    assert "2 of 19 pairs of image and label have another size or modification time" in again()
    pairs[0].image.unlink()
    pairs[0].label.unlink()
    assert "it has 18 pairs of image and label, and had 19" in again()
