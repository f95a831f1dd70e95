"""`--config-dir <run directory>`: a command starts from the config that a run recorded."""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config import CONF_DIR, RECORDED, below_run_dir, flatten, in_conf, plain
from src.errors import UserError
from src.runs.record import read_starts

_PRIMARY = "recorded"
_UNKNOWN = "unknown"  # the file of a group, if the run's record does not name it
_EXACT = ("augment", "callbacks")  # an entry added to conf/ after the run would change what it computes


def recorded_config(task: str) -> str | None:
    """The name of the primary config for Hydra if `--config-dir` is a run directory; else None.

    It has the values of the run's config.yaml, and so repeats the run. Where an expression of conf/ still
    gives the recorded value, such as `${run_dir}/checkpoints`, the expression stays: `name=again` moves the
    checkpoints, too. Each group is a choice (`optimizer: recorded/adam`), which `optimizer=sgd` replaces.
    Keys that were added to conf/ after the run are taken from conf/; but callbacks, augmentation and the
    arguments of a `_target_` are exactly the run's own.

    Raises UserError for a run of another task, and for a config.yaml that cannot be read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--multirun", "-m", action="store_true")
    given = parser.parse_known_args(sys.argv[1:])[0]
    if given.config_dir is None or not (given.config_dir / "config.yaml").is_file():
        return None
    path = given.config_dir / "config.yaml"
    try:
        kept = OmegaConf.load(path)
    except Exception as error:  # an error of the file system, of YAML or of OmegaConf
        raise UserError(f"{path}: cannot be read: {error}") from error
    _check_whole(path, kept)
    if not isinstance(kept, DictConfig) or "task" not in kept:  # a folder of the user's own config files
        return None
    if kept.task != task:
        raise UserError(f"{path}: recorded by src.{kept.task}; python -m src.{task} cannot repeat it.")
    recorded = _recorded_choices(given.config_dir)
    choices, conf = _conf(task, recorded)
    run_dir = kept.run_dir
    _keep_expressions(kept, conf)
    for group in (group for group, choice in choices.items() if choice and not in_conf(group, choice)):
        del conf[group]  # of a user's own file only the values are known
    _add_new_keys(kept, conf)
    if given.multirun:
        kept.name = conf["name"]  # a sweep must not write into the run's own directory
    _store(kept, choices, run_dir)
    return _PRIMARY


def _check_whole(path: Path, kept: Any) -> None:
    """Raises UserError if a run's config.yaml is not as the run wrote it: missing keys would be taken from
    conf/, and a different training would run under the same name."""
    starts = read_starts(path.parent)
    if not starts:
        if (path.parent / "checkpoints").is_dir() and "task" not in (kept or ()):
            raise UserError(f"{path}: cut off or damaged, so the run cannot be repeated from it.")
        return
    recorded = starts[-1].get("config_sha256")
    if recorded not in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
        raise UserError(
            f"{path}: not as the run wrote it: damaged, cut off or edited. To repeat the run, use the "
            f"command in record.json; to change something, add overrides to it."
        )


def _recorded_choices(directory: Path) -> dict[str, str]:
    """The file of each group, from record.json if it exists. Its groups include an experiment's values."""
    try:
        choices = json.loads((directory / "record.json").read_text())["starts"][-1]["choices"]
    except (OSError, ValueError, LookupError):
        return {}
    return {g: choice for g, choice in choices.items() if choice and g not in ("experiment", "sweep")}


def _conf(task: str, recorded: dict[str, str]) -> tuple[dict[str, str | None], dict[str, Any]]:
    """The file of each group, and the config that conf/ gives for them, with expressions unresolved."""
    there = [f"{group}={choice}" for group, choice in recorded.items() if in_conf(group, choice)]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = compose(task, there, return_hydra_config=True)
    known = {g: c for g, c in composed.hydra.runtime.choices.items() if g.partition("/")[0] != "hydra"}
    conf = _raw(composed)
    del conf["hydra"]
    return {group: choice and recorded.get(group, _UNKNOWN) for group, choice in known.items()}, conf


def _keep_expressions(kept: DictConfig, conf: dict[str, Any]) -> None:
    """Replace each value in `kept` by the expression that `conf` has for it, if that gives the same value."""
    for key, expression in flatten(conf):
        group, _, name = key.rpartition(".")
        parent = OmegaConf.select(kept, group) if group else kept
        if "${" not in str(expression) or not isinstance(parent, DictConfig) or name not in parent:
            continue
        value = plain(parent[name])
        parent[name] = expression
        try:
            same = plain(parent[name]) == value
        except OmegaConfBaseException:
            same = False
        if not same and expression != "${interactive:}":  # depends on the present terminal, not the run's
            parent[name] = value


def _add_new_keys(kept: DictConfig, conf: dict[str, Any]) -> None:
    for key, value in conf.items():
        if key not in kept:
            kept[key] = value
        elif isinstance(value, dict) and key not in _EXACT:
            mapping = kept[key]
            if isinstance(mapping, DictConfig) and "_target_" not in mapping:
                _add_new_keys(mapping, value)


def _store(kept: DictConfig, choices: dict[str, str | None], run_dir: str) -> None:
    """Give Hydra the config: a primary one and a file for each group."""
    # A run with another name must not write into the recorded directory.
    values = {
        k: value if k == "run_dir" else below_run_dir(run_dir, value) for k, value in _raw(kept).items()
    }
    groups = [group for group in values if choices.get(group)]
    defaults: list[Any] = [{"hydra": "house"}]
    for group in groups:
        node = values.pop(group)
        ConfigStore.instance().store(name=str(choices[group]), node=node, group=f"{group}/{RECORDED[:-1]}")
        defaults.append({group: f"{RECORDED}{choices[group]}"})
    # As in conf/train.yaml: an experiment, which stands last, overrides the values; a sweep has no values.
    empty: list[Any] = [{group: None} for group in choices if group not in groups and group != "experiment"]
    experiment: list[Any] = [{"experiment": None}] if "experiment" in choices else []
    primary = {"defaults": [*defaults, *empty, "_self_", *experiment], **values}
    ConfigStore.instance().store(name=_PRIMARY, node=primary)


def _raw(config: DictConfig) -> dict[str, Any]:
    """As plain data, with expressions unresolved."""
    return OmegaConf.to_container(config)  # type: ignore[return-value]
