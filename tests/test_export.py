"""`python -m src.export`, and `python -m src.eval` of the files that it leaves."""

import json
import sys

import numpy as np
import pytest
import torch
from front_doors import TINY

from src.inference import load
from src.inference.exports import onnx_file, openvino_file, torch_file
from src.network.upsample import best_class
from src.weights.trained_network import restore

onnx = pytest.importorskip("onnx", reason='pip install -e ".[deploy]"')
ort = pytest.importorskip("onnxruntime", reason='pip install -e ".[deploy]"')
pytest.importorskip("openvino", reason='pip install -e ".[deploy]"')

FILES = ("model.onnx", "model.xml", "model.pt2")
CARRIED = ("network", "parameters", "epoch", "trained_on", "val_mIoU", "recipe", "seed", "revision", "family")
SMALL = ("parity.equal=0.999", "size=[64,128]")  # a file for one size is traced and compared in less time


@pytest.fixture(scope="module")
def checkpoint(module_doors):
    """Of a network that is exported in a second; tests/inference/test_exported_files.py has a CGNet."""
    tiny = [key for key in TINY if not key.startswith("model.")]
    keys = ("model=pixelwise", "optimizer.lr=3e-2", "callbacks.pictures=null", "report.images=0")
    run = module_doors("train", *tiny, *keys, name="trained")
    assert run.code == 0, run.err
    return f"{run.directory}/checkpoints/best.ckpt"


@pytest.fixture(scope="module")
def exported(module_doors, checkpoint):
    run = module_doors("export", f"checkpoint={checkpoint}", "format=[onnx,openvino,torch]", name="all")
    assert run.code == 0, run.err
    return run


@pytest.fixture(scope="module")
def judge(module_doors):
    def run(path, *keys, name="judged"):
        quick = ("trainer.accelerator=cpu", "pictures=0", "report.images=0", "latency=1")
        return module_doors("eval", f"checkpoint={path}", *quick, *keys, name=name)

    return run


@pytest.fixture(scope="module")
def of_checkpoint(judge, checkpoint):
    return judge(checkpoint, name="checkpoint")


