"""The networks of others once more, from the paper and the names in their files; and files as they save them.

Nothing of src.network is in here: what is read from these files is compared with what these networks compute.
"""

import pickle
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

CITYSCAPES = (72.39239876, 82.90891754, 73.15835921)
CAMVID = (105.658, 103.330, 99.625)


def named(names, *layers):
    return nn.Sequential(OrderedDict(zip(names, layers, strict=True)))


def plain_conv(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def per_channel(channels, dilation):
    return nn.Conv2d(channels, channels, 3, 1, dilation, dilation, groups=channels, bias=False)


class Excitation(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, x):
        return x * self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1)).unflatten(1, (-1, 1, 1))


class AuthorsBlock(nn.Module):
    def __init__(self, inputs, outputs, dilation, hidden, down, eps):
        super().__init__()
        width = outputs if down else outputs // 2
        norm_act = (nn.BatchNorm2d(2 * width, eps), nn.PReLU(2 * width))
        projection = plain_conv(inputs, width, 3, 2) if down else plain_conv(inputs, width, 1)
        self.conv1x1 = named(("conv", "bn", "act"), projection, nn.BatchNorm2d(width, eps), nn.PReLU(width))
        self.F_loc = named(("conv",), per_channel(width, 1))
        self.F_sur = named(("conv",), per_channel(width, dilation))
        self.down = down
        if down:
            self.bn, self.act = norm_act
            self.reduce = named(("conv",), plain_conv(2 * width, outputs, 1))
        else:
            self.bn_prelu = named(("bn", "act"), *norm_act)
        self.F_glo = Excitation(outputs, hidden)

    def forward(self, x):
        y = self.conv1x1(x)
        y = torch.cat((self.F_loc(y), self.F_sur(y)), 1)
        if self.down:
            return self.F_glo(self.reduce(self.act(self.bn(y))))
        return x + self.F_glo(self.bn_prelu(y))


class AuthorsNetwork(nn.Module):
    """Normalised image -> logits at an eighth of its size."""

    def __init__(self, classes=19, m=3, n=21, classifier="0", eps=1e-3):
        super().__init__()

        def bn_prelu(channels):
            return named(("bn", "act"), nn.BatchNorm2d(channels, eps), nn.PReLU(channels))

        for i, (inputs, stride) in enumerate(((3, 2), (32, 1), (32, 1))):
            layers = (plain_conv(inputs, 32, 3, stride), nn.BatchNorm2d(32, eps), nn.PReLU(32))
            setattr(self, f"level1_{i}", named(("conv", "bn", "act"), *layers))
        self.b1, self.bn_prelu_2, self.bn_prelu_3 = bn_prelu(35), bn_prelu(131), bn_prelu(256)
        self.level2_0 = AuthorsBlock(35, 64, 2, 8, True, eps)
        self.level2 = nn.ModuleList(AuthorsBlock(64, 64, 2, 8, False, eps) for _ in range(m - 1))
        self.level3_0 = AuthorsBlock(131, 128, 4, 8, True, eps)
        self.level3 = nn.ModuleList(AuthorsBlock(128, 128, 4, 8, False, eps) for _ in range(n - 1))
        conv = named(("conv",), plain_conv(256, classes, 1))
        self.classifier = named((classifier,), conv) if classifier else conv

    def forward(self, x):
        half = F.avg_pool2d(x, 3, 2, 1)
        y = self.b1(torch.cat((self.level1_2(self.level1_1(self.level1_0(x))), half), 1))
        first = y = self.level2_0(y)
        for block in self.level2:
            y = block(y)
        y = self.bn_prelu_2(torch.cat((y, first, F.avg_pool2d(half, 3, 2, 1)), 1))
        first = y = self.level3_0(y)
        for block in self.level3:
            y = block(y)
        return self.classifier(self.bn_prelu_3(torch.cat((first, y), 1)))


class BackboneBlock(nn.Module):
    def __init__(self, inputs, outputs, dilation, hidden, down, names, eps):
        super().__init__()
        width = outputs if down else outputs // 2
        projection = plain_conv(inputs, width, 3, 2) if down else plain_conv(inputs, width, 1)
        self.conv1x1 = named(names, projection, nn.BatchNorm2d(width, eps), nn.PReLU(width))
        self.f_loc, self.f_sur = per_channel(width, 1), per_channel(width, dilation)
        self.bn, self.activate = nn.BatchNorm2d(2 * width, eps), nn.PReLU(2 * width)
        self.bottleneck = plain_conv(2 * width, outputs, 1) if down else None
        self.f_glo = Excitation(outputs, hidden)

    def forward(self, x):
        y = self.conv1x1(x)
        y = self.activate(self.bn(torch.cat((self.f_loc(y), self.f_sur(y)), 1)))
        return x + self.f_glo(y) if self.bottleneck is None else self.f_glo(self.bottleneck(y))


