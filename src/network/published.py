"""Weights that others published, as weights of our Segmenter.

Four groups did, with names of their own for the same layers, and with different epsilons and biases. What a
family's network computes beside its weights is in no file; it is written down here, from

- the authors' code: github.com/wutianyiRosun/CGNet, model/CGNet.py;
- mmsegmentation 1.2.2: mmseg/models/backbones/cgnet.py, configs/_base_/models/cgnet.py;
- SSSegmentation: ssseg/modules/models/backbones/cgnet.py, ssseg/configs/cgnet;
- PaddlePaddle: github.com/632652101/CGNet-PP, model/CGNet.py and pipeline/Step1/torch2paddle.py.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.errors import UserError, shorten
from src.network import checks
from src.network.segmenter import Segmenter
from src.pickles import Asked, Pickled, described, shown

CITYSCAPES_MEAN = (72.39239876, 82.90891754, 73.15835921)  # as mmsegmentation and SSSegmentation write it
CAMVID_MEAN = (105.658, 103.330, 99.625)  # as the authors' CamVid network wants it, from RGB in this order
_DILATIONS = (2, 4)  # no weight tells them; all families have these


@dataclass(frozen=True)
class Family:
    """How a group calls the layers. In the names of blocks, {i} counts from 0 through a whole stage, the
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
        classifiers=("classifier.0.conv", "classifier.conv", "classifier.1.conv"),  # 1: behind a dropout
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
    useless=("auxiliary_head.", "data_preprocessor."),
)
SSSEGMENTATION = _backbone(
    "SSSegmentation",
    "backbone_net",
    layers=("0", "1", "2"),
    classifiers=("decoder.1",),
    norm_eps=1e-5,
    useless=("auxiliary_decoder.",),
)
FAMILIES = (PADDLE, AUTHORS, MMSEGMENTATION, SSSEGMENTATION)  # in the order in which they are looked for
LARGEST = 10**8
"""Numbers in all tensors together, 200 times a CGNet: a small file may name one memory many times."""
EXAMPLES = "level1_0.conv.weight, backbone.stem.0.conv.weight, backbone_net.stem.0.0.weight"
_PADDLE_NAMES = {"running_mean": "_mean", "running_var": "_variance"}
_COUNTERS = ("num_batches_tracked", "total_ops", "total_params")  # of BatchNorm; of thop, which counts FLOPs
_PREFERRED = ("state_dict", "model")


@dataclass(frozen=True)
class Published:
    """model: what Segmenter.from_config takes. weights: the Segmenter's state_dict, float32. mean_is_known:
    False where the family subtracts its dataset's mean, and the number of classes does not tell the dataset;
    then it is Cityscapes'. skipped: names in the file that
    nothing was made of."""

    family: str
    model: dict[str, Any]
    weights: dict[str, Tensor]
    mean_is_known: bool
    skipped: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return self.model["num_classes"]


def read_published(pickled: Pickled) -> Published:
    """Raises UserError where no family's weights are in it, or not all of them, or others than a CGNet's."""
    found = []
    for where, content in pickled.mappings():
        keys = [key for key in content if isinstance(key, str)]
        for family in FAMILIES:
            prefix = _prefix(keys, family.marker)
            if prefix is not None:
                found.append((where, content, family, prefix))
                break
    if not found:
        raise UserError(_unknown(pickled))
    where, content, family, prefix = min(
        found, key=lambda entry: (entry[0].count("."), entry[0] not in ("", *_PREFERRED))
    )
    weights, skipped = _weights(pickled, content, family, prefix)
    return convert(family, weights, tuple(skipped))


def _prefix(keys: Iterable[str], marker: str) -> str | None:
    """What wrappers such as DataParallel ("module.") put before the names; None without the marker."""
    for key in keys:
        match = re.match(rf"((?:\w+\.)*?){marker}", key)
        if match:
            return match[1]
    return None


def _unknown(pickled: Pickled) -> str:
    dicts = list(pickled.mappings())
    if not dicts:
        return f"holds {described(pickled.root)}, no dict of weights; nothing in the file was executed"
    where, most = max(dicts, key=lambda entry: sum(isinstance(value, Asked) for value in entry[1].values()))
    names = ", ".join(shown(key) for key in list(most)[:6]) + (", ..." if len(most) > 6 else "")
    place = f" in '{shown(where)}'" if where else ""
    return (
        f"no CGNet in it of a kind that is known here; nothing in the file was executed. It has these "
        f"{len(most)} keys{place}: {names}\n"
        f"Known are the keys of {', '.join(family.name for family in FAMILIES)}: {EXAMPLES}, ..., with any "
        f"prefix such as 'module.'."
    )


