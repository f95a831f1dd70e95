"""The README's Python for exported files, run as it is, where torch and this project cannot be imported."""

import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from front_doors import REPOSITORY
from published_networks import AuthorsNetwork, randomized

from src.inference import load
from src.inference.exports.exporter import Exporter

pytest.importorskip("onnxruntime", reason='pip install -e ".[deploy]"')
pytest.importorskip("openvino", reason='pip install -e ".[deploy]"')

README = (REPOSITORY / "README.md").read_text()
SECTION = re.search(r"## One file to deploy\n(.*?)\n## ", README, re.S)[1]
SNIPPETS = re.findall(r"```python\n(.*?)```", SECTION, re.S)
BLOCKED = """
import sys
for name in ("torch", "src"):
    sys.modules[name] = None
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deployed")
    torch.save({"model": randomized(AuthorsNetwork(11, m=1, n=1)).state_dict()}, folder / "weights.pth")
    config = {"output": "class_map", "precision": "float32", "size": None, "images": None}
    config |= {"checkpoint": f"{folder}/weights.pth", "parity": {"equal": None, "difference": None}}
    files = Exporter(config | {"format": ["onnx", "openvino"]}).export(folder)
    assert not any(file.problem for file in files)
    pixels = np.random.default_rng(1).integers(0, 256, (57, 75, 3), np.uint8)
    cv2.imwrite(str(folder / "image.png"), pixels[:, :, ::-1])
    return folder, load(f"{folder}/weights.pth", engine="torch")(pixels)


@pytest.mark.parametrize("number", [0, 1], ids=["onnxruntime", "openvino"])
def test_a_snippet(place, number):
    folder, wanted = place
    assert len(SNIPPETS) == 2
    code = f"{BLOCKED}{SNIPPETS[number]}\nimport numpy\nnumpy.save('map.npy', class_map)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = np.load(folder / "map.npy")
    assert (found.dtype, found.shape) == (np.uint8, (1, 57, 75))
    assert np.mean(found[0] == wanted) > 0.999
    assert re.fullmatch(r"\(1, 57, 75\) \w+\n", done.stdout)
