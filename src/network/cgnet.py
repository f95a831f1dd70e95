"""CGNet: a light-weight Context Guided Network for semantic segmentation.

Wu, Tang, Zhang, Cao, Zhang: "CGNet: A Light-weight Context Guided Network for Semantic Segmentation", IEEE
Transactions on Image Processing 30, 2020 (arXiv 1811.08201). Names are the paper's; the structure is that of
the authors' code (github.com/wutianyiRosun/CGNet), so that published weights fit: 496,306 parameters with 19
classes, 494,258 with 11.

In the comments on shapes H/2 stands for ceil(H/2), and so on.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from src.network import checks
from src.network.depthwise import DepthwiseConv2d


def activation_layer(name: str, channels: int) -> nn.Module:
    """A PReLU has one slope per channel."""
    return nn.PReLU(channels) if name == "prelu" else nn.ReLU()


class NormAct(nn.Sequential):
    def __init__(self, channels: int, norm_eps: float, activation: str):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, norm_eps)
        self.act = activation_layer(activation, channels)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, BatchNorm, activation; the output has ceil(size / stride) pixels a side."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, norm_eps: float, activation: str):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, norm_eps)
        self.act = activation_layer(activation, outputs)


class GlobalContext(nn.Module):
    """f_glo: weighs each channel by what the whole image looks like (squeeze and excitation)."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, joint: Tensor) -> Tensor:
        # Not AdaptiveAvgPool2d, whose backward on CUDA is not deterministic.
        context = joint.mean((2, 3))  # (B, C)
        weight = torch.sigmoid(self.fc2(torch.relu(self.fc1(context))))  # (B, C), in (0, 1)
        return joint * weight[:, :, None, None]


