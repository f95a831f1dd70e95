"""Exported files that are damaged, foreign or hostile, and what a comparison finds."""

import io
import json
import re
import shutil
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest
import torch
from front_doors import REPOSITORY
from published_networks import AuthorsNetwork, randomized
from torch import nn

from src.inference import load
from src.inference.exports.exported_network import FORMATS
from src.inference.exports.exporter import Exporter
from src.inference.exports.parity import BARS, batches, compare, worst
from src.inference.exports.program_check import check_program
from src.network.segmenter import Segmenter

onnx = pytest.importorskip("onnx", reason='pip install -e ".[deploy]"')
pytest.importorskip("onnxruntime", reason='pip install -e ".[deploy]"')
pytest.importorskip("openvino", reason='pip install -e ".[deploy]"')

CONFIG = {
    "format": ["onnx", "openvino", "torch"],
    "output": "class_map",
    "precision": "float32",
    "size": None,
    "images": None,
    "parity": {"equal": None, "difference": None},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Published ones, of CamVid's classes."""
    path = tmp_path_factory.mktemp("weights") / "camvid.pth"
    torch.save({"model": randomized(AuthorsNetwork(11, m=1, n=1)).state_dict()}, path)
    return str(path)


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    files = Exporter(CONFIG | {"checkpoint": weights}).export(folder)
    assert [file.problem for file in files] == ["", "", ""]
    return folder


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


@pytest.mark.parametrize("file", FORMATS.values(), ids=FORMATS)
def test_published_weights_bring_their_classes(exported, weights, file):
    mine, wanted = load(f"{exported}/model{file.SUFFIX}"), load(weights, engine="torch")
    assert mine.classes == wanted.classes
    assert mine.classes[:2] == ("sky", "building")
    assert np.array_equal(mine.table.to_label_id, wanted.table.to_label_id)
    image = torch.randint(256, (3, 3, 32, 48), dtype=torch.uint8)
    assert np.mean(mine(image) == wanted(image)) > 0.999
    assert mine.provenance["family"] == wanted.provenance["family"]
    assert mine.provenance["seed"] is None


SNIPPETS = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/export.md").read_text(), re.S)
BLOCKED = """
import sys
for name in ("torch", "src"):
    sys.modules[name] = None
"""


@pytest.mark.parametrize("number", [0, 1], ids=["onnxruntime", "openvino"])
def test_the_readme_s_python(copy, weights, number):
    """As it is, where neither torch nor this project can be imported."""
    assert len(SNIPPETS) == 2
    pixels = np.random.default_rng(1).integers(0, 256, (57, 75, 3), np.uint8)
    cv2.imwrite(str(copy / "image.png"), pixels[:, :, ::-1])
    code = f"{BLOCKED}{SNIPPETS[number]}\nimport numpy\nnumpy.save('map.npy', class_map)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.load(copy / "map.npy")
    assert (found.dtype, found.shape) == (np.uint8, (1, 57, 75))
    assert np.mean(found[0] == load(weights, engine="torch")(pixels)) > 0.999
    assert re.fullmatch(r"\(1, 57, 75\) \w+\n", done.stdout)


@pytest.mark.parametrize("file", FORMATS.values(), ids=FORMATS)
def test_files_that_are_cut_off(copy, refused, file):
    path = copy / f"model{file.SUFFIX}"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<!DOCTYPE html><title>404</title>"):
        path.write_bytes(content)
        with refused(f"checkpoint={path}: ", "damaged"):
            load(str(path))
    path.unlink()
    with refused(f"checkpoint={path}: no such file."):
        load(str(path))


def test_openvino_s_second_file(copy, refused):
    binary = copy / "model.bin"
    binary.write_bytes(binary.read_bytes()[:1000])
    with refused("model.xml: not a file of format=openvino, or one that is damaged"):
        load(f"{copy}/model.xml")
    binary.unlink()
    with refused("model.bin is missing, which has its weights. Put it beside the .xml file."):
        load(f"{copy}/model.xml")


def test_an_onnx_file_of_others(tmp_path, refused):
    kind = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [kind], [other])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "x.onnx")
    with refused("x.onnx: not exported here, it lacks the metadata that says which classes"):
        load(f"{tmp_path}/x.onnx")


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("classes", lambda value: value[::-1]),
        ("classes", lambda value: [{**value[0], "color": [1, 2]}]),
        ("classes", lambda value: {}),
        ("export", lambda value: value | {"output": "boxes"}),
        ("export", lambda value: value | {"size": ["a", 1]}),
        ("provenance", lambda value: value | {"trained_on": "all"}),
        ("provenance", lambda value: value | {"seed": {}}),
        ("data", lambda value: {"name": "${oc.env:HOME}", "layout": 3}),
        ("model", lambda value: {"_target_": 3}),
        ("provenance", lambda value: None),
    ],
)
def test_metadata_that_no_export_writes(copy, refused, key, change):
    path = copy / "model.onnx"
    model = onnx.load(path)
    (entry,) = (entry for entry in model.metadata_props if entry.key == key)
    entry.value = json.dumps(change(json.loads(entry.value)))
    onnx.save(model, path)
    with refused(f"checkpoint={path}"):
        load(str(path))