class Backbone(nn.Module):
    def __init__(self, m, n, names, eps):
        super().__init__()
        self.stem = nn.ModuleList(
            named(names, plain_conv(inputs, 32, 3, stride), nn.BatchNorm2d(32, eps), nn.PReLU(32))
            for inputs, stride in ((3, 2), (32, 1), (32, 1))
        )
        for i, channels in enumerate((35, 131, 256)):
            both = nn.Sequential(nn.BatchNorm2d(channels, eps), nn.PReLU(channels))
            setattr(self, f"norm_prelu_{i}", both)
        for level, inputs, outputs, count, dilation in ((1, 35, 64, m, 2), (2, 131, 128, n, 4)):
            blocks = [
                BackboneBlock(outputs if i else inputs, outputs, dilation, 8, i == 0, names, eps)
                for i in range(count)
            ]
            setattr(self, f"level{level}", nn.ModuleList(blocks))

    def forward(self, x):
        half = F.avg_pool2d(x, 3, 2, 1)
        quarter, y = F.avg_pool2d(half, 3, 2, 1), x
        for layer in self.stem:
            y = layer(y)
        y = self.norm_prelu_0(torch.cat((y, half), 1))
        first = y = self.level1[0](y)
        for block in self.level1[1:]:
            y = block(y)
        y = self.norm_prelu_1(torch.cat((y, first, quarter), 1))
        first = y = self.level2[0](y)
        for block in self.level2[1:]:
            y = block(y)
        return self.norm_prelu_2(torch.cat((first, y), 1))


class MmsegNetwork(nn.Module):
    def __init__(self, classes=19, m=3, n=21, eps=1e-3):
        super().__init__()
        self.backbone = Backbone(m, n, ("conv", "bn", "activate"), eps)
        self.decode_head = named(("conv_seg",), nn.Conv2d(256, classes, 1))

    def forward(self, x):
        return self.decode_head(self.backbone(x))


class SssegNetwork(nn.Module):
    def __init__(self, classes=19, m=3, n=21, eps=1e-5):
        super().__init__()
        self.backbone_net = Backbone(m, n, ("0", "1", "2"), eps)
        self.decoder = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(256, classes, 1))

    def forward(self, x):
        return self.decoder(self.backbone_net(x))


def randomized(network, seed=0):
    """Weights and statistics under which no term is near 0, and variances so small that eps is seen."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var"):
            value.copy_(0.02 + 0.1 * noise.abs())
        elif name.endswith("num_batches_tracked"):
            value.fill_(7)
        elif value.ndim == 4:
            value.copy_(0.3 * noise * (2 / value[0].numel()) ** 0.5)
        elif value.ndim == 2:
            value.copy_(noise / value.shape[1] ** 0.5)
        else:
            value.copy_(0.3 * noise + (0.7 if name.endswith(("bn.weight", "1.weight")) else 0))
    return network.eval()


@torch.no_grad()
def logits(network, image, mean, order="rgb"):
    """uint8 (B, 3, H, W) RGB -> float64 logits at its size, as the family's own code makes them."""
    x = image.double() - torch.tensor(mean, dtype=torch.float64).view(3, 1, 1)
    y = network.double()(x if order == "rgb" else x.flip(1))
    return F.interpolate(y, image.shape[-2:], mode="bilinear", align_corners=False)


def paddle_arrays(network):
    """The authors' network in PaddlePaddle's names: Linear weights transposed, no counters."""
    arrays = {}
    for key, value in network.state_dict().items():
        layer, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        name = {"running_mean": "_mean", "running_var": "_variance"}.get(leaf, leaf)
        if layer.endswith("act"):
            name = "_weight"
        array = value.float().numpy()
        arrays[f"{layer}.{name}"] = array.T if value.ndim == 2 else array
    return arrays


def save_pickle(content, path, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))


def prefixed(state, prefix="module."):
    return OrderedDict((prefix + key, value) for key, value in state.items())
