import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from src.errors import UserError
from src.network.cgnet import CGNet
from src.network.segmenter import Segmenter

MEAN, STD = [70.0, 80.0, 90.0], [2.0, 3.0, 4.0]
NETWORK = {
    "_target_": "src.network.cgnet.CGNet",
    "num_classes": 5,
    "num_blocks": [2, 2],
    "channels": [8, 16, 32],
    "reductions": [4, 8],
}
CONFIG = {**NETWORK, "preprocessing": {"mean": MEAN, "std": STD}}


def pixels(*size, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    return Segmenter.from_config(CONFIG).eval()


@pytest.mark.parametrize("size", [(32, 32), (45, 67)])
def test_is_normalise_network_upsample(segmenter, size):
    image = pixels(*size)
    normalized = (image.double() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(segmenter.normalize(image), normalized.float())
    expected = F.interpolate(segmenter.network(normalized.float()), size=size, mode="bilinear")
    logits = segmenter(image)
    assert logits.shape == (2, 5, *size)
    torch.testing.assert_close(logits, expected)


def test_class_map_is_the_best_class(segmenter):
    image = pixels(45, 67)
    classes = segmenter.class_map(image)
    assert classes.dtype == torch.uint8
    assert classes.is_inference()
    assert torch.equal(classes, segmenter(image).argmax(1))
    assert len(classes.unique()) > 1


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (8, 8)])
def test_a_small_image_is_refused(size):
    with pytest.raises(ValueError, match=rf"{size[0]}x{size[1]} pixels.*32x32"):
        Segmenter.from_config(CONFIG)(pixels(*size))


def test_class_map_refuses_training_mode():
    with pytest.raises(RuntimeError, match="eval"):
        Segmenter.from_config(CONFIG).train().class_map(pixels(32, 32))


def test_mean_and_std_are_rgb_whatever_the_network_sees():
    network = CGNet(num_classes=5, num_blocks=(1, 1)).eval()
    image = pixels(40, 40)
    rgb = Segmenter(network, MEAN, STD, "rgb").normalize(image)
    bgr = Segmenter(network, MEAN, STD, "bgr").normalize(image)
    red = (image[:, 0].float() - MEAN[0]) / STD[0]
    assert torch.equal(rgb[:, 0], red)
    assert torch.equal(bgr[:, 2], red)
    assert torch.equal(bgr[:, 1], rgb[:, 1])
    swapped = Segmenter(network, MEAN[::-1], STD[::-1], "rgb")(image.flip(1))
    torch.testing.assert_close(Segmenter(network, MEAN, STD, "bgr")(image), swapped)