def test_engines_and_devices_that_a_file_does_not_have(exported, refused):
    with refused("engine=openvino", "model.onnx runs in onnxruntime. Set engine=auto"):
        load(f"{exported}/model.onnx", engine="openvino")
    with refused("device=cuda: exported files run on the CPU"):
        load(f"{exported}/model.onnx", device="cuda")
    with refused("precision=bf16: a .onnx file computes in float32."):
        load(f"{exported}/model.onnx", precision="bf16")
    image = np.zeros((64, 96, 3), np.uint8)
    for scores in ("logits", "probabilities"):
        with refused("this file gives class maps. Export it with output=logits"):
            getattr(load(f"{exported}/model.onnx"), scores)(image)
    with refused("Export it with output=logits"):
        load(f"{exported}/model.onnx", tta={"scales": [1.0], "flip": True})
    assert load(f"{exported}/model.xml", precision="bf16").engine.precision == "bf16"


class Boom:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def _rewritten(path, changes):
    """The archive with other entries: name without the folder -> bytes, or a function of the old ones."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(entries)).partition("/")[0]
    for name, change in changes.items():
        old = entries.get(f"{folder}/{name}")
        entries[f"{folder}/{name}"] = change(old) if callable(change) else change
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def _replaced(old, new):
    def change(content):
        assert old in content
        return content.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    "attack", ["inputs", "weight", "operator", "size", "guard", "library", "legacy", "spec", "metadata"]
)
def test_a_program_executes_nothing_of_its_own(copy, tmp_path, refused, attack):
    struck = tmp_path / "struck"
    pickled = io.BytesIO()
    torch.save((Boom(struck),), pickled)
    code = f"__import__('pathlib').Path('{struck}').touch()".encode()
    model, weights = "models/model.json", "data/weights/model_weights_config.json"
    changes = {
        "inputs": {"data/sample_inputs/model.pt": pickled.getvalue()},
        "weight": {
            "data/weights/weight_0": pickled.getvalue(),
            weights: _replaced(b'"use_pickle": false', b'"use_pickle": true'),
        },
        "operator": {model: _replaced(b"torch.ops.aten.relu.default", b"torch.hub.load")},
        "size": {model: _replaced(b'"as_int": 2', b'"as_expr": {"expr_str": "' + code + b'", "hint": null}')},
        "guard": {model: _replaced(b'"guards_code": [', b'"guards_code": ["' + code + b'"')},
        "library": {"data/aotinductor/model/model.so": b"\x7fELF"},
        "legacy": {"data/weights/model.pt": pickled.getvalue()},
        "spec": {model: _replaced(b"builtins.tuple", b"collections.namedtuple")},
        "metadata": {model: _replaced(b'"metadata": {}', b'"metadata": {"custom": "1"}')},
    }
    path = copy / "model.pt2"
    check_program(path.read_bytes())
    _rewritten(path, changes[attack])
    with refused(f"checkpoint={path}: not a file of format=torch"):
        load(str(path))
    assert not struck.exists()


class Engine:
    name, precision, device = "mine", "float32", "cpu"

    def __init__(self, compute):
        self.compute = compute

    def __call__(self, image):
        return self.compute(image)

    class_map = __call__


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(3)
    return Segmenter(nn.Conv2d(3, 5, 3, padding=1), [90.0, 90, 90], [60.0, 60, 60]).eval()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda maps: maps.roll(1, -1), "It is not what the network computes"),
        (lambda maps: maps + 1, "class 5 of 5 in the map"),
        (lambda maps: maps[:, 1:], "the output is"),
        (lambda maps: maps.long(), "torch.int64"),
        (lambda maps: maps[:, :, 0] / 0, "the output is"),
    ],
)
def test_what_a_comparison_finds_in_class_maps(segmenter, wrong, said):
    image = torch.randint(256, (2, 3, 40, 50), dtype=torch.uint8)
    engine = Engine(lambda image: wrong(segmenter.class_map(image)))
    found = compare(segmenter, engine, "class_map", image)
    assert not found.passes(BARS["float32"])
    assert said in worst([found], BARS["float32"])
    right = compare(segmenter, Engine(segmenter.class_map), "class_map", image)
    assert (right.equal, right.difference, worst([right], BARS["float32"])) == (1.0, 0.0, "")
    assert right.classes > 1


def test_what_a_comparison_finds_in_logits(segmenter):
    image = torch.randint(256, (1, 3, 40, 50), dtype=torch.uint8)
    largest = segmenter(image).detach().abs().max()

    def found(change):
        engine = Engine(lambda image: change(segmenter(image).detach()))
        return compare(segmenter, engine, "logits", image)

    assert found(lambda logits: logits).passes(BARS["float32"])
    shifted = found(lambda logits: logits + 0.01 * largest)
    assert shifted.equal == 1.0
    assert shifted.difference == pytest.approx(0.01, rel=1e-3)
    assert not shifted.passes(BARS["float32"])
    assert "NaN or infinite logits" in worst([found(lambda logits: logits * float("nan"))], BARS["float32"])
    assert "RuntimeError" in worst([found(lambda logits: logits @ logits[0])], BARS["float32"])


def test_images_of_one_s_own(camvid_root, tmp_path, refused):
    found = list(batches(str(camvid_root / "val"), None, 32))
    sizes = {(len(batch), *batch.shape[-2:]) for batch in found}
    assert sizes == {(b, h, w) for b in (1, 2) for h, w in ((64, 128), (48, 64), (41, 81))}
    assert {batch.dtype for batch in found} == {torch.uint8}
    assert [tuple(batch.shape) for batch in batches(None, (40, 50), 32)] == [(1, 3, 40, 50)] * 3
    assert min(min(batch.shape[-2:]) for batch in batches(str(camvid_root / "val"), None, 100)) >= 100
    with refused("images=", "no images"):
        list(batches(str(tmp_path), None, 32))
