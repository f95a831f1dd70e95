import itertools

import pytest
import torch
import torch.nn.functional as F

from src.network.cgnet import CGNet, ContextGuidedBlock
from src.network.pixelwise import PixelwiseClassifier

SMALL = {"num_classes": 5, "num_blocks": (2, 3), "channels": (8, 16, 32), "reductions": (4, 8)}


def count(network):
    return sum(p.numel() for p in network.parameters())


def randomize(module, seed=0):
    """Weights and BatchNorm statistics under which no term of the network is near 0 or near 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var"):
            noise = noise.abs() + 0.5
        elif value.ndim == 4:
            noise = noise * (2 / value[0].numel()) ** 0.5
        elif name.endswith("norm.weight"):
            noise = 1 + 0.3 * noise
        else:
            noise = 0.3 * noise
        value.copy_(noise)
    return module


def wake_hidden_units(network):
    """f_glo's few hidden ReLU units may all happen to be off, and then learn nothing in one step."""
    for name, parameter in network.named_parameters():
        if name.endswith("fc1.bias"):
            torch.nn.init.constant_(parameter, 3)


# The network once more, from the paper's equations and with nothing of ours but the names of the weights.


def reference_norm_act(x, w, prefix, eps):
    shape = (1, -1, 1, 1)
    mean, var = (w[f"{prefix}norm.running_{e}"].view(shape) for e in ("mean", "var"))
    x = (x - mean) / (var + eps).sqrt()
    x = x * w[f"{prefix}norm.weight"].view(shape) + w[f"{prefix}norm.bias"].view(shape)
    slope = w.get(f"{prefix}act.weight", torch.zeros(1)).view(shape)
    return x.clamp(min=0) + slope * x.clamp(max=0)


