"""Engines: the same class maps as PyTorch in plain float32, or a clear word on why not."""

import builtins
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from src.errors import UserError
from src.inference.engines import choice
from src.inference.engines.choice import MANY, engine_for
from src.inference.engines.folding import fold_batchnorm
from src.inference.engines.split import SplitCGNet
from src.network.cgnet import CGNet
from src.network.segmenter import Segmenter
from src.weights.trained_network import TrainedNetwork

MODEL = {
    "_target_": "src.network.cgnet.CGNet",
    "num_classes": 5,
    "num_blocks": [2, 2],
    "preprocessing": {"mean": [110.0, 100.0, 90.0], "std": [30.0, 40.0, 50.0]},
}


def pixels(height, width, batch=1):
    generator = torch.Generator().manual_seed(height + width)
    coarse = torch.rand(batch, 3, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (smooth * 255).to(torch.uint8)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    segmenter = Segmenter.from_config(MODEL).eval()
    for layer in segmenter.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_()
    return TrainedNetwork(
        path="here.ckpt",
        family="this project",
        model=MODEL,
        weights=segmenter.state_dict(),
        classes=list("abcde"),
    )


@pytest.fixture(scope="module")
def plain(trained):
    return trained.segmenter()


def check(engine, plain, least=0.9999, sizes=((64, 96, 1), (71, 101, 2), (33, 40, 1))):
    for height, width, batch in sizes:
        image = pixels(height, width, batch)
        with torch.inference_mode():
            expected = plain(image)
        logits, found = engine(image), engine.class_map(image)
        assert found.dtype == torch.uint8
        assert found.shape == (batch, height, width)
        assert logits.dtype == torch.float32
        assert logits.shape == expected.shape
        assert (found == expected.argmax(1)).double().mean() >= least
        assert len(found.unique()) > 1
        if least > 0.999:
            assert torch.allclose(logits, expected, atol=1e-3)
        again = engine.class_map(pixels(height, width, batch).flip(-1))
        assert torch.equal(found, engine.class_map(image)), "a result is not overwritten by a later one"
        assert not torch.equal(again, found)


@pytest.mark.parametrize(
    ("engine", "precision", "least"),
    [
        ("torch", "float32", 0.9999),
        ("torch", "bf16", 0.97),
        pytest.param("onnxruntime", "float32", 0.9999, marks=pytest.mark.slow),
        ("openvino", "float32", 0.9999),
        pytest.param("openvino", "bf16", 0.97, marks=pytest.mark.slow),
    ],
)
def test_an_engine_computes_what_the_network_does(trained, plain, engine, precision, least):
    made = engine_for(trained, engine, precision, "cpu")
    assert (made.name, made.precision, made.device) == (engine, precision, "cpu")
    check(made, plain, least)
    if engine == "openvino":
        kinds = Counter(node.get_type_name() for node in made._model.get_ordered_ops())
        slopes = sum(isinstance(layer, nn.PReLU) for layer in trained.segmenter().modules())
        assert kinds["PRelu"] > slopes, "of a concatenation each part has one"
        assert not kinds["Select"], "as which OpenVINO's conversion writes a PReLU"


@pytest.mark.slow
def test_compiled(trained, plain):
    check(engine_for(trained, "compile", "float32", "cpu"), plain, sizes=((64, 96, 1), (71, 101, 1)))


class TestFolding:
    def test_every_norm_after_convolutions_is_folded(self, trained, plain):
        segmenter = trained.segmenter()
        # Each block has two; three norms stand after a concatenation with an image, or with earlier features.
        assert fold_batchnorm(segmenter) == 3 + 2 * 4
        assert sum(isinstance(m, nn.BatchNorm2d) for m in segmenter.modules()) == 3
        image = pixels(64, 96, 2)
        with torch.inference_mode():
            assert torch.allclose(segmenter(image), plain(image), atol=1e-4)

    @pytest.mark.parametrize("residual", [True, False])
    def test_a_convolution_that_is_used_twice_is_left_alone(self, residual):
        class Other(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 4, 3, padding=1)
                self.norm = nn.BatchNorm2d(4)

            def forward(self, x):
                y = self.conv(x)
                return self.norm(y) + y if residual else self.norm(self.conv(y[:, :3]))

        network = Other()
        network.norm.running_mean.normal_()
        segmenter = Segmenter(network, [100.0] * 3, [50.0] * 3).eval()
        image = pixels(40, 40)
        before = segmenter(image)
        assert fold_batchnorm(segmenter) == 0
        assert segmenter.network.norm is network.norm
        assert torch.equal(segmenter(image), before)

    def test_the_trained_network_itself_is_untouched(self, trained):
        before = {key: value.clone() for key, value in trained.weights.items()}
        engine_for(trained, "torch")(pixels(64, 64))
        assert all(torch.equal(value, before[key]) for key, value in trained.weights.items())


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"input_injection": False},
        {"surrounding": False, "activation": "relu"},
        {"global_context": False, "residual": "none", "classifier_bias": True},
        {"residual": "local", "num_blocks": [3, 2], "channels": [8, 16, 24]},
    ],
    ids=str,
)
def test_cgnet_without_concatenations_is_the_same(change):
    torch.manual_seed(0)
    network = CGNet(num_classes=5, **{"num_blocks": [2, 2]} | change).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            layer.bias.data.normal_()
    image = torch.randn(2, 3, 71, 90)
    with torch.no_grad():
        expected = network(image)
        found = SplitCGNet(network)(image)
    assert torch.allclose(found, expected, atol=1e-4)
    assert expected.std() > 0.01