def test_state_dict_holds_the_weights_alone(segmenter):
    assert set(segmenter.state_dict()) == {f"network.{key}" for key in segmenter.network.state_dict()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_only_uint8_is_taken(segmenter, dtype):
    with pytest.raises(TypeError, match=r"expected torch\.uint8"):
        segmenter(pixels(32, 32).to(dtype))


def test_a_wrong_shape_is_named(segmenter):
    with pytest.raises(ValueError, match=r"\(3, 32, 32\).*\(batch, 3, height, width\)"):
        segmenter(pixels(32, 32)[0])
    with pytest.raises(ValueError, match=r"\(2, 32, 32, 3\)"):
        segmenter(pixels(32, 32).permute(0, 2, 3, 1))


def test_autocast_upsamples_in_float32(segmenter):
    image = pixels(40, 48)
    seen = {}
    handle = segmenter.network.register_forward_hook(lambda *args: seen.update(logits=args[2]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = segmenter(image)
    handle.remove()
    assert seen["logits"].dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    expected = F.interpolate(seen["logits"].float(), size=(40, 48), mode="bilinear")
    assert torch.equal(logits, expected)


def test_training_reaches_every_weight():
    torch.manual_seed(0)
    segmenter = Segmenter.from_config({**CONFIG, "global_context": False}).train()
    F.cross_entropy(segmenter(pixels(48, 48)), torch.randint(0, 5, (2, 48, 48))).backward()
    assert all(p.grad is not None and p.grad.any() for p in segmenter.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_compiles_in_one_graph(training):
    torch.manual_seed(0)
    segmenter = Segmenter.from_config({**CONFIG, "num_blocks": [1, 2]}).train(training)
    compiled = torch.compile(segmenter, fullgraph=True, backend="eager")
    for size in [(32, 40)] if training else [(32, 40), (45, 67)]:
        image = pixels(*size)
        torch.testing.assert_close(compiled(image), segmenter(image))


def test_exports_with_any_batch_and_size(segmenter):
    sizes = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("height", min=32),
        3: torch.export.Dim("width", min=32),
    }
    program = torch.export.export(segmenter, (pixels(64, 96),), dynamic_shapes=(sizes,)).module()
    for image in (pixels(64, 96), pixels(33, 47, batch=1)):
        torch.testing.assert_close(program(image), segmenter(image))


def test_config_may_be_an_omegaconf(segmenter):
    built = Segmenter.from_config(OmegaConf.create(CONFIG)).eval()
    built.load_state_dict(segmenter.state_dict())
    assert torch.equal(built(pixels(32, 32)), segmenter(pixels(32, 32)))


def test_config_builds_the_baseline_and_is_not_changed():
    config = {
        "_target_": "src.network.pixelwise.PixelwiseClassifier",
        "preprocessing": dict(CONFIG["preprocessing"]),
    }
    config["preprocessing"]["channel_order"] = "bgr"
    before = repr(config)
    segmenter = Segmenter.from_config(config)
    assert segmenter.channel_order == "bgr"
    assert segmenter(pixels(32, 32)).shape == (2, 19, 32, 32)
    assert repr(config) == before


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.nn.Linear",
        "src.errors.UserError",
        "src.network.segmenter.Segmenter",  # wraps a network, is none
        "src.network.cgnet.nn.Linear",
        "src.network.cgnet.Tensor",
        "src.network.cgnet.partial",
        "src.network.build.importlib.import_module",
        "src.network.build.build_network",
        "src.network.nowhere.CGNet",
        "src.network.cgnet.Nothing",
        "src.network.",
        "src.network..cgnet.CGNet",
        "src.networks.cgnet.CGNet",
        "CGNet",
        "",
        None,
        3,
        ["src.network.cgnet.CGNet"],
    ],
)
def test_a_foreign_target_is_refused(target):
    with pytest.raises(UserError, match="expected the dotted path of a network class") as error:
        Segmenter.from_config({**CONFIG, "_target_": target})
    assert f"_target_={target!r}" in error.value.text


def test_a_foreign_target_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError):
        Segmenter.from_config({**CONFIG, "_target_": "trap.Network"})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num_clases": 3}, "unknown argument 'num_clases'; did you mean num_classes?"),
        ({"num_classes": 0}, "num_classes=0 is not allowed"),
        ({"channels": ["a", 1, 2]}, "channels="),
        ({"preprocessing": None}, "preprocessing: expected keys and values"),
        ({"preprocessing": {"mean": MEAN}}, "preprocessing: missing argument std"),
        (
            {"preprocessing": {"mean": MEAN, "std": STD, "order": "rgb"}},
            "preprocessing: unknown argument 'order'",
        ),
        (
            {"preprocessing": {"mean": MEAN, "std": STD, "network": 1}},
            "preprocessing: unknown argument 'network'",
        ),
        ({"preprocessing": {"mean": MEAN, "std": [1, 0, 1]}}, "std=0 is not allowed"),
        ({"preprocessing": {"mean": [1, 2], "std": STD}}, "mean=[1, 2] is not allowed"),
        ({"preprocessing": {"mean": MEAN, "std": STD, "channel_order": "gbr"}}, "channel_order='gbr'"),
        ({"_target_": "src.network.cgnet.ContextGuidedBlock"}, "unknown argument 'num_classes'"),
    ],
)
def test_a_fault_in_the_config_is_named(change, text):
    with pytest.raises(UserError) as error:
        Segmenter.from_config({**CONFIG, **change})
    assert text in error.value.text


def test_a_missing_argument_is_named():
    with pytest.raises(UserError, match="missing argument inputs, outputs, dilation, reduction"):
        Segmenter.from_config(
            {"_target_": "src.network.cgnet.ContextGuidedBlock", "preprocessing": CONFIG["preprocessing"]}
        )
