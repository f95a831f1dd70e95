"""Exports of networks of a user's own, in every format and precision, and on real images."""

import json
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch
from front_doors import TINY

from src.inference import load
from src.inference.exports import exporter
from src.inference.exports.int8 import Int8
from src.network.segmenter import Segmenter

pytest.importorskip("onnx", reason='pip install -e ".[deploy]"')
pytest.importorskip("onnxruntime", reason='pip install -e ".[deploy]"')
pytest.importorskip("openvino", reason='pip install -e ".[deploy]"')

FIXED = """
    from torch import nn


    class Fixed(nn.Module):
        \"\"\"Its positions are for one size alone.\"\"\"

        def __init__(self, num_classes):
            super().__init__()
            self.head = nn.Conv2d(3, num_classes, 1)

        def forward(self, image):
            x = self.head(image)
            flat = x.reshape(x.shape[0], x.shape[1], 64 * 128).cumsum(2)
            return flat.reshape(x.shape[0], x.shape[1], 64, 128)
    """


def saved(path, target, data, **arguments):
    """A checkpoint of a network of one's own, as a training writes it."""
    model = {"_target_": target, "preprocessing": {"mean": [90.0] * 3, "std": [60.0] * 3}, **arguments}
    torch.manual_seed(4)
    weights = {f"segmenter.{k}": v for k, v in Segmenter.from_config(model).state_dict().items()}
    names = [entry["name"] for entry in data["classes"]]
    recorded = {"model": model, "data": data, "classes": names, "precision": "32-true", "training": None}
    torch.save({"epoch": 0, "state_dict": weights, "hyper_parameters": recorded}, path)


def own_data(root):
    return {
        "name": "mine", "layout": "folder", "labels": "classes", "root": str(root), "train_split": "train",
        "val_split": "val", "crop_size": [64, 128], "images": "{split}/*.png", "masks": None,
        "classes": [{"name": name, "ids": [number]} for number, name in enumerate(("a", "b", "c"))],
    }  # fmt: skip


def test_a_network_for_one_size(doors, tmp_path, monkeypatch):
    from src.network.trust import trust

    (tmp_path / "fixednet.py").write_text(textwrap.dedent(FIXED))
    monkeypatch.syspath_prepend(tmp_path)
    trust(["fixednet.Fixed"])
    path = tmp_path / "fixed.ckpt"
    saved(path, "fixednet.Fixed", own_data(tmp_path), num_classes=3)
    keys = (f"checkpoint={path}", "trust=fixednet.Fixed", "format=torch")
    run = doors("export", *keys)
    assert run.code == 2
    assert "Fixed cannot be traced by torch.export" in run.err
    assert "A fixed size may work: size=[512,1024]" in run.err
    assert not run.directory.exists()
    run = doors("export", *keys[::2])
    assert run.code == 2
    assert "trust=fixednet.Fixed" in run.err
    run = doors("export", *keys, "size=[64,128]")
    assert run.code == 0, run.err
    found = load(f"{run.directory}/model.pt2")
    assert found.classes == ("a", "b", "c")
    run = doors("eval", f"checkpoint={run.directory}/model.pt2", "trainer.accelerator=cpu")
    assert run.code == 2
    assert "data.root" in run.err


@pytest.mark.slow
@pytest.mark.parametrize("output", ["class_map", "logits"])
@pytest.mark.parametrize(
    ("format", "precision"),
    [("onnx", "float32"), ("openvino", "float32"), ("openvino", "fp16"), ("torch", "float32")],
)
def test_every_kind_of_file(doors, train, format, precision, output):
    """Of a network of one's own; the evaluation needs neither its class nor trust=."""
    trained = train("model=unet", "optimizer.lr=1e-2", name="own")
    assert trained.code == 0, trained.err
    checkpoint = f"checkpoint={trained.directory}/checkpoints/best.ckpt"
    kind = (f"format={format}", f"precision={precision}", f"output={output}")
    run = doors("export", checkpoint, "trust=mylab.unet.UNet", *kind)
    assert run.code == 0, run.err
    suffix = {"onnx": "onnx", "openvino": "xml", "torch": "pt2"}[format]
    wanted = doors("eval", checkpoint, "trust=mylab.unet.UNet", "trainer.accelerator=cpu", name="wanted")
    judged = doors(
        "eval", f"checkpoint={run.directory}/model.{suffix}", "trainer.accelerator=cpu", own_process=True
    )
    assert judged.code == 0, judged.err
    bar = 1e-4 if precision == "float32" else 1e-2
    assert judged.metrics["mIoU"] == pytest.approx(wanted.metrics["mIoU"], abs=bar)
    assert judged.metrics["cost"]["GFLOPs"] is None
    assert judged.metrics["cost"]["parameters"] == wanted.metrics["cost"]["parameters"]


