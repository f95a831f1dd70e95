"""CGNet with concatenations after the layers that follow them, or without any: the same up to rounding.

An activation of concatenated features is that of each, and a convolution is the sum of the convolutions of
each. In OpenVINO this saves a tenth of the time of CGNet in float32 for the three large convolutions, and a
twentieth for the blocks: it copies features to concatenate them, changes their format, and can compute an
activation together with a convolution only if it follows directly.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.network.cgnet import CGNet, ContextGuidedBlock, ConvNormAct, NormAct


class SplitCGNet(nn.Module):
    """Takes over the parts of a CGNet in eval mode, which cannot be used alone any more."""

    def __init__(self, network: CGNet):
        super().__init__()
        self.network = network
        self.min_size = network.min_size
        downs = (network.stage2_down, network.stage3_down)
        self.project_1, self.project_2 = (down.project for down in downs)
        for down in downs:
            down.project = nn.Identity()
        for block in network.modules():
            if isinstance(block, ContextGuidedBlock):
                block.__class__ = _SplitBlock  # with all that it has

    def forward(self, image: Tensor) -> Tensor:
        net = self.network
        x = net.stage1(image)
        half = [net.pool(image)] if net.input_injection else []
        quarter = [net.pool(i) for i in half]
        first = net.stage2_down(_project(self.project_1, net.norm_act_1, [x, *half]))
        last = net.stage2(first)
        first = net.stage3_down(_project(self.project_2, net.norm_act_2, [last, first, *quarter]))
        last = net.stage3(first)
        return _convolve(net.classifier, net.norm_act_3, [first, last])


class _SplitBlock(ContextGuidedBlock):
    def join(self, contexts: list[Tensor]) -> Tensor:
        if isinstance(self.reduce, nn.Conv2d):
            return _convolve(self.reduce, self.f_joi, contexts)
        return torch.cat([part for part, _ in _norm_act(self.f_joi, contexts)], 1)


def _project(projection: ConvNormAct, before: NormAct, parts: Sequence[Tensor]) -> Tensor:
    """projection(before(torch.cat(parts, 1)))"""
    return projection.act(projection.norm(_convolve(projection.conv, before, parts)))


def _convolve(convolution: nn.Conv2d, before: NormAct, parts: Sequence[Tensor]) -> Tensor:
    """convolution(before(torch.cat(parts, 1)))"""
    total: Tensor | None = None
    for part, own in _norm_act(before, parts):
        bias = convolution.bias if total is None else None
        weight = convolution.weight[:, own]
        result = F.conv2d(part, weight, bias, convolution.stride, convolution.padding)
        total = result if total is None else total + result
    assert total is not None
    return total


def _norm_act(before: NormAct, parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, slice]]:
    """The parts of before(torch.cat(parts, 1)), with their channels. BatchNorm may have been folded."""
    norm, act = before.norm, before.act
    start = 0
    for part in parts:
        own = slice(start, start := start + part.shape[1])
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            statistics = norm.running_mean[own], norm.running_var[own]
            part = F.batch_norm(part, *statistics, norm.weight[own], norm.bias[own], eps=norm.eps)
        yield F.prelu(part, act.weight[own]) if isinstance(act, nn.PReLU) else act(part), own