class ContextGuidedBlock(nn.Module):
    """CG block: f_loc and f_sur side by side, joined by f_joi, refined by f_glo.

    With `down` it halves height and width: a 3x3 convolution with stride 2 takes the place of the 1x1
    projection, f_loc and f_sur run on all `outputs` channels instead of half of them, a 1x1 convolution
    brings the joint feature back to `outputs`, and there is no residual. Otherwise a residual needs `inputs`
    equal to `outputs`.

    Without `surrounding`, f_loc makes all channels of the joint feature, two for each channel it sees: the
    number of parameters stays the same, and only the reach of half the filters changes.

    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        dilation: int,
        reduction: int,
        *,
        down: bool = False,
        surrounding: bool = True,
        global_context: bool = True,
        residual: str = "global",
        activation: str = "prelu",
        norm_eps: float = 1e-3,
    ):
        super().__init__()
        width = outputs if down else outputs // 2
        joint = 2 * width

        kernel, stride = (3, 2) if down else (1, 1)
        self.project = ConvNormAct(inputs, width, kernel, stride, norm_eps, activation)
        self.f_loc = DepthwiseConv2d(width, width if surrounding else joint, dilation=1)
        self.f_sur = DepthwiseConv2d(width, width, dilation) if surrounding else None
        self.f_joi = NormAct(joint, norm_eps, activation)
        self.reduce = nn.Conv2d(joint, outputs, 1, bias=False) if down else nn.Identity()
        self.f_glo = GlobalContext(outputs, reduction) if global_context else nn.Identity()
        self.residual = "none" if down else residual

    def forward(self, x: Tensor) -> Tensor:
        projected = self.project(x)  # (B, C/2, H, W); down: (B, C, H/2, W/2)
        contexts = [self.f_loc(projected)]
        if self.f_sur is not None:
            contexts.append(self.f_sur(projected))
        joint = self.join(contexts)  # (B, C, H, W); down: (B, C, H/2, W/2)
        if self.residual == "local":
            joint = x + joint
        refined = self.f_glo(joint)
        return x + refined if self.residual == "global" else refined

    def join(self, contexts: list[Tensor]) -> Tensor:
        """The joint feature of f_loc and f_sur; down: of 2C channels, brought back to C."""
        return self.reduce(self.f_joi(torch.cat(contexts, 1)))


class CGNet(nn.Module):
    """Normalised image, float (B, 3, H, W) with H, W >= 32 -> logits (B, num_classes, H/8, W/8).

    num_classes        1 to 255; class maps are uint8, and 255 is kept for ignored pixels
    num_blocks         (M, N): CG blocks in stages 2 and 3, the down-sampling one included; at most 128 each
    channels           of stages 1, 2 and 3; those of stages 2 and 3 even
    dilations          of f_sur in stages 2 and 3
    reductions         of f_glo in stages 2 and 3: its hidden layer has channels // reduction units
    norm_eps           of every BatchNorm
    classifier_bias    the authors' classifier has none, mmsegmentation's has one
    dropout            rate of the Dropout2d before the classifier
    surrounding        False: without f_sur; f_loc carries all the channels
    global_context     False: without f_glo
    input_injection    False: stages 2 and 3 do not see the down-sampled image
    activation         "prelu" or "relu"
    init               the first weights. "authors": Kaiming normal by fan in for convolutions, PyTorch's own
                       for the rest; "torch": PyTorch's own, as SSSegmentation; "mmsegmentation": Kaiming
                       normal by fan out for convolutions and linear layers, slopes 0, classifier N(0, 0.01)
    residual           of the CG blocks that do not down-sample. "global": block input + output of f_glo, the
                       paper's choice; "local": block input + joint feature, before f_glo; "none"

    Raises ValueError for any other value.
    """

    min_size = 32
    """Smallest height and width. In stage 3 the taps of f_sur lie dilation 4 x stride 8 = 32 pixels apart: in
    a smaller image its surrounding context is nothing but padding."""

    def __init__(
        self,
        num_classes: int = 19,
        num_blocks: Sequence[int] = (3, 21),
        channels: Sequence[int] = (32, 64, 128),
        dilations: Sequence[int] = (2, 4),
        reductions: Sequence[int] = (8, 16),
        norm_eps: float = 1e-3,
        classifier_bias: bool = False,
        dropout: float = 0.0,
        surrounding: bool = True,
        global_context: bool = True,
        input_injection: bool = True,
        activation: str = "prelu",
        residual: str = "global",
        init: str = "authors",
    ):
        super().__init__()
        checks.integer("num_classes", num_classes, 1, 255)
        m, n = checks.positive_integers("num_blocks", num_blocks, 2, checks.MOST_BLOCKS)
        c1, c2, c3 = checks.positive_integers("channels", channels, 3)
        if c2 % 2 or c3 % 2:
            raise checks.refuse(
                "channels", channels, "even numbers for stages 2 and 3 (f_loc and f_sur share them)"
            )
        d2, d3 = checks.positive_integers("dilations", dilations, 2)
        r2, r3 = checks.positive_integers("reductions", reductions, 2)
        if r2 > c2 or r3 > c3:
            raise checks.refuse("reductions", reductions, f"at most the stage's channels, {c2} and {c3}")
        checks.number("norm_eps", norm_eps, "a number above 0", lowest=1e-30)
        checks.number("dropout", dropout, "a number from 0 to below 1", lowest=0, below=1)
        style: dict[str, Any] = {
            "norm_eps": norm_eps,
            "activation": checks.one_of("activation", activation, ("prelu", "relu")),
        }
        block: Any = partial(
            ContextGuidedBlock,
            surrounding=checks.switch("surrounding", surrounding),
            global_context=checks.switch("global_context", global_context),
            residual=checks.one_of("residual", residual, ("global", "local", "none")),
            **style,
        )
        self.input_injection = checks.switch("input_injection", input_injection)
        injected = 3 if input_injection else 0

        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.stage1 = nn.Sequential(
            ConvNormAct(3, c1, 3, 2, **style),
            ConvNormAct(c1, c1, 3, 1, **style),
            ConvNormAct(c1, c1, 3, 1, **style),
        )
        self.norm_act_1 = NormAct(c1 + injected, **style)
        self.stage2_down = block(c1 + injected, c2, d2, r2, down=True)
        self.stage2 = nn.Sequential(*(block(c2, c2, d2, r2) for _ in range(m - 1)))
        self.norm_act_2 = NormAct(2 * c2 + injected, **style)
        self.stage3_down = block(2 * c2 + injected, c3, d3, r3, down=True)
        self.stage3 = nn.Sequential(*(block(c3, c3, d3, r3) for _ in range(n - 1)))
        self.norm_act_3 = NormAct(2 * c3, **style)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(
            2 * c3, num_classes, 1, bias=checks.switch("classifier_bias", classifier_bias)
        )
        self._initialise(checks.one_of("init", init, ("authors", "torch", "mmsegmentation")))

    def _initialise(self, like: str) -> None:
        if like == "torch":
            return
        theirs = like == "mmsegmentation"
        for module in self.modules():
            if isinstance(module, nn.Conv2d) or (theirs and isinstance(module, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out" if theirs else "fan_in")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif theirs and isinstance(module, nn.PReLU):
                nn.init.zeros_(module.weight)
        if theirs:
            nn.init.normal_(self.classifier.weight, std=0.01)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stage1(image)  # (B, 32, H/2, W/2)
        # Under autocast x may have 16 bits: `cat` with an image of 32 bits would turn it into 32 bits again.
        half = [self.pool(image).to(x.dtype)] if self.input_injection else []  # (B, 3, H/2, W/2)
        quarter = [self.pool(i) for i in half]  # (B, 3, H/4, W/4)

        x = self.norm_act_1(torch.cat([x, *half], 1))  # (B, 35, H/2, W/2)

        first = self.stage2_down(x)  # (B, 64, H/4, W/4)
        last = self.stage2(first)
        x = self.norm_act_2(torch.cat([last, first, *quarter], 1))  # (B, 131, H/4, W/4)

        first = self.stage3_down(x)  # (B, 128, H/8, W/8)
        last = self.stage3(first)
        x = self.norm_act_3(torch.cat([first, last], 1))  # (B, 256, H/8, W/8)

        return self.classifier(self.dropout(x))  # (B, num_classes, H/8, W/8)
