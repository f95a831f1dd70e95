"""From a checkpoint to what is evaluated: its network, on the dataset it knows or on another one."""

import logging
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
from src.training.module import SegmentationModule

log = logging.getLogger(__name__)


def data_to_evaluate(config: DictConfig, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's data group with its recorded values; overrides on the command line go before them.

    How frames were cached is left out: that was a matter of the machine.
    With another group (`data=`) only the names of the groups matter, and nothing recorded is used; nor where
    an evaluation is repeated (`--config-dir`), which has its own record.
    """
    recorded = checkpoint["hyper_parameters"]["data"]
    overrides = [o.lstrip("+") for o in HydraConfig.get().overrides.task]
    other_group = any(o.startswith("data=") and o != f"data={recorded['name']}" for o in overrides)
    repeated = HydraConfig.get().runtime.choices["data"].startswith(RECORDED)
    if other_group or repeated:
        data = plain(config.data)
    else:
        merged = OmegaConf.merge(_group(recorded["name"]), recorded, {"split": None, "cache": "auto"})
        for key in (o.partition("=")[0] for o in overrides if o.startswith("data.")):
            OmegaConf.update(merged, key.removeprefix("data."), OmegaConf.select(config, key))
        data = plain(merged)
    split = data.pop("split") or data["val_split"]
    if not other_group and set(SPLITS.get(split, ())) & set(SPLITS[recorded["train_split"]]):
        log.warning(
            "WARNING: this network was trained on '%s', which contains '%s': the result says nothing about "
            "new images.",
            recorded["train_split"],
            split,
        )
    return data | {"val_split": split}


def _group(name: str) -> DictConfig:
    """A file of conf/data, for keys that are younger than the checkpoint; empty if it is gone."""
    try:
        return OmegaConf.create(plain(compose("eval", [f"data={name}"]).data))
    except MissingConfigException:
        return OmegaConf.create()


def load_module(checkpoint: dict[str, Any], data: SegmentationDataModule, path: str) -> SegmentationModule:
    """Raises UserError where the network has other classes than the dataset, or foreign weights."""
    recorded = checkpoint["hyper_parameters"]
    if recorded["classes"] != list(data.table.class_names):
        raise UserError(
            f"checkpoint={path}: a network for {len(recorded['classes'])} classes (those of "
            f"{recorded['data']['name']}), but data={data.config['name']} has {data.table.num_classes} of "
            f"its own. Evaluate it on a dataset with its own classes, or choose another checkpoint."
        )
    module = SegmentationModule(
        model=recorded["model"],
        data=recorded["data"],
        classes=recorded["classes"],
        precision=recorded["precision"],
    )
    if (recorded["training"] or {}).get("channels_last"):  # in 16 bits other kernels give other roundings
        module.segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise UserError(
            f"checkpoint={path}: its weights do not fit the network that it names.\n{error}"
        ) from error
    return module
