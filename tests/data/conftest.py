import copy
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
from hydra import compose, initialize_config_dir

from src.config import CONF_DIR, plain, register_resolvers
from src.data.datamodule import SegmentationDataModule
from src.data.layouts import Pair


@pytest.fixture
def street(street_root, tmp_path) -> Path:
    """A copy of the street that a test may damage."""
    return Path(shutil.copytree(street_root, tmp_path / "street"))


@pytest.fixture
def camvid(camvid_root, tmp_path) -> Path:
    return Path(shutil.copytree(camvid_root, tmp_path / "camvid"))


@pytest.fixture
def write_pair(tmp_path):
    """Writes an RGB image and a label (None: no label file) as PNG files."""

    def write(image, label, name="aachen_000000_000019"):
        pair = Pair(
            name, tmp_path / f"{name}.png", None if label is None else tmp_path / f"{name}_labelIds.png"
        )
        cv2.imwrite(str(pair.image), image[..., ::-1])
        if label is not None:
            cv2.imwrite(str(pair.label), label)
        return pair

    return write


@pytest.fixture(scope="session")
def shipped():
    """The groups `data` and `augment` of conf/, for each dataset."""
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        configs = {name: compose("train", [f"data={name}"]) for name in ("street", "camvid", "cityscapes")}
    return {name: (plain(config.data), plain(config.augment)) for name, config in configs.items()}


@pytest.fixture
def module_for(shipped, tmp_path):
    """A datamodule with the shipped config of a dataset and changes to its data group."""

    def make(name, root, augment=None, **changes):
        data, own_augment = copy.deepcopy(shipped[name])
        own_augment["crop"]["size"] = [48, 96]
        own_augment["pad"] |= {"min_height": 48, "min_width": 96}
        settings = {"root": str(root), "street": None, "num_workers": 0, "batch_size": 4, **changes}
        steps = {**own_augment, **(augment or {})}
        return SegmentationDataModule({**data, **settings}, steps, seed=1, cache_dir=tmp_path / "cache")

    return make


@pytest.fixture
def street_module(module_for, street_root):
    return lambda **changes: module_for("street", street_root, **changes)


@pytest.fixture
def ready():
    """Sets a datamodule up, with what its loaders ask of a Trainer."""

    def make(module, rank=0, devices=1, accumulate=1):
        module.trainer = SimpleNamespace(
            global_rank=rank, world_size=devices, num_devices=devices, accumulate_grad_batches=accumulate
        )
        module.setup("fit")
        module.cache_frames()
        return module

    return make
