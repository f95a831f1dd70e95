"""Depthwise convolution with a fast backward pass on CPUs.

In channels_last format, PyTorch 2.13's weight gradient with dilation 2 or 4 takes 19 or 42 times as long as
without dilation (measured here, in stages 2 and 3 of CGNet). In bfloat16 it is wrong, and may be NaN.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NHWC = torch.channels_last


class DepthwiseConv2d(nn.Conv2d):
    """3x3, stride 1, output as large as the input, without bias; `channels` is a multiple of `inputs`.

    Weights, keys and output are those of nn.Conv2d(groups=inputs). So are the gradients, bit for bit; only
    with an input in channels_last format on a CPU they differ by rounding.
    """

    def __init__(self, inputs: int, channels: int, dilation: int):
        super().__init__(inputs, channels, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or not _is_nhwc(input) or self.in_channels != self.out_channels:
            return super().forward(input)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            input, weight = input.to(kind), weight.to(kind)
        return _Depthwise.apply(input, weight, self.dilation[0])


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return F.conv2d(x, weight, padding=dilation, dilation=dilation, groups=len(weight))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dilation, channels = ctx.dilation, len(weight)
        gradient = gradient.contiguous(memory_format=NHWC)
        # The gradient of a convolution's input is a convolution, too, with the weights flipped.
        of_x = F.conv2d(gradient, weight.flip(2, 3), padding=dilation, dilation=dilation, groups=channels)
        # For the weights' gradient, pixels that lie `dilation` apart form separate images without dilation.
        x, gradient = _interleaved(x, dilation), _interleaved(gradient, dilation)
        _, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], channels, [False, True, False]
        )
        return of_x, of_weight, None


def _interleaved(x: Tensor, step: int) -> Tensor:
    """(B, C, H, W) -> (B * step * step, C, ceil(H / step), ceil(W / step)), channels_last; zero-padded."""
    if step == 1:
        return x
    batch, channels, height, width = x.shape
    x = F.pad(x, (0, -width % step, 0, -height % step))
    rows, columns = x.shape[2] // step, x.shape[3] // step
    x = x.permute(0, 2, 3, 1).reshape(batch, rows, step, columns, step, channels)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)


def _is_nhwc(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=NHWC) and not x.is_contiguous()
