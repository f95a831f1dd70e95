import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest

from src.data.layouts import Pair
from src.errors import UserError


@pytest.fixture
def refused():
    """A context that expects one UserError, shown as one message, which mentions all `parts`."""

    @contextmanager
    def expect(*parts):
        shown = SimpleNamespace(text="")
        try:
            yield shown
        except UserError as error:
            shown.text = error.text
            # Frees a DataLoader's iterator here; left to the garbage collector, it waits 5 s for each worker.
            error.__traceback__ = None
        else:
            pytest.fail("no UserError")
        missing = [str(part) for part in parts if str(part) not in shown.text]
        assert not missing, f"{missing} not in:\n{shown.text}"
        assert "Traceback" not in shown.text
        assert "Caught" not in shown.text

    return expect


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
        pair = Pair(name, tmp_path / f"{name}.png", None if label is None else tmp_path / f"{name}_labelIds.png")
        cv2.imwrite(str(pair.image), image[..., ::-1])
        if label is not None:
            cv2.imwrite(str(pair.label), label)
        return pair

    return write
