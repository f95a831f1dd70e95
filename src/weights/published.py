"""Weights that others published, as weights of our Segmenter."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.errors import UserError, shorten
from src.network.segmenter import Segmenter
from src.weights.published_names import (
    EXAMPLES,
    FAMILIES,
    PADDLE,
    Family,
    layer_names,
    model_of,
    parameter_name,
)
from src.weights.safe_pickle import Pickled, described, is_mapping
from src.weights.tensor_checks import fault
from src.weights.unpickler import Asked, shown

LARGEST = 10**8
"""Numbers in all tensors together, 200 times a CGNet's: a small file may use one memory many times."""
_COUNTERS = (
    "num_batches_tracked",  # of BatchNorm
    *("steps", "n_averaged"),  # of averaged weights, mmengine's and torch's
    *("total_ops", "total_params"),  # of thop, which counts FLOPs
)
_PREFERRED = ("state_dict", "model")


@dataclass(frozen=True)
class Published:
    """model: what Segmenter.from_config takes. weights: the Segmenter's state_dict, float32. mean_is_known:
    False where the family subtracts its dataset's mean, and the number of classes does not tell the dataset.
    skipped: names in the file that are not used."""

    family: str
    model: dict[str, Any]
    weights: dict[str, Tensor]
    mean_is_known: bool
    skipped: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return self.model["num_classes"]


def read_published(pickled: Pickled) -> Published:
    """Raises UserError if the file has no family's weights, not all of them, or those of another network."""
    found = []
    try:
        dicts = list(pickled.mappings())
    except ValueError as error:
        raise UserError(f"no weights of a CGNet: {error}") from error
    for where, content in dicts:
        keys = [key for key in content if isinstance(key, str) and len(key) < 100]
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

    def tensors(entry: tuple[str, dict[Any, Any]]) -> int:
        return sum(isinstance(value, Asked) and not is_mapping(value) for value in entry[1].values())

    where, most = max(dicts, key=tensors)
    names = ", ".join(shown(key) for key in list(most)[:6]) + (", ..." if len(most) > 6 else "")
    place = f" in '{shown(where)}'" if where else ""
    return (
        f"no CGNet in it of a known kind; nothing in the file was executed. It has these "
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
            continue
        numbers += tensor.numel()
        if numbers > LARGEST:
            raise UserError(f"{family.name}'s keys, but more than {LARGEST:,} numbers: no CGNet")
        if problem := fault(name, tensor):
            foreign.append(f"  {name}: {problem}")
        else:
            weights[name] = tensor.float()
    if foreign:
        raise UserError(
            f"{family.name}'s keys, but these hold no weights; nothing in the file was executed:\n"
            f"{shorten(foreign)}\nIt is damaged, or from a training that diverged: get the file again."
        )
    return weights, skipped


def convert(family: Family, weights: Mapping[str, Tensor], skipped: tuple[str, ...] = ()) -> Published:
    """Our weights from a family's, without a prefix. Raises UserError with wrong names and shapes."""
    classifier = next((c for c in family.classifiers if f"{c}.weight" in weights), family.classifiers[0])
    model, mean_is_known = model_of(family, weights, classifier)
    try:
        with torch.device("meta"):  # takes no memory, whatever the file's names and shapes suggest
            ours = Segmenter.from_config(model).state_dict()
    except UserError as error:
        raise UserError(f"{family.name}'s keys, but no CGNet can be made of them: {error.text}") from error
    names = layer_names(family, model["num_blocks"], classifier)
    state, used = {}, set()
    missing, misshapen = [], []
    for key, wanted in ours.items():
        layer, _, parameter = key.removeprefix("network.").rpartition(".")
        if parameter == "num_batches_tracked":  # used only with momentum=None, which nobody sets
            state[key] = torch.zeros((), dtype=torch.int64)
            continue
        name = f"{names[layer]}.{parameter_name(family, layer, parameter)}"
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
            "If the file is damaged, get it again; a changed network would need a class of its own in "
            "src/network."
        )
    return Published(family.name, model, state, mean_is_known, skipped)
