"""Whether the keys of a config are those of the files of conf/ that were chosen."""

import logging

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from src.config import RECORDED, conf_choice, in_conf, keys_of, overrides, unknown_key
from src.errors import UserError

log = logging.getLogger(__name__)


def check_keys(config: DictConfig, config_name: str) -> set[str]:
    """Raises UserError for keys that the chosen files of conf/ do not have; returns those that they have.

    Hydra refuses unknown keys on the command line, but takes those of an experiment file and those added
    with `+`: a typo would silently change nothing.
    """
    if several := next((o for o in overrides() if o.startswith("logger=[")), None):
        raise UserError(
            f"{several}: choose one file of conf/logger, and write the other logger as a key, with the "
            f"values of its file: logger=wandb 'logger.tensorboard={{_target_: ..., ...}}'"
        )
    choices = HydraConfig.get().runtime.choices
    added = {o.lstrip("+").partition("=")[0] for o in overrides() if o.startswith("+")}
    not_compared = {"experiment", "hydra", "sweep"} | added
    groups = [
        f"{group}={conf_choice(group, choice)}"
        for group, choice in choices.items()
        if choice and group not in not_compared and not group.startswith("hydra/")
    ]
    known = set(keys_of(OmegaConf.to_container(compose(config_name, groups))))
    _drop_replaced(config, config_name, known)
    parents = known | {""}
    unknown = [
        key
        for key in keys_of(OmegaConf.to_container(config))
        if key not in known and key.rpartition(".")[0] in parents  # for an unknown group, its name is enough
        if not _is_new_entry(config, key, known)
    ]
    if unknown:
        raise UserError("\n".join(unknown_key(key, known) for key in unknown))
    # A user's own file may leave out keys that ours have; a recorded group has exactly its run's arguments.
    own = [group for group, choice in choices.items() if choice and not in_conf(group, choice)]
    recorded = [group for group in own if str(choices[group]).startswith(RECORDED)]
    filled = {"data", "trainer"} & set(own)
    ours = set(keys_of(OmegaConf.to_container(compose(config_name)))) if filled else set()
    return {key for key in known if key.partition(".")[0] not in recorded} | {
        key for key in ours if "." in key and key.partition(".")[0] in filled
    }


def _drop_replaced(config: DictConfig, config_name: str, known: set[str]) -> None:
    """Takes out what an experiment sets for a class that the command line replaces, and the new one lacks:
    schedule.min_lr of experiment=demo, an argument of its PolyLR, under schedule=one_cycle."""
    typed = {override.lstrip("+~").partition("=")[0] for override in overrides()}
    for group in sorted(typed & {"model", "loss", "optimizer", "schedule"}):
        values = config.get(group)  # None of one that was deleted, which is an error found elsewhere
        names = list(values) if OmegaConf.is_dict(values) else []
        odd = [name for name in names if f"{group}.{name}" not in known and name not in _below(group, typed)]
        before = _before(config_name, group) if odd else set()
        for name in odd:
            if f"{group}.{name}" in before:
                log.info("%s.%s is left out: it belongs to the %s that was replaced.", group, name, group)
                with open_dict(config):
                    del config[group][name]


def _below(group: str, typed: set[str]) -> set[str]:
    return {key.split(".")[1] for key in typed if key.startswith(f"{group}.")}


def _before(config_name: str, group: str) -> set[str]:
    """The keys of the file of conf/ that a group has by the experiment, or by default."""
    experiment = HydraConfig.get().runtime.choices.get("experiment")
    given = [f"experiment={experiment}"] if experiment else []
    choices = compose(config_name, given, return_hydra_config=True).hydra.runtime.choices
    if not choices.get(group):  # an evaluation has no such group
        return set()
    return set(keys_of(OmegaConf.to_container(compose(config_name, [f"{group}={choices[group]}"]))))


def _is_new_entry(config: DictConfig, key: str, known: set[str]) -> bool:
    """Whether it is a callback, a step of the augmentation or a logger that the user adds, also in the place
    of a null; an argument of the optimizer, the schedule or the teacher's network, which its class checks; a
    row of a table; or the weight of an auxiliary head."""
    group, _, name = key.partition(".")
    if group in ("optimizer", "schedule"):
        return (bool(name) and "." not in name) or name.startswith("groups.")
    if key.startswith(("auxiliary_weight.", "teacher.model.")):
        return True
    if group not in ("callbacks", "augment", "logger"):
        return False
    place = f"{group}.{name.partition('.')[0]}"
    entry = OmegaConf.select(config, place)
    is_new = "." not in name or f"{place}._target_" not in known
    return OmegaConf.is_config(entry) and "_target_" in entry and is_new
