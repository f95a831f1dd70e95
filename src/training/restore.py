"""From a checkpoint to what is evaluated: its network, on the dataset it knows or on another one."""

import logging
import re
from typing import Any

import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf

from src.config import RECORDED, plain
from src.data.datamodule import SegmentationDataModule
from src.data.layouts import SPLITS
from src.errors import UserError
from src.network.segmenter import Segmenter
from src.training.module import SegmentationModule
from src.training.recorded import RECORDED_KEYS, check_recorded

log = logging.getLogger(__name__)


def data_to_evaluate(config: DictConfig, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's data group with its recorded values; overrides on the command line go before them.

    Recorded values stay what they are: an interpolation among them is a string. A recorded street is drawn
    into this cache_dir, wherever it was drawn before. How frames were cached is left out: that was a matter
    of the machine.
    With another group (`data=`) only the names of the groups matter, and nothing recorded is used; nor where
    an evaluation is repeated (`--config-dir`), which has its own record.
    """
    check_recorded(checkpoint, config.checkpoint)
    recorded = checkpoint["hyper_parameters"]["data"]
    overrides = [o.lstrip("+") for o in HydraConfig.get().overrides.task]
    other_group = any(o.startswith("data=") and o != f"data={recorded['name']}" for o in overrides)
    repeated = HydraConfig.get().runtime.choices["data"].startswith(RECORDED)
    if other_group or repeated:
        data = plain(config.data)
    else:
        known = {key: value for key, value in recorded.items() if key in RECORDED_KEYS}
        data = _group(recorded["name"]) | known | {"split": None, "cache": "auto"}
        given = [o.partition("=")[0].removeprefix("data.") for o in overrides if o.startswith("data.")]
        for key in given:
            value = plain(OmegaConf.select(config, f"data.{key}"))
            group, _, leaf = key.rpartition(".")
            (data[group] if group else data)[leaf] = value
        if data.get("street") and "root" not in given:
            data["root"] = _place_of_street(config, data["street"])
    split = data.pop("split") or data["val_split"]
    if not other_group and set(SPLITS.get(split, ())) & set(SPLITS[recorded["train_split"]]):
        log.warning(
            "WARNING: this network was trained on '%s', which contains '%s': the result says nothing about "
            "new images.",
            recorded["train_split"],
            split,
        )
    return data | {"val_split": split}


def _group(name: str) -> dict[str, Any]:
    """A file of conf/data, for keys that are younger than the checkpoint; empty if it is gone."""
    if not re.fullmatch(r"\w[\w-]*", name):  # else it could be a path, or more of Hydra's grammar
        return {}
    try:
        return plain(compose("eval", [f"data='{name}'"]).data) or {}
    except MissingConfigException:
        return {}


def _place_of_street(config: DictConfig, street: dict[str, Any]) -> str:
    """Where conf/data/street.yaml has it."""
    reference = compose("eval", ["data=street"])
    reference.cache_dir = config.cache_dir
    reference.data.street = street
    return reference.data.root


def load_module(checkpoint: dict[str, Any], data: SegmentationDataModule, path: str) -> SegmentationModule:
    """Raises UserError where the network has other classes than the dataset, or foreign weights."""
    recorded = checkpoint["hyper_parameters"]
    if recorded["classes"] != list(data.table.class_names):
        raise UserError(
            f"checkpoint={path}: a network for {len(recorded['classes'])} classes (those of "
            f"{recorded['data']['name']}), but data={data.config['name']} has {data.table.num_classes} of "
            f"its own. Evaluate it on a dataset with its own classes, or choose another checkpoint."
        )
    misfit = f"checkpoint={path}: its weights do not fit the network that it names."
    with torch.device("meta"):  # takes no memory, whatever sizes are recorded
        shapes = {
            key: tensor.shape for key, tensor in Segmenter.from_config(recorded["model"]).state_dict().items()
        }
    if shapes != {
        key.removeprefix("segmenter."): tensor.shape for key, tensor in checkpoint["state_dict"].items()
    }:
        raise UserError(misfit)
    module = SegmentationModule(
        model=recorded["model"],
        data=recorded["data"],
        classes=recorded["classes"],
        precision=recorded["precision"],
    )
    if (recorded.get("training") or {}).get("channels_last"):  # in 16 bits other kernels give other roundings
        module.segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise UserError(f"{misfit}\n{error}") from error
    return module
