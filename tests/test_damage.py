"""Every kind of damaged dataset: the doctor names each bad file and the fix, training's first error one."""

import copy
import json
import shutil
import zipfile
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from damages import ERRORS, REMARKS, Damage
from front_doors import FrontDoors
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from permissions import permissions_count

from src.config import CONF_DIR, register_resolvers
from src.errors import UserError
from src.street import write_street
from src.train import train

SMALL = (
    "data.class_weights=labels",
    "data.batch_size=2",
    "data.num_workers=0",
    "data.crop_size=[32,64]",
    "model.num_blocks=[1,1]",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "callbacks.pictures=null",
    "callbacks.summary=null",
)


@pytest.fixture(autouse=True)
def keys_unchecked(monkeypatch):
    """Other tests check them; here it would be a third of the time."""
    monkeypatch.setattr("src.front_door.check_keys", lambda config, name: set())


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """Datasets to copy: 4 train and 3 val frames, extracted, in archives, and in CamVid's layout."""
    folder = tmp_path_factory.mktemp("intact")
    street = folder / "cityscapes"
    write_street(street, {"train": 4, "val": 3}, width=64, height=32, seed=5)
    (folder / "zipped").mkdir()
    for name in ("leftImg8bit", "gtFine"):
        with zipfile.ZipFile(folder / "zipped" / f"{name}_trainvaltest.zip", "w") as archive:
            for path in sorted((street / name).rglob("*.png")):
                archive.write(path, path.relative_to(street))
    for split in ("train", "val"):
        for kind, pattern in (
            (split, f"leftImg8bit/{split}/*/*.png"),
            (f"{split}annot", f"gtFine/{split}/*/*_labelIds.png"),
        ):
            (folder / "camvid" / kind).mkdir(parents=True)
            for path in street.glob(pattern):
                _to_camvid(path, folder / "camvid" / kind)
    return folder


def _to_camvid(path: Path, folder: Path) -> None:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    name = "_".join(path.name.split("_")[:3])
    cv2.imwrite(str(folder / f"{name}.png"), pixels if pixels.ndim == 3 else np.minimum(pixels, 11))


def _damaged(damage: Damage, intact: Path, folder: Path) -> tuple[list[str], tuple[str, ...]]:
    """(the paths to be named, the overrides for both commands)"""
    root = folder / "data" / damage.data
    shutil.copytree(intact / ("zipped" if damage.zipped else damage.data), root)
    named = [str(path) for path in damage.inflict(root)]
    return named, (f"data={damage.data}", f"data.root={root / damage.root}", *SMALL)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("damage", ERRORS, ids=lambda damage: damage.name)
def test_doctor_and_training_refuse(damage, intact, doors, tmp_path, monkeypatch, capfd):
    named, overrides = _damaged(damage, intact, tmp_path)
    with permissions_count(monkeypatch) if damage.permissions else nullcontext():
        _check_refusals(damage, named, overrides, doors)
    if damage.name != "body too short":  # whose checksums are right
        assert capfd.readouterr().err == "", "a library spoke by itself"


def _check_refusals(damage: Damage, named: list[str], overrides: tuple[str, ...], doors: FrontDoors) -> None:

    doctor = doors("doctor", *overrides, "samples=0")
    assert doctor.code == 2, doctor.out
    assert "Traceback" not in doctor.out + doctor.err
    assert doctor.err.strip().startswith("Training would not work: ")
    found = json.loads((doctor.directory / "doctor.json").read_text())["dataset"]["findings"]
    errors = [finding["text"] for finding in found if finding["level"] == "error"]
    for name in named:
        assert any(name in text for text in errors), f"{name} not in {errors}"
        assert name in doctor.out
    for part in damage.says:
        assert any(part in text for text in errors), f"{part} not in {errors}"

    message = _refusal_of_training(damage, overrides, doors)
    assert any(Path(name).name in message for name in named) or not named
    for part in damage.says:
        assert part in message


@cache
def _config(data: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", [data, *SMALL, "name=refused"])


def _refusal_of_training(damage: Damage, overrides: tuple[str, ...], doors: FrontDoors) -> str:
    """Its one message. Before a run directory is made, the task alone will do: Hydra takes half a second."""
    if damage.late:
        outcome = doors("train", *overrides)
        assert outcome.code == 2, outcome.out
        assert "Traceback" not in outcome.out + outcome.err
        return outcome.err
    config = copy.deepcopy(_config(overrides[0]))
    config.data.root = overrides[1].removeprefix("data.root=")
    config.runs_dir = str(doors.folder)
    with pytest.raises(UserError) as refused:
        train(config)
    assert not (doors.folder / "train").exists(), "a run directory was made before the checks had passed"
    return refused.value.text


@pytest.mark.sampled(2)
@pytest.mark.parametrize("damage", REMARKS, ids=lambda damage: damage.name)
def test_the_doctor_remarks_and_training_works(damage, intact, doors, tmp_path):
    named, overrides = _damaged(damage, intact, tmp_path)
    doctor = doors("doctor", *overrides, "samples=0")
    assert doctor.code == 0, doctor.err
    assert "Training would work: " in doctor.out
    found = json.loads((doctor.directory / "doctor.json").read_text())["dataset"]["findings"]
    assert {finding["level"] for finding in found} == {"remark"}
    for name in named:
        assert any(name in finding["text"] for finding in found), f"{name} not in {found}"
    for part in damage.says:
        assert any(part in finding["text"] for finding in found), f"{part} not in {found}"
    assert doors("train", *overrides).code == 0
