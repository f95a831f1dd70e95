import shutil

import numpy as np
import pytest
import torch
from front_doors import TINY, FrontDoors
from predictions import images

from src.weights.trained_network import restore


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, cache_dir):
    """Of a short training on the street."""
    doors = FrontDoors(tmp_path_factory.mktemp("trained"), cache_dir)
    run = doors("train", *TINY, "callbacks.pictures=null", "optimizer.lr=3e-3", "report.images=0")
    assert run.code == 0, run.err
    return str(run.directory / "checkpoints/best.ckpt")


@pytest.fixture(scope="session")
def expected(checkpoint):
    """The train ids that plain PyTorch gives for an RGB image."""
    segmenter = restore(checkpoint).segmenter()

    def train_ids(rgb):
        with torch.no_grad():
            logits = segmenter(torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None])
        return logits[0].argmax(0).numpy().astype(np.uint8)

    return train_ids


@pytest.fixture
def predict(doors, checkpoint):
    def run(source, *keys, **how):
        given = () if any(key.startswith("checkpoint=") for key in keys) else (f"checkpoint={checkpoint}",)
        return doors("predict", *given, f"source={source}", "engine=torch", "device=cpu", *keys, **how)

    return run


@pytest.fixture
def photos(street_root, tmp_path):
    """Two images in a folder each."""
    folder = tmp_path / "photos"
    for name, image in zip(("a/1", "b/2"), images(street_root), strict=False):
        (folder / name).parent.mkdir(parents=True)
        shutil.copyfile(image, folder / f"{name}.png")
    return folder