def _weights(
    pickled: Pickled, content: Mapping[Any, Any], family: Family, prefix: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The family's names -> tensors, and the names that were left out."""
    weights: dict[str, Tensor] = {}
    skipped: list[str] = []
    foreign: list[str] = []
    numbers = 0
    for key, node in content.items():
        name = shown(key).removeprefix(prefix)
        if name.startswith(family.useless) or name.startswith("StructuredToParameterName"):
            skipped.append(name)
            continue
        if name.endswith(_COUNTERS):
            continue
        try:
            tensor = pickled.tensor(node)
            reason = described(node)
        except Exception as error:  # of any type: the file may claim anything
            tensor, reason = None, shown(error) or type(error).__name__
        if tensor is None:
            foreign.append(f"  {name}: {reason}")
        elif not tensor.is_floating_point():
            foreign.append(f"  {name}: numbers of type {tensor.dtype}".replace("torch.", ""))
        elif not tensor.isfinite().all():
            foreign.append(f"  {name}: NaN or infinity among its numbers")
        else:
            weights[name] = tensor.float()
            numbers += tensor.numel()
            if numbers > LARGEST:
                raise UserError(f"{family.name}'s keys, but more than {LARGEST:,} numbers: no CGNet")
    if foreign:
        raise UserError(
            f"{family.name}'s keys, but these hold no weights; nothing in the file was executed:\n"
            f"{shorten(foreign)}\nIt is damaged: get the file anew."
        )
    return weights, skipped


def convert(family: Family, weights: Mapping[str, Tensor], skipped: tuple[str, ...] = ()) -> Published:
    """From the family's names, without a prefix. Raises UserError with names and shapes that do not fit."""
    classifier = next((c for c in family.classifiers if f"{c}.weight" in weights), family.classifiers[0])
    model, mean_is_known = _model(family, weights, classifier)
    try:
        with torch.device("meta"):  # takes no memory, whatever the file's names and shapes suggest
            ours = Segmenter.from_config(model).state_dict()
    except UserError as error:
        raise UserError(f"{family.name}'s keys, but no CGNet can be made of them: {error.text}") from error
    names = _names(family, model["num_blocks"], classifier)
    state, used = {}, set()
    missing, misshapen = [], []
    for key, wanted in ours.items():
        layer, _, parameter = key.removeprefix("network.").rpartition(".")
        if parameter == "num_batches_tracked":  # only a momentum of None, which nobody uses, would need it
            state[key] = torch.zeros((), dtype=torch.int64)
            continue
        if family is PADDLE:
            parameter = "_weight" if layer.endswith(".act") else _PADDLE_NAMES.get(parameter, parameter)
        name = f"{names[layer]}.{parameter}"
        if name not in weights:
            missing.append(f"  {name} {tuple(wanted.shape)}")
            continue
        used.add(name)
        tensor = weights[name]
        if family is PADDLE and ".f_glo." in key and parameter == "weight" and tensor.ndim == 2:
            tensor = tensor.T.contiguous()  # a Linear layer there is x W, here x W^T
        if tensor.shape != wanted.shape:
            misshapen.append(f"  {name}: {tuple(tensor.shape)}, expected {tuple(wanted.shape)}")
        state[key] = tensor
    unknown = [f"  {name} {tuple(tensor.shape)}" for name, tensor in weights.items() if name not in used]
    problems = [
        f"{title} ({len(lines)}):\n{shorten(lines)}"
        for title, lines in (("missing", missing), ("of another shape", misshapen), ("unknown", unknown))
        if lines
    ]
    if problems:
        m, n = model["num_blocks"]
        raise UserError(
            f"{family.name}'s keys, but they do not make up a CGNet M{m}N{n}.\n" + "\n".join(problems) + "\n"
            "If the file is damaged, get it anew; a changed network would need a class of its own in "
            "src/network."
        )
    return Published(family.name, model, state, mean_is_known, skipped)


def _model(family: Family, weights: Mapping[str, Tensor], classifier: str) -> tuple[dict[str, Any], bool]:
    """The config, as far as names and shapes tell it; what they do not tell will be missing or misshapen."""

    def length(name: str, default: int) -> int:
        tensor = weights.get(name)
        return len(tensor) if tensor is not None and tensor.ndim else default

    num_blocks, channels, reductions = (
        [],
        [length(f"{family.stem.format(i=0)}.{family.layers[0]}.weight", 32)],
        [],
    )
    for stage, default in ((2, 64), (3, 128)):
        first = family.first_block.format(stage=stage, level=stage - 1)
        channels.append(length(f"{first}.{family.inner['reduce']}.weight", default))
        hidden = length(f"{first}.{family.inner['f_glo.fc1']}.bias", 8)
        reductions.append(max(1, channels[-1] // max(1, hidden)))
        further = re.escape(family.further_block.format(stage=stage, level=stage - 1, i="#", j="#"))
        pattern = re.compile(further.replace(re.escape("#"), r"(\d{1,6})") + r"\.")
        last = max((int(match[1]) for name in weights if (match := pattern.match(name))), default=0)
        counts_from_second = "{j}" in family.further_block
        found = any(pattern.match(name) for name in weights)
        num_blocks.append(last + 1 + (counts_from_second and found))
    num_classes = length(f"{classifier}.weight", 19)
    follows_dataset = family in (AUTHORS, PADDLE)
    mean = CAMVID_MEAN if follows_dataset and num_classes == 11 else CITYSCAPES_MEAN
    model = {
        "_target_": "src.network.cgnet.CGNet",
        "num_classes": num_classes,
        "num_blocks": num_blocks,
        "channels": channels,
        "dilations": list(_DILATIONS),
        "reductions": reductions,
        "norm_eps": family.norm_eps,
        "classifier_bias": not follows_dataset,
        "preprocessing": {"mean": list(mean), "std": [1.0, 1.0, 1.0], "channel_order": "rgb"},
    }
    return model, not follows_dataset or num_classes in (11, 19)


def _names(family: Family, num_blocks: Iterable[int], classifier: str) -> dict[str, str]:
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
            template = family.further_block if i else family.first_block
            block = template.format(stage=stage, level=stage - 1, i=i, j=i - 1)
            inner = dict(family.inner) if i else {**family.inner, **family.inner_of_first}
            project = inner.pop("project")
            inner |= {f"project.{ours}": f"{project}.{theirs}" for ours, theirs in together.items()}
            ours = f"stage{stage}.{i - 1}" if i else f"stage{stage}_down"
            names |= {f"{ours}.{layer}": f"{block}.{theirs}" for layer, theirs in inner.items()}
    return names
