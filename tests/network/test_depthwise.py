"""DepthwiseConv2d is nn.Conv2d with another backward pass."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from src.network.cgnet import CGNet
from src.network.depthwise import DepthwiseConv2d
from src.network.segmenter import Segmenter

NHWC = torch.channels_last


def drawn(*size, format=NHWC, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    return torch.randn(*size, dtype=dtype).contiguous(memory_format=format)


def stock(layer):
    conv = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        3,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=False,
    )
    conv.load_state_dict(layer.state_dict())
    return conv


def gradients(layer, x, of_output):
    x = x.detach().requires_grad_()
    output = layer(x)
    return output, *torch.autograd.grad(output, [x, layer.weight], of_output)


@pytest.mark.parametrize("dilation", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(2, 6, 17, 23), (3, 4, 8, 12), (1, 5, 3, 2), (2, 1, 9, 9), (1, 8, 1, 7)])
@pytest.mark.parametrize("format", [NHWC, torch.contiguous_format], ids=["NHWC", "NCHW"])
def test_output_and_gradients_are_those_of_conv2d(dilation, size, format):
    layer = DepthwiseConv2d(size[1], size[1], dilation).double()
    x, of_output = drawn(*size, format=format), drawn(*size, format=format, seed=1)
    for one, other in zip(
        gradients(layer, x, of_output), gradients(stock(layer).double(), x, of_output), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_numerically():
    layer = DepthwiseConv2d(2, 2, 2).double()
    x = drawn(2, 2, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, weight: torch.func.functional_call(layer, {"weight": weight}, (x,)), (x, layer.weight)
    )


def test_a_multiple_of_the_channels():
    layer = DepthwiseConv2d(3, 6, 1).double()
    x, of_output = drawn(2, 3, 7, 8), drawn(2, 6, 7, 8, seed=1)
    for one, other in zip(
        gradients(layer, x, of_output), gradients(stock(layer).double(), x, of_output), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dilation", [2, 4])
def test_bf16_is_right_where_torch_s_own_is_not(dilation):
    """NaN at random, or numbers that have nothing to do with it, is what PyTorch 2.13 makes here."""
    layer = DepthwiseConv2d(32, 32, dilation)
    x, of_output = (drawn(4, 32, 24, 30, dtype=torch.float32, seed=seed) for seed in (0, 1))
    x, of_output = (t.bfloat16() for t in (x, of_output))
    exact = gradients(stock(layer).double(), x.double(), of_output.double())
    for _ in range(5):
        with torch.autocast("cpu", torch.bfloat16):
            found = gradients(layer, x, of_output)
        for one, other in zip(found, exact, strict=True):
            error = torch.linalg.vector_norm(one.double() - other) / torch.linalg.vector_norm(other)
            assert error < 1e-2


class Conversions(TorchDispatchMode):
    """Copies of feature maps into another memory format or floating-point type."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        name, given = function.overloadpacket.__name__, args[0] if args else None
        if isinstance(output, torch.Tensor) and output.ndim == 4 and isinstance(given, torch.Tensor):
            large = output.shape[0] > 1 and min(output.shape[2:]) > 3  # no weights
            moved = given.is_contiguous() != output.is_contiguous()  # the others are NHWC, or slices of it
            cast = name == "_to_copy" and given.dtype != output.dtype
            if large and name in ("clone", "_to_copy", "cat", "copy_") and (moved or cast):
                self.found.append((name, given.dtype, output.dtype, tuple(output.shape)))
        return output


@pytest.mark.parametrize("bf16", [False, True])
def test_one_format_and_one_type_from_the_image_to_the_logits(bf16):
    """Forward and backward; entries are the image and, in bf16, the pooled images that are injected."""
    torch.manual_seed(0)
    network = Segmenter(CGNet(num_classes=5, num_blocks=(3, 3)), [0.0] * 3, [255.0] * 3).train()
    network.channels_last()
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with Conversions() as forward, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = network.coarse_logits(image)
    with Conversions() as backward:
        logits.sum().backward()
    entries = [shape for _, _, _, shape in forward.found if shape[1] == 3]
    others = [found for found in forward.found + backward.found if found[-1][1] not in (3, 5)]
    assert not others, others
    assert len(entries) == (3 if bf16 else 1), entries
    assert logits.is_contiguous(memory_format=NHWC)


@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_a_network_in_nhwc_is_the_same_network(size):
    torch.manual_seed(0)
    one = Segmenter(CGNet(num_classes=5, num_blocks=(3, 3)), [0.0] * 3, [255.0] * 3).double().train()
    other = copy.deepcopy(one).channels_last()
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    outputs = [network(image) for network in (one, other)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().mean().backward()
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