class TestChoice:
    def test_auto_is_pytorch_for_few_images_and_openvino_for_many(self, trained, monkeypatch):
        monkeypatch.setattr(choice, "_openvino", lambda *_: SimpleNamespace(name="openvino"))
        on_gpu = torch.cuda.is_available()
        assert engine_for(trained).name == "torch"
        assert engine_for(trained, images=MANY - 1).name == "torch"
        assert engine_for(trained, images=MANY).name == ("torch" if on_gpu else "openvino")

    def test_auto_without_openvino(self, trained, monkeypatch):
        monkeypatch.setattr(choice, "find_spec", lambda name: None)
        assert engine_for(trained, images=MANY).name == "torch"

    def test_an_engine_that_disagrees_is_left(self, trained, plain, monkeypatch, caplog):
        class Wrong:
            name, precision, device = "openvino", "float32", "cpu"

            def class_map(self, image):
                return torch.zeros(len(image), *image.shape[-2:], dtype=torch.uint8)

        monkeypatch.setattr(choice, "_openvino", lambda *_: Wrong())
        engine = engine_for(trained, device="cpu", images=MANY)
        check(engine, plain)
        assert engine.name == "torch"
        assert "openvino gives other classes" in caplog.text

    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            ({"engine": "tensorrt"}, ["engine=tensorrt", "openvino"]),
            ({"precision": "half"}, ["precision=half", "bf16"]),
            ({"precision": "fp16"}, ["precision=fp16", "bf16"]),
            ({"precision": "bf16", "engine": "onnxruntime"}, ["precision=bf16", "float32"]),
            ({"device": "gpu"}, ["device=gpu", "cuda"]),
            ({"device": "cuda:77"}, ["device=cuda:77", "no such device"]),
            ({"device": "cpu:1"}, ["device=cpu:1"]),
        ],
    )
    def test_what_cannot_be_had_is_an_error(self, trained, arguments, parts):
        keys = {"device": "cpu"} | arguments
        with pytest.raises(UserError) as error:
            engine_for(trained, **keys)
        assert all(part in error.value.text for part in parts)

    @pytest.mark.parametrize(
        ("engine", "package"),
        [("onnxruntime", "onnxruntime"), ("openvino", "openvino"), ("onnxruntime", "onnxscript")],
    )
    def test_a_missing_package_is_named(self, trained, monkeypatch, engine, package):
        import_ = builtins.__import__

        def without(name, *arguments):
            if name.partition(".")[0] == package:
                raise ImportError(name)
            return import_(name, *arguments)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(UserError, match=rf"{package}.*\[deploy\]"):
            engine_for(trained, engine).class_map(pixels(64, 64))


def test_values_that_overflow_are_an_error(trained):
    weights = trained.weights | {"network.classifier.weight": torch.full((5, 256, 1, 1), 3e38)}
    with pytest.raises(UserError, match=r"here\.ckpt.*NaN or infinite"):
        engine_for(replace(trained, weights=weights), "torch").class_map(pixels(64, 64))