def reference_block(x, w, prefix, dilation, eps, down=False):
    y = F.conv2d(x, w[f"{prefix}project.conv.weight"], stride=2 if down else 1, padding=1 if down else 0)
    y = reference_norm_act(y, w, f"{prefix}project.", eps)
    groups = y.shape[1]
    local = F.conv2d(y, w[f"{prefix}f_loc.weight"], padding=1, groups=groups)
    surrounding = F.conv2d(y, w[f"{prefix}f_sur.weight"], padding=dilation, dilation=dilation, groups=groups)
    joint = reference_norm_act(torch.cat([local, surrounding], 1), w, f"{prefix}f_joi.", eps)
    if down:
        joint = F.conv2d(joint, w[f"{prefix}reduce.weight"])
    fc = {key: w[f"{prefix}f_glo.{key}"] for key in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")}
    hidden = (
        torch.einsum("bchw,oc->bo", joint, fc["fc1.weight"]) / joint[0, 0].numel() + fc["fc1.bias"]
    ).relu()
    weight = 1 / (1 + (-(hidden @ fc["fc2.weight"].T + fc["fc2.bias"])).exp())
    refined = joint * weight.unsqueeze(-1).unsqueeze(-1)
    return refined if down else x + refined


def reference_cgnet(image, w, num_blocks, dilations, eps=1e-3):
    half = F.avg_pool2d(image, 3, 2, 1)
    quarter = F.avg_pool2d(half, 3, 2, 1)
    x = image
    for i in range(3):
        x = F.conv2d(x, w[f"stage1.{i}.conv.weight"], stride=2 if i == 0 else 1, padding=1)
        x = reference_norm_act(x, w, f"stage1.{i}.", eps)
    x = reference_norm_act(torch.cat([x, half], 1), w, "norm_act_1.", eps)
    ends = []
    for stage, number, dilation in zip((2, 3), num_blocks, dilations, strict=True):
        first = last = reference_block(x, w, f"stage{stage}_down.", dilation, eps, down=True)
        for i in range(number - 1):
            last = reference_block(last, w, f"stage{stage}.{i}.", dilation, eps)
        ends.append((first, last))
        if stage == 2:
            x = reference_norm_act(torch.cat([last, first, quarter], 1), w, "norm_act_2.", eps)
    x = reference_norm_act(torch.cat(ends[1], 1), w, "norm_act_3.", eps)
    return F.conv2d(x, w["classifier.weight"])


@pytest.mark.parametrize("down", [False, True])
def test_block_follows_the_paper(down):
    block = randomize(ContextGuidedBlock(10, 10, dilation=3, reduction=2, down=down)).double().eval()
    x = torch.randn(2, 10, 13, 18, dtype=torch.float64)
    expected = reference_block(x, block.state_dict(), "", dilation=3, eps=1e-3, down=down)
    torch.testing.assert_close(block(x), expected)
    assert expected.std() > 0.1


@pytest.mark.parametrize(
    ("activation", "num_blocks"), [("prelu", (3, 4)), ("relu", (2, 2)), ("prelu", (1, 1))]
)
def test_network_follows_the_paper(activation, num_blocks):
    network = CGNet(
        **{**SMALL, "num_blocks": num_blocks}, dilations=(3, 2), activation=activation, norm_eps=0.02
    )
    randomize(network).double().eval()
    image = torch.randn(2, 3, 45, 64, dtype=torch.float64)
    expected = reference_cgnet(image, network.state_dict(), num_blocks, (3, 2), eps=0.02)
    torch.testing.assert_close(network(image), expected)


def test_parameter_counts_are_the_published_ones():
    assert count(CGNet()) == 496_306
    assert count(CGNet(num_classes=11)) == 494_258
    assert count(CGNet(classifier_bias=True)) == 496_325
    assert len(list(CGNet().parameters())) == 336


def test_without_f_sur_the_number_of_parameters_stays():
    assert count(CGNet(surrounding=False)) == count(CGNet())
    keys = CGNet(surrounding=False).state_dict()
    assert not any("f_sur" in key for key in keys)


def test_dilation_reaches_f_sur_alone():
    convolutions = {n: m for n, m in CGNet().named_modules() if isinstance(m, torch.nn.Conv2d)}
    for name, module in convolutions.items():
        dilation = {"stage2": 2, "stage3": 4}[name[:6]] if "f_sur" in name else 1
        assert module.dilation == (dilation, dilation), name


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (65, 129), (40, 32), (100, 71), (39, 57)])
def test_output_is_an_eighth_rounded_up(size):
    network = CGNet(**SMALL).eval()
    with torch.no_grad():
        shape = network(torch.zeros(1, 3, *size)).shape
    assert shape == (1, 5, -(-size[0] // 8), -(-size[1] // 8))


ABLATIONS = [
    dict(zip(("surrounding", "global_context", "input_injection", "residual"), values, strict=True))
    for values in itertools.product((True, False), (True, False), (True, False), ("global", "local", "none"))
]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda e: "-".join(str(v) for v in e.values()))
def test_every_ablation_learns_with_all_its_parameters(ablation):
    torch.manual_seed(0)
    network = CGNet(**SMALL, **ablation, dropout=0.1, classifier_bias=True)
    wake_hidden_units(network)
    logits = network(torch.randn(2, 3, 48, 48))
    (logits * torch.randn_like(logits)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_ablations_take_away_what_they_name():
    image = torch.randn(1, 3, 48, 64)
    outputs = {}
    for name, change in {
        "full": {},
        "residual local": {"residual": "local"},
        "residual none": {"residual": "none"},
        "no f_glo": {"global_context": False},
    }.items():
        network = CGNet(**SMALL, **change).eval()
        own = set(network.state_dict())
        weights = {k: v for k, v in randomize(CGNet(**SMALL)).state_dict().items() if k in own}
        network.load_state_dict(weights)
        outputs[name] = network(image)
    for a, b in itertools.combinations(outputs, 2):
        assert not torch.allclose(outputs[a], outputs[b], rtol=1e-2), (a, b)


def test_local_residual_joins_before_f_glo():
    block = randomize(ContextGuidedBlock(8, 8, 2, 2, residual="local")).eval()
    plain = randomize(ContextGuidedBlock(8, 8, 2, 2, residual="none", global_context=False)).eval()
    plain.load_state_dict(block.state_dict(), strict=False)
    x = torch.randn(1, 8, 12, 12)
    torch.testing.assert_close(block(x), block.f_glo(x + plain(x)))


def test_state_dict_round_trip():
    first, second = randomize(CGNet(**SMALL)).eval(), CGNet(**SMALL).eval()
    image = torch.randn(1, 3, 40, 56)
    assert not torch.equal(first(image), second(image))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(image), second(image))


def test_convolutions_start_kaiming_normal():
    torch.manual_seed(0)
    network = CGNet()
    for weight in (network.stage1[0].conv.weight, network.stage3_down.reduce.weight):
        fan_in = weight[0].numel()  # 27 and 256; fan out would be 288 and 128
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
    bias = CGNet(classifier_bias=True).classifier.bias
    assert not bias.any()


def test_dropout_blanks_channels_in_training_alone():
    network = CGNet(**SMALL, dropout=0.5)
    seen = {}
    network.classifier.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
    network(torch.randn(4, 3, 40, 40))
    blank = (seen["x"] == 0).all((2, 3))
    assert 0.3 < blank.float().mean() < 0.7
    network.eval()(torch.randn(4, 3, 40, 40))
    assert not (seen["x"] == 0).all((2, 3)).any()


def test_lists_do_as_well_as_tuples():
    assert (
        count(CGNet(num_blocks=[3, 21], channels=[32, 64, 128], dilations=[2, 4], reductions=[8, 16]))
        == 496_306
    )


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("num_classes", 0),
        ("num_classes", 256),
        ("num_classes", 19.0),
        ("num_blocks", (0, 21)),
        ("num_blocks", (3,)),
        ("num_blocks", 3),
        ("channels", (32, 63, 128)),
        ("channels", "abc"),
        ("dilations", (2, 0)),
        ("reductions", (8, 129)),
        ("norm_eps", 0),
        ("norm_eps", "1e-3"),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("surrounding", "false"),
        ("global_context", 1),
        ("input_injection", None),
        ("classifier_bias", "yes"),
        ("activation", "gelu"),
        ("residual", True),
    ],
)
def test_a_bad_value_is_named(argument, value):
    with pytest.raises(ValueError, match="expected") as error:
        CGNet(**{argument: value})
    assert f"{argument}={value!r}" in str(error.value)


def test_pixelwise_sees_one_pixel():
    network = randomize(PixelwiseClassifier(7, channels=[16, 8])).eval()
    image = torch.randn(1, 3, 5, 9)
    changed = image.clone()
    changed[..., 2, 3] += 1
    difference = (network(image) != network(changed)).any(1)[0]
    assert network(image).shape == (1, 7, 5, 9)
    assert difference.nonzero().tolist() == [[2, 3]]
    with pytest.raises(ValueError, match=r"channels=\(\)"):
        PixelwiseClassifier(7, channels=())
