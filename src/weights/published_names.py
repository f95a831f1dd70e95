"""How the publishers of CGNets name its layers, and the settings that only their code contains.

The same layers have four sets of names, and no file of weights contains the settings of a family's network.
Both are written down here, from

- the authors' code: github.com/wutianyiRosun/CGNet, model/CGNet.py;
- mmsegmentation 1.2.2: mmseg/models/backbones/cgnet.py, configs/_base_/models/cgnet.py;
- SSSegmentation: ssseg/modules/models/backbones/cgnet.py, ssseg/configs/cgnet;
- PaddlePaddle: github.com/632652101/CGNet-PP, model/CGNet.py and pipeline/Step1/torch2paddle.py.

All of them resize the logits between pixel centres (align_corners=False). One difference is not reproduced:
PaddlePaddle's average pooling leaves the padding out of the mean, the authors' counts it as zeros. Converted
weights were trained with the authors' pooling.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from src.network import checks

CITYSCAPES_MEAN = (72.39239876, 82.90891754, 73.15835921)  # as mmsegmentation and SSSegmentation write it
CAMVID_MEAN = (105.658, 103.330, 99.625)  # as the authors' CamVid network subtracts it from R, G, B
OURS = "this project"  # the family of our own checkpoints
_DILATIONS = (2, 4)  # they do not show in the weights; all families use these


@dataclass(frozen=True)
class Family:
    """How a group names the layers. In the names of blocks, {i} counts from 0 through a whole stage, the
    down-sampling block included, and {j} = i - 1; {stage} is 2 or 3 as in the paper, {level} = stage - 1."""

    name: str
    marker: str  # pattern of what only this family's names contain
    stem: str
    norm_acts: tuple[str, str, str]
    first_block: str
    further_block: str
    inner: Mapping[str, str]  # of a block: our name -> theirs
    inner_of_first: Mapping[str, str]  # where the down-sampling block differs
    layers: tuple[str, str, str]  # convolution, BatchNorm and PReLU that stand together
    norm_act: tuple[str, str]  # BatchNorm and PReLU that stand alone
    classifiers: tuple[str, ...]
    norm_eps: float
    useless: tuple[str, ...] = ()  # beginnings of names that only training needs

    def block(self, stage: int, i: int | str) -> str:
        template = self.further_block if i else self.first_block
        return template.format(stage=stage, level=stage - 1, i=i, j=i - 1 if isinstance(i, int) else i)

    def count_blocks(self, stage: int, names: Iterable[str]) -> int:
        """From the largest number in the names: blocks that are missing in between are reported later."""
        pattern = re.compile(re.escape(self.block(stage, "#")).replace(r"\#", r"(\d{1,6})") + r"\.")
        numbers = [int(match[1]) for name in names if (match := pattern.match(name))]
        before_number_0 = 1 if "{j}" in self.further_block else 0
        return max((number + 1 + before_number_0 for number in numbers), default=1)


_THE_AUTHORS = {
    "project": "conv1x1",
    "f_loc": "F_loc.conv",
    "f_sur": "F_sur.conv",
    "f_joi.norm": "bn_prelu.bn",
    "f_joi.act": "bn_prelu.act",
    "reduce": "reduce.conv",
    "f_glo.fc1": "F_glo.fc.0",
    "f_glo.fc2": "F_glo.fc.2",
}
_OF_BACKBONES = {
    "project": "conv1x1",
    "f_loc": "f_loc",
    "f_sur": "f_sur",
    "f_joi.norm": "bn",
    "f_joi.act": "activate",
    "reduce": "bottleneck",
    "f_glo.fc1": "f_glo.fc.0",
    "f_glo.fc2": "f_glo.fc.2",
}


def _backbone(name: str, prefix: str, **differences: Any) -> Family:
    return Family(
        name=name,
        marker=rf"{prefix}\.norm_prelu_\d\.",
        stem=f"{prefix}.stem.{{i}}",
        norm_acts=(f"{prefix}.norm_prelu_0", f"{prefix}.norm_prelu_1", f"{prefix}.norm_prelu_2"),
        first_block=f"{prefix}.level{{level}}.0",
        further_block=f"{prefix}.level{{level}}.{{i}}",
        inner=_OF_BACKBONES,
        inner_of_first={},
        norm_act=("0", "1"),
        **differences,
    )


def _authors(name: str, marker: str) -> Family:
    return Family(
        name=name,
        marker=marker,
        stem="level1_{i}",
        norm_acts=("b1", "bn_prelu_2", "bn_prelu_3"),
        first_block="level{stage}_0",
        further_block="level{stage}.{j}",
        inner=_THE_AUTHORS,
        inner_of_first={"f_joi.norm": "bn", "f_joi.act": "act"},
        layers=("conv", "bn", "act"),
        norm_act=("bn", "act"),
        classifiers=("classifier.0.conv", "classifier.conv", "classifier.1.conv"),  # 1: after a dropout
        norm_eps=1e-3,
    )


AUTHORS = _authors("the authors' code", r"(?:level[123]_0|bn_prelu_[23])\.")
PADDLE = _authors(
    "a PaddlePaddle conversion", r"(?:level[123]_0|bn_prelu_[23])\.(?:\w+\.)*_(?:mean|variance|weight)$"
)
MMSEGMENTATION = _backbone(
    "mmsegmentation",
    "backbone",
    layers=("conv", "bn", "activate"),
    classifiers=("decode_head.conv_seg",),
    norm_eps=1e-3,
    useless=("auxiliary_head.", "data_preprocessor.", "ema_"),  # ema_: mmcv 1, before averaging
)
SSSEGMENTATION = _backbone(
    "SSSegmentation",
    "backbone_net",
    layers=("0", "1", "2"),
    classifiers=("decoder.1",),
    norm_eps=1e-5,
    useless=("auxiliary_decoder.",),
)
FAMILIES = (PADDLE, AUTHORS, MMSEGMENTATION, SSSEGMENTATION)  # in the order in which they are tried
EXAMPLES = "level1_0.conv.weight, backbone.stem.0.conv.weight, backbone_net.stem.0.0.weight"
_PADDLE = {"running_mean": "_mean", "running_var": "_variance"}


def model_of(family: Family, weights: Mapping[str, Tensor], classifier: str) -> tuple[dict[str, Any], bool]:
    """The config, and whether its mean is known: the family's, or that of the dataset with so many classes.

    If a layer that shows a size is missing, the size is the paper's; the layer is then reported as missing,
    or others as of another shape.
    """

    def length(name: str, default: int) -> int:
        tensor = weights.get(name)
        return len(tensor) if tensor is not None and tensor.ndim else default

    channels = [length(f"{family.stem.format(i=0)}.{family.layers[0]}.weight", 32)]
    reductions = []
    for stage, default in ((2, 64), (3, 128)):
        first = family.block(stage, 0)
        channels.append(length(f"{first}.{family.inner['reduce']}.weight", default))
        hidden = length(f"{first}.{family.inner['f_glo.fc1']}.bias", 8)
        reductions.append(max(1, channels[-1] // max(1, hidden)))
    num_classes = length(f"{classifier}.weight", 19)
    follows_dataset = family in (AUTHORS, PADDLE)
    mean = CAMVID_MEAN if follows_dataset and num_classes == 11 else CITYSCAPES_MEAN
    model = {
        "_target_": "src.network.cgnet.CGNet",
        "num_classes": num_classes,
        "num_blocks": [family.count_blocks(stage, weights) for stage in (2, 3)],
        "channels": channels,
        "dilations": list(_DILATIONS),
        "reductions": reductions,
        "norm_eps": family.norm_eps,
        "classifier_bias": not follows_dataset,
        "preprocessing": {"mean": list(mean), "std": [1.0, 1.0, 1.0], "channel_order": "rgb"},
    }
    return model, not follows_dataset or num_classes in (11, 19)


def layer_names(family: Family, num_blocks: Iterable[int], classifier: str) -> dict[str, str]:
    """Our layers -> the family's."""
    conv, norm, act = family.layers
    together = {"conv": conv, "norm": norm, "act": act}
    names = {"classifier": classifier}
    for i in range(3):
        stem = family.stem.format(i=i)
        names |= {f"stage1.{i}.{ours}": f"{stem}.{theirs}" for ours, theirs in together.items()}
        for ours, theirs in zip(("norm", "act"), family.norm_act, strict=True):
            names[f"norm_act_{i + 1}.{ours}"] = f"{family.norm_acts[i]}.{theirs}"
    for stage, count in zip((2, 3), checks.positive_integers("num_blocks", num_blocks, 2), strict=True):
        for i in range(count):
            block = family.block(stage, i)
            inner = dict(family.inner) if i else {**family.inner, **family.inner_of_first}
            project = inner.pop("project")
            inner |= {f"project.{ours}": f"{project}.{theirs}" for ours, theirs in together.items()}
            ours = f"stage{stage}.{i - 1}" if i else f"stage{stage}_down"
            names |= {f"{ours}.{layer}": f"{block}.{theirs}" for layer, theirs in inner.items()}
    return names


def parameter_name(family: Family, layer: str, parameter: str) -> str:
    """The family's name for a parameter of our `layer`."""
    if family is not PADDLE:
        return parameter
    return "_weight" if layer.endswith(".act") else _PADDLE.get(parameter, parameter)