@pytest.fixture(scope="module")
def image():
    return torch.randint(256, (2, 3, 71, 93), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def test_what_it_leaves(exported, checkpoint):
    assert exported.err == ""
    files = {name for name in exported.files if not name.startswith("code-")}
    assert files == {
        *FILES, "model.bin", "parity.json", "config.yaml", "export.log", "record.json", ".lock",
    }  # fmt: skip
    assert f"python -m src.eval checkpoint={exported.directory}/model.pt2" in exported.out
    report = json.loads((exported.directory / "parity.json").read_text())
    assert report["provenance"]["checkpoint"] == checkpoint
    for file in report["files"]:
        places = {(c["height"], c["width"], c["batch"]) for c in file["comparisons"]}
        assert len(places) == 6
        assert any(height % 2 and width % 2 for height, width, _ in places)
        assert min(c["equal"] for c in file["comparisons"]) > 0.9999
        assert min(c["classes"] for c in file["comparisons"]) > 1, "the comparison says something"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", FILES)
def test_an_evaluation_of_the_file(judge, exported, of_checkpoint, name):
    judged = judge(exported.directory / name)
    assert judged.code == 0, judged.err
    metrics, wanted = judged.metrics, of_checkpoint.metrics
    assert metrics["mIoU"] == pytest.approx(wanted["mIoU"], abs=1e-4)
    assert metrics["category_mIoU"] == pytest.approx(wanted["category_mIoU"], abs=1e-4)
    assert {key: metrics[key] for key in CARRIED} == {key: wanted[key] for key in CARRIED}
    assert metrics["weights_sha256"] == wanted["weights_sha256"] is not None
    assert metrics["checkpoint"] == str(exported.directory / name)
    assert metrics["exported"]["from"] == "best.ckpt"
    assert metrics["seed"] == 42
    assert metrics["recipe"].startswith("experiment=debug data.street.val=7")
    assert "pictures" not in metrics["recipe"]
    costs = [{key: m["cost"][key] for key in ("parameters", "GFLOPs", "image")} for m in (metrics, wanted)]
    assert costs[0] == costs[1]
    assert metrics["cost"]["latency_ms"]["median"] > 0
    report = (judged.directory / "report.html").read_text()
    assert metrics["weights_sha256"] in report


def test_the_training_s_metrics_have_the_same_provenance(module_doors, checkpoint, of_checkpoint):
    trained = json.loads((module_doors.folder / "train/trained/metrics.json").read_text())
    keys = (*CARRIED, "weights_sha256")
    assert {key: trained[key] for key in keys} == {key: of_checkpoint.metrics[key] for key in keys}
    assert trained["val_mIoU"] == trained["mIoU"]


@pytest.mark.parametrize("name", FILES)
def test_load_takes_the_file(exported, checkpoint, image, name):
    path = str(exported.directory / name)
    mine, wanted = load(path), load(checkpoint, engine="torch")
    assert np.mean(mine(image) == wanted(image)) > 0.999
    assert mine.classes == wanted.classes
    assert np.array_equal(mine.colors, wanted.colors)
    assert mine.provenance["weights_sha256"] == wanted.provenance["weights_sha256"]


def test_the_onnx_file_is_one_plain_file(exported):
    model = onnx.load(exported.directory / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert max(entry.version for entry in model.opset_import) <= 18
    assert {entry.domain for entry in model.opset_import} == {""}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    (given,), (result,) = model.graph.input, model.graph.output
    axes = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
    assert (given.name, axes) == ("image", ["batch", 3, "height", "width"])
    axes = [d.dim_param or d.dim_value for d in result.type.tensor_type.shape.dim]
    assert (result.name, axes) == ("class_map", ["batch", "height", "width"])
    texts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert texts["classes"][0] == {"name": "road", "train_id": 0, "label_id": 7, "color": [128, 64, 128]}
    assert texts["model"]["preprocessing"]["mean"] == [110.0, 110.0, 110.0]
    assert texts["export"]["size"] is None
    for name in FILES:
        content = (exported.directory / name).read_bytes()
        assert str(exported.directory.parent).encode() not in content, (
            f"{name} names a folder of this machine"
        )
        assert b".py" not in content, f"{name} names source files"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("format", ["onnx", "openvino", "torch"])
def test_a_wrong_file_is_not_left_behind(doors, checkpoint, monkeypatch, format):
    """The conversion subtracts another mean."""
    file = {"onnx": onnx_file, "openvino": openvino_file, "torch": torch_file}[format]
    write = file.write

    def swapped(program, *arguments):
        (key,) = (key for key in program.constants if key.endswith("segmenter.mean"))
        monkeypatch.setitem(program.constants, key, program.constants[key] + 60)
        write(program, *arguments)

    monkeypatch.setattr(file, "write", swapped)
    earlier = doors.folder / f"export/run/model{file.SUFFIX}"
    earlier.parent.mkdir(parents=True)
    for left in (earlier, earlier.parent / "config.yaml"):
        left.write_text("of an earlier export")
    (earlier.parent / ".unchecked-killed").mkdir()
    run = doors("export", f"checkpoint={checkpoint}", f"format={format}", *SMALL, "parity.difference=1")
    assert run.code == 2
    assert f"format={format}: model{file.SUFFIX} was not left behind" in run.err
    assert "It is not what the network computes with 1 x 128x64" in run.err
    assert not [path for path in run.directory.iterdir() if path.name.startswith(("model", ".unchecked"))]
    (entry,) = json.loads((run.directory / "parity.json").read_text())["files"]
    assert entry["file"] is None
    assert entry["problem"] in run.err


def test_one_wrong_file_does_not_stop_the_other(doors, checkpoint, monkeypatch):
    def fails(*_):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(onnx_file, "onnx_model", fails)
    run = doors("export", f"checkpoint={checkpoint}", "format=[onnx,torch]", *SMALL)
    assert run.code == 2
    assert "format=onnx: model.onnx was not left behind. It cannot be exported: RuntimeError: no" in run.err
    assert "model.pt2" in run.files


@pytest.fixture(scope="module")
def logits(module_doors, checkpoint):
    """Of images of 64x128 pixels alone."""
    run = module_doors("export", f"checkpoint={checkpoint}", "output=logits", "size=[64,128]", name="logits")
    assert run.code == 0, run.err
    return f"{run.directory}/model.onnx"


def test_logits_of_one_size(judge, logits, checkpoint, refused):
    image = torch.randint(256, (2, 3, 64, 128), dtype=torch.uint8)
    wanted = restore(checkpoint).segmenter()(image).detach().numpy()
    mine = load(logits)
    assert np.abs(mine.logits(image) - wanted).max() < 1e-3 * np.abs(wanted).max()
    assert np.array_equal(mine(image), best_class(torch.from_numpy(mine.logits(image))).numpy())
    with refused(logits, "exported for images of 128x64 pixels alone, and it would see 126x64"):
        mine(image[..., :126])
    run = judge(logits, "input_scale=0.75")
    assert run.code == 2
    assert "and it would see 96x48" in run.err
    assert not run.directory.exists() or run.metrics == {}


@pytest.mark.slow
def test_mirrored_views_of_logits(judge, logits, checkpoint):
    mine, wanted = judge(logits, "tta=flip"), judge(checkpoint, "tta=flip", name="flip")
    assert mine.code == 0, mine.err
    assert mine.metrics["mIoU"] == pytest.approx(wanted.metrics["mIoU"], abs=1e-4)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("key", ["window=[48,64]", "tta=flip", "input_scale=0.5"])
def test_class_maps_have_no_views(judge, exported, key):
    run = judge(exported.directory / "model.onnx", key, name="views")
    assert run.code == 2
    assert "this file gives class maps. Export it with output=logits." in run.err
    assert not run.directory.exists()


def test_what_the_evaluation_refuses(judge, exported, camvid_root):
    path = exported.directory / "model.onnx"
    run = judge(path, "trainer.precision=bf16-mixed", name="refused")
    assert run.code == 2
    assert "trainer.precision=bf16-mixed: of no effect on an exported file" in run.err
    run = judge(path, "data=camvid", f"data.root={camvid_root}", name="refused")
    assert run.code == 2
    assert "a network for 19 classes (those of street_tiny)" in run.err


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("format=tflite",), "format=tflite: expected"),
        (("format=[onnx,openvino]", "precision=fp16"), "precision=fp16: format=onnx has float32."),
        (("images=/nowhere",), "images=/nowhere: no such folder."),
        (("precision=int8", "max_drop=2"), "max_drop=2: expected"),
        (("output=probabilities",), "expected class_map or logits"),
        (("size=[8,8]",), "size=[8, 8]: expected"),
        (("parity.equal=2",), "parity.equal=2: expected"),
        (("parity.equals=1",), "The nearest one is parity.equal"),
    ],
    ids=str,
)
def test_keys_that_make_no_sense(doors, checkpoint, keys, message):
    run = doors("export", f"checkpoint={checkpoint}", *keys)
    assert run.code == 2
    assert message in run.err
    assert not run.directory.exists()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("format", "package"), [("onnx", "onnxscript"), ("onnx", "onnxruntime"), ("openvino", "openvino")]
)
def test_a_package_that_is_not_installed(doors, checkpoint, exported, judge, monkeypatch, format, package):
    monkeypatch.setitem(sys.modules, package, None)
    run = doors("export", f"checkpoint={checkpoint}", f"format={format}")
    assert run.code == 2
    assert package in run.err
    assert "pip install -e '.[deploy]'" in run.err
    assert not run.directory.exists()
    if package != "onnxscript":
        name = {"onnx": "model.onnx", "openvino": "model.xml"}[format]
        run = judge(exported.directory / name, name="missing")
        assert run.code == 2
        assert f"needs the package {package}" in run.err


def test_an_exported_file_is_not_trained_or_exported(doors, exported):
    for task in ("export", "train"):
        run = doors(task, f"checkpoint={exported.directory}/model.onnx", *(TINY if task == "train" else ()))
        assert run.code == 2
        assert "an exported file, which has no weights to train or to export again" in run.err
