"""From a checkpoint to what is evaluated: its network, on the dataset it knows or on another one."""

import logging
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from src.config import plain
from src.data.datamodule import SegmentationDataModule
from src.data.layouts import SPLITS
from src.errors import UserError
from src.training.module import SegmentationModule

log = logging.getLogger(__name__)


def data_to_evaluate(config: DictConfig, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's data group with its recorded values; overrides on the command line go before them.

    With another group (`data=`) only the names of the groups matter, and nothing recorded is used.
    """
    recorded = checkpoint["hyper_parameters"]["data"]
    overrides = [o for o in HydraConfig.get().overrides.task if o.startswith(("data=", "data."))]
    other_group = any(o.startswith("data=") and o != f"data={recorded['name']}" for o in overrides)
    if other_group:
        data = plain(config.data)
    else:
        composed = compose("eval", [f"data={recorded['name']}", *overrides]).data
        asked = [o.partition("=")[0].removeprefix("data.") for o in overrides if o.startswith("data.")]
        merged = OmegaConf.merge(OmegaConf.create(plain(composed)), recorded)
        for key in asked:
            OmegaConf.update(merged, key, OmegaConf.select(composed, key))
        data = plain(merged)
    split = data.pop("split") or data["val_split"]
    if not other_group and set(SPLITS[split]) & set(SPLITS[recorded["train_split"]]):
        log.warning(
            "WARNING: this network was trained on '%s', which contains '%s': the result says nothing about "
            "new images.",
            recorded["train_split"],
            split,
        )
    return data | {"val_split": split}


def load_module(checkpoint: dict[str, Any], data: SegmentationDataModule, path: str) -> SegmentationModule:
    """Raises UserError where the network has other classes than the dataset, or foreign weights."""
    recorded = checkpoint["hyper_parameters"]
    if len(recorded["classes"]) != data.table.num_classes:
        raise UserError(
            f"checkpoint={path}: a network for {len(recorded['classes'])} classes (those of "
            f"{recorded['data']['name']}), but data={data.config['name']} has {data.table.num_classes}. "
            f"Evaluate it on a dataset with its own classes, or choose another checkpoint."
        )
    module = SegmentationModule(
        model=recorded["model"],
        data=recorded["data"],
        classes=recorded["classes"],
        precision=recorded["precision"],
    )
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise UserError(
            f"checkpoint={path}: its weights do not fit the network that it names.\n{error}"
        ) from error
    return module
