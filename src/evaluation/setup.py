"""What an evaluation evaluates: a trained network on the dataset that it knows, or on another one."""

import logging
import re
from functools import reduce
from typing import Any

from hydra import compose
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf

from src.config import is_recorded, plain
from src.config import overrides as typed_overrides
from src.data.datamodule import SegmentationDataModule
from src.errors import UserError
from src.inference.exports.exported_network import ExportedNetwork
from src.training.module import SegmentationModule
from src.weights.checkpoint_schema import RECORDED_KEYS
from src.weights.recorded_network import RecordedNetwork
from src.weights.trained_network import TrainedNetwork

log = logging.getLogger(__name__)


def data_to_evaluate(config: DictConfig, trained: RecordedNetwork) -> dict[str, Any]:
    """The network's data group with its recorded values; overrides on the command line take precedence.

    Published weights record no data: they get the group for their number of classes.
    Recorded values are taken literally: an interpolation in one of them is only a string. A recorded street
    is drawn into this cache_dir, wherever it was drawn before. The recorded `cache` is not used, because it
    depended on the machine.
    If `data=` names another group than the recorded one, no recorded value is used. The same holds for an
    evaluation that is repeated (`--config-dir`), because its config has a record of its own.
    """
    _check_limits(config.trainer)
    overrides = [o.lstrip("+") for o in typed_overrides()]
    groups = [o.removeprefix("data=") for o in overrides if o.startswith("data=")]
    if is_recorded("data") or trained.dataset is None or any(group != trained.dataset for group in groups):
        data = plain(config.data)
    else:
        if trained.data is None and not groups:
            log.info(
                "The weights have %d classes, so their dataset is taken to be %s (data=%s).",
                trained.num_classes,
                *[trained.dataset] * 2,
            )
        recorded = {key: value for key, value in (trained.data or {}).items() if key in RECORDED_KEYS}
        data = _group(trained.dataset) | recorded | {"split": None, "cache": "auto"}
        given = [o.partition("=")[0].removeprefix("data.") for o in overrides if o.startswith("data.")]
        for key in given:
            value = plain(OmegaConf.select(config, f"data.{key}"))
            *groups, leaf = key.split(".")
            reduce(lambda place, group: place.setdefault(group, {}), groups, data)[leaf] = value
        if "root" not in given and data.get("street"):
            data["root"] = _place_of_street(config, data["street"])
        elif not any(key.startswith("street") for key in given):
            data["street"] = None  # the files at the root are used; no street is drawn there
    split = data.pop("split", None) or data["val_split"]
    trained.warn_of_seen_images(data["name"], split)
    return data | {"val_split": split}


def _check_limits(trainer: DictConfig) -> None:
    if trainer.limit_val_batches == 0:
        raise UserError("trainer.limit_val_batches=0: there would be no metrics. null evaluates all images.")


def _group(name: str) -> dict[str, Any]:
    """The values of a file of conf/data, for keys newer than the checkpoint, and for the root, which exported
    files do not record; no root if the file is gone."""
    nothing = {"root": None}
    if not re.fullmatch(r"\w[\w-]*", name):  # otherwise it could be a path, or other Hydra syntax
        return nothing
    try:
        return plain(compose("eval", [f"data='{name}'"]).data) or nothing
    except MissingConfigException:
        return nothing


def _place_of_street(config: DictConfig, street: dict[str, Any]) -> str:
    """The root that conf/data/street.yaml gives to a street."""
    reference = compose("eval", ["data=street"])
    reference.cache_dir = config.cache_dir
    reference.data.street = street
    return reference.data.root


def module_to_evaluate(
    trained: TrainedNetwork | ExportedNetwork, data: SegmentationDataModule
) -> SegmentationModule:
    """The network as a module for this data. Raises UserError if its classes are not those of the dataset."""
    check_classes(trained, data)
    model = trained.model
    if not trained.mean_is_known:
        mean = list(data.config["mean"])
        log.warning("WARNING: the mean that its training subtracted is unknown; data.mean=%s is used.", mean)
        model = model | {"preprocessing": model["preprocessing"] | {"mean": mean}}
    return SegmentationModule(
        model=model,
        data=dict(data.config),
        classes=list(data.table.class_names),
        precision=trained.precision,
        segmenter=trained.segmenter(model),
    )


def check_classes(trained: RecordedNetwork, data: SegmentationDataModule) -> None:
    """Raises UserError if the network's classes are not those of the dataset; warns if nobody knows."""
    table = data.table
    if trained.classes is None and trained.num_classes == table.num_classes:
        log.warning(
            "WARNING: its %d classes are those of no known dataset. Their order is taken to be that of %s.",
            trained.num_classes,
            data.config["name"],
        )
    elif trained.classes != list(table.class_names):
        whose = f" (those of {trained.dataset})" if trained.dataset else ""
        raise UserError(
            f"checkpoint={trained.path}: a network for {trained.num_classes} classes{whose}, but "
            f"data={data.config['name']} has {table.num_classes} of its own. Evaluate it on a dataset with "
            f"its own classes{_known_by(trained)}, or choose another checkpoint."
        )


def _known_by(trained: RecordedNetwork) -> str:
    return f" (data={trained.dataset} data.root=...)" if trained.dataset else ""
