"""Fine-tuning, a training that begins with given weights: `python -m src.train checkpoint=...`."""

import logging
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from src.config import flatten, is_recorded, overrides, plain
from src.errors import UserError
from src.network.build import where_it_failed
from src.network.segmenter import Segmenter
from src.training.module import SegmentationModule
from src.weights.checkpoint_files import AtomicCheckpointIO
from src.weights.shipped import weights_path
from src.weights.trained_network import TrainedNetwork, check_fit, digest, restore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InitialWeights:
    """The weights that a run begins with.

    record: what the run's checkpoints record about these weights.
    trained: the network that has them; None for a run with random weights, and for a resumed run, whose
        weights are in its own checkpoint.
    resumed: whether the run resumes.
    """

    record: dict[str, Any] | None = None
    trained: TrainedNetwork | None = None
    resumed: bool = False

    @property
    def path(self) -> Path | None:
        return weights_path(self.trained.path) if self.trained else None

    def load_into(self, module: SegmentationModule) -> None:
        """Load the weights into the module; the classifier starts anew if the classes differ. Without
        `checkpoint=` a new training begins with the network's own pretrained weights, if it has some.

        Raises UserError if the config asks for another network than the one in the file.
        """
        if self.trained is None:
            if not self.resumed:
                load_pretrained(module.segmenter.network)
            return
        weights, known = dict(self.trained.weights), self.trained.classes
        same = known == module.classes if known else self.trained.num_classes == len(module.classes)
        if not same:
            new = _classifier_of(module)
            log.info(
                "The classifier (%s) starts anew, for %d classes: checkpoint=%s was trained on %d others.",
                ", ".join(dict.fromkeys(key.rpartition(".")[0] for key in new)),
                len(module.classes),
                self.trained.path,
                self.trained.num_classes,
            )
            weights |= new
        try:
            check_fit(module.hparams["model"], weights, self.trained.path)
        except UserError as error:
            raise UserError(f"{error.text}\nWithout model.* keys the model follows the file.") from error
        module.segmenter.load_state_dict(weights)


def _classifier_of(module: SegmentationModule) -> dict[str, Tensor]:
    """The weights, as initialised, of all layers whose shape depends on the number of classes: those that
    differ in a network for one class more or less.

    Raises UserError if no argument of the network is the number of classes.
    """
    model, classes = module.hparams["model"], len(module.classes)
    other = classes - 1 if classes > 1 else classes + 1
    own = module.segmenter.state_dict()
    found: dict[str, Tensor] = {}
    for argument in (key for key, value in model.items() if "class" in key and value == classes):
        with torch.random.fork_rng(devices=[]):
            twin = Segmenter.from_config(model | {argument: other}).state_dict()
        found |= {k: v for k, v in own.items() if k not in twin or twin[k].shape != v.shape}
    if not found:
        raise UserError(
            f"The weights are for other classes, and {model['_target_']} has no argument for their number, "
            f"such as num_classes={classes}: which layers have to start anew cannot be told."
        )
    return found


def load_pretrained(network: nn.Module) -> None:
    """Load the network's own pretrained weights, if its class has some. Raises UserError."""
    load = getattr(network, "load_pretrained", None)
    if load is None:
        return
    log.info("Beginning with the pretrained weights of %s", type(network).__name__)
    try:
        load()
    except Exception as error:  # of any type, in a network of the user's own; often a failed download
        raise UserError(
            f"{type(network).__name__}.load_pretrained fails: {where_it_failed(error)}"
        ) from error


def initial_weights(config: DictConfig) -> tuple[DictConfig, InitialWeights]:
    """The config to train with, and the initial weights that `checkpoint=` names.

    Two keys of the config follow the file: `model`, except for `model.*` on the command line; and
    `checkpoint_sha256`. A resumed run takes the model from its last.ckpt, and the SHA-256, too, if the file
    is gone.

    Raises UserError for a file that cannot be used, or is not the one that the config was recorded with.
    """
    last = Path(config.run_dir) / "checkpoints" / "last.ckpt"
    if config.checkpoint is None:
        return config, InitialWeights(resumed=last.exists())
    config = deepcopy(config)
    if last.exists():
        return config, _resumed(config, last)
    trained = restore(config.checkpoint)
    found = digest(config.checkpoint)
    if config.checkpoint_sha256 not in (None, found):
        raise UserError(
            f"checkpoint={config.checkpoint}: not the file that this config began with. Its SHA-256 is "
            f"{found}, expected checkpoint_sha256={config.checkpoint_sha256}. Give the expected file, or "
            f"checkpoint_sha256=null."
        )
    config.checkpoint_sha256 = found
    log.info("Beginning with the weights of checkpoint=%s", config.checkpoint)
    trained.warn_of_seen_images(config.data.name, config.data.val_split)
    if not is_recorded("model"):  # else the config has the whole model already
        _say_what_follows(config, _follow(config, trained.model))
    record = {
        "checkpoint": Path(trained.path).name,
        "sha256": found,
        "family": trained.family,
        "trained_on": trained.trained_on,
    }
    return config, InitialWeights(record, trained)


def _resumed(config: DictConfig, last: Path) -> InitialWeights:
    checkpoint = AtomicCheckpointIO().load_checkpoint(last)
    recorded = checkpoint["hyper_parameters"]
    record = recorded.get("began_from")
    if record is not None:  # else the run began without checkpoint=, and this command is refused later
        is_there = weights_path(config.checkpoint).is_file()
        config.checkpoint_sha256 = digest(config.checkpoint) if is_there else record["sha256"]
        _follow(config, recorded["model"])
    return InitialWeights(record, resumed=True)


def _follow(config: DictConfig, model: dict[str, Any]) -> dict[str, Any]:
    """Give `config` the file's model, except for what the command line sets; returns the changed values."""
    own = plain(config.model)
    followed = own if own["_target_"] == model["_target_"] else {}
    followed = deepcopy(followed | model)
    if "num_classes" in own:
        followed["num_classes"] = own["num_classes"]  # set by the dataset
    for key in _given():
        group, _, leaf = key.rpartition(".")
        (followed[group] if group else followed)[leaf] = plain(OmegaConf.select(config.model, key))
    with open_dict(config):
        config.model = followed
    before = dict(flatten(own))
    return {key: value for key, value in flatten(followed) if before.get(key) != value}


def _given() -> list[str]:
    """Keys below `model` that the command line sets."""
    keys = [o.lstrip("+").partition("=")[0] for o in overrides()]
    return [key.removeprefix("model.") for key in keys if key.startswith("model.")]


def _say_what_follows(config: DictConfig, changed: dict[str, Any]) -> None:
    if changed:
        values = ", ".join(f"model.{key}={value}" for key, value in changed.items())
        log.info("The model follows checkpoint=%s: %s", config.checkpoint, values)
    if _given():
        kept = ", ".join(f"model.{key}={OmegaConf.select(config.model, key)}" for key in _given())
        log.info("Set by the command line, not by the file: %s", kept)