def test_int8_needs_its_package_and_images(doors, tmp_path, monkeypatch):
    path = tmp_path / "mine.ckpt"
    target = "src.network.pixelwise.PixelwiseClassifier"
    saved(path, target, own_data(tmp_path), num_classes=3, channels=[4])
    keys = (f"checkpoint={path}", "format=openvino", "precision=int8")
    monkeypatch.setitem(sys.modules, "nncf", None)
    run = doors("export", *keys)
    assert run.code == 2
    assert "precision=int8 needs the package nncf, which is not installed: pip install" in run.err
    monkeypatch.setitem(sys.modules, "nncf", SimpleNamespace(set_log_level=lambda level: None))
    assert "give the labelled images on which its mIoU is measured" in doors("export", *keys).err
    run = doors("export", *keys, "data=street_tiny")
    assert f"data=street_tiny: other classes than those of checkpoint={path}" in run.err
    assert "Set size=null" in doors("export", *keys, "size=[64,64]").err
    assert not run.directory.exists()


@pytest.mark.slow
def test_int8(doors):
    """The drop that is allowed is a promise: a file that breaks it is not left behind."""
    pytest.importorskip("nncf", reason='pip install -e ".[int8]"')
    run = doors("train", *TINY, "optimizer.lr=3e-3", "trainer.max_epochs=4", name="trained")
    assert run.code == 0, run.err
    checkpoint = f"checkpoint={run.directory}/checkpoints/last.ckpt"
    data = ("data=street_tiny", "data.street.val=7")
    run = doors("export", checkpoint, "format=openvino", "precision=int8", "max_drop=0.05", *data)
    assert run.code == 0, run.err
    found = json.loads((run.directory / "parity.json").read_text())["val_mIoU"]
    assert found["float32"] - found["int8"] <= 0.05
    assert "FakeQuantize" in (run.directory / "model.xml").read_text()
    judged = doors("eval", f"checkpoint={run.directory}/model.xml", "trainer.accelerator=cpu")
    assert judged.metrics["mIoU"] == pytest.approx(found["int8"], abs=1e-4)
    assert judged.metrics["exported"]["precision"] == "int8"


@pytest.mark.slow
def test_an_int8_file_that_lost_too_much(doors, tmp_path, monkeypatch):
    """With a quantisation that spoils the mIoU."""
    path = tmp_path / "mine.ckpt"
    data = own_data(tmp_path)
    saved(path, "src.network.pixelwise.PixelwiseClassifier", data, num_classes=3, channels=[4])

    class Spoilt(Int8):
        def __init__(self, *_):
            self.max_drop = 0.01

        def __call__(self, model):
            self.miou = {"float32": 0.5, "int8": 0.48}
            return model

    monkeypatch.setattr(exporter, "Int8", Spoilt)
    run = doors("export", f"checkpoint={path}", "format=openvino", "precision=int8")
    assert run.code == 2
    assert "Its mIoU on the val split is 0.4800, in float32 0.5000: more than max_drop=0.01 below." in run.err
    assert not {"model.xml", "model.bin"} & run.files


@pytest.mark.slow
def test_a_fine_tuned_network_and_an_average_of_weights(doors):
    first = doors("train", *TINY, "callbacks=ema", name="first")
    assert first.code == 0, first.err
    start = f"checkpoint={first.directory}/checkpoints/best.ckpt"
    run = doors("train", *TINY, start, "channels_last=true", name="tuned")
    assert run.code == 0, run.err
    run = doors("export", f"checkpoint={run.directory}/checkpoints/last.ckpt", "format=[onnx,openvino,torch]")
    assert run.code == 0, run.err
    assert len(load(f"{run.directory}/model.onnx").provenance["trained_on"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.onnx", "model.xml", "model.pt2"])
def test_the_authors_weights_on_camvid(doors, real_data, file):
    weights = real_data / "weights/cgnet_camvid_author.pth"
    if not weights.exists():
        pytest.skip(f"no {weights}")
    format = {"model.onnx": "onnx", "model.xml": "openvino", "model.pt2": "torch"}[file]
    images = f"images={real_data}/kitti/leftImg8bit"
    run = doors("export", f"checkpoint={weights}", f"format={format}", images)
    assert run.code == 0, run.err
    keys = ("data=camvid", f"data.root={real_data}/camvid", "data.split=val", "trainer.accelerator=cpu")
    judged = doors("eval", f"checkpoint={run.directory}/{file}", *keys)
    assert judged.code == 0, judged.err
    assert judged.metrics["mIoU"] == pytest.approx(0.8568, abs=1e-4)
