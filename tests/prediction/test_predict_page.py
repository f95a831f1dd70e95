"""The documentation's commands for class maps, and its example of the library, as they are written there."""

import re
import shlex

import cv2
import pytest
from front_doors import REPOSITORY
from predictions import images, rgb, rows

_SECTION = (REPOSITORY / "docs/prediction.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)[3:]
    for line in _SECTION.splitlines()
    if line.startswith("python -m src.predict")
]
IMAGES = ("photo.jpg", "path/to/photos/a.png", "photos/2024, x1/y/z.png", "aerial.tif")


@pytest.fixture
def folder(street_root, tmp_path, monkeypatch):
    """What the commands name."""
    for name, image in zip(IMAGES, images(street_root), strict=False):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), cv2.imread(str(image)))
    photo = tmp_path / "photo.jpg"  # large, as photos are
    cv2.imwrite(str(photo), cv2.resize(cv2.imread(str(photo)), (640, 320)))
    writer = cv2.VideoWriter(str(tmp_path / "drive.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, (128, 64))
    writer.write(cv2.imread(str(tmp_path / "aerial.tif")))
    writer.release()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.sampled(2)
@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[1])
def test_a_command(doors, folder, checkpoint, arguments):
    keys = dict(argument.split("=", 1) for argument in arguments) | {"checkpoint": checkpoint}
    keys["source"] = keys["source"].removeprefix("/")
    name = keys.pop("name", "run")
    run = doors("predict", *(f"{key}={value}" for key, value in keys.items()), "engine=torch", name=name)
    assert run.code == 0, run.err
    assert len(rows(run)) == 1
    kinds = re.findall(r"\w+", keys.get("output", "[color,overlay]"))
    for kind in kinds:
        assert any((run.directory / kind).rglob("*.*")), kind


def test_there_are_such_commands():
    assert COMMANDS


def test_the_library(folder, checkpoint):
    code = re.search(r"```python\n(.*?)```", _SECTION, re.S)[1]
    (folder / "best.ckpt").symlink_to(checkpoint)
    names = {"image": rgb(folder / "aerial.tif")}
    exec(code, names)  # noqa: S102
    assert names["class_map"].shape == (64, 128)
    assert names["class_map"].dtype == "uint8"
