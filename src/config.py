"""conf/ as a schema: a key that conf/ does not have is an error, which names the nearest key that it has."""

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from src.errors import UserError

USER_ERRORS = (UserError, HydraException, OmegaConfBaseException)
CONF_DIR = Path(__file__).resolve().parent.parent / "conf"
RECORDED = "recorded/"  # prefix of a choice whose values are from a run's config.yaml (src/runs/repeat.py)
_STAMP = "CGNET_RUN_STAMP"


def register_resolvers() -> None:
    """For conf/: `${run_stamp:}` (one for all ranks and jobs of a command), `${num_classes:table}`, ..."""

    def num_classes(table: str, classes: Any = None) -> int:
        from src.label_tables import OWN, table_of  # imports numpy, which --help does not need

        if table == OWN:  # the rules of the schema say what is wrong with the classes
            return len(classes) if OmegaConf.is_list(classes) and classes else 1
        return table_of({"labels": table}).num_classes

    OmegaConf.register_new_resolver("run_stamp", _run_stamp, replace=True)
    OmegaConf.register_new_resolver("num_classes", num_classes, replace=True)
    OmegaConf.register_new_resolver("expanduser", lambda path: str(Path(path).expanduser()), replace=True)
    OmegaConf.register_new_resolver("interactive", sys.stdout.isatty, replace=True)


def _run_stamp() -> str:
    """The same for all processes of a run: kept in the environment, which ranks and jobs inherit."""
    if _STAMP not in os.environ:
        os.environ[_STAMP] = _stamp_of_the_launcher() or time.strftime("%Y-%m-%d_%H-%M-%S")
    return os.environ[_STAMP]


def _stamp_of_the_launcher() -> str | None:
    """The stamp of processes that are started separately, whose clocks would give several; else None.

    A requeued SLURM job keeps its numbers, and so resumes in the same directory; a run of a W&B sweep, too.
    """
    given = os.environ
    if given.get("WANDB_SWEEP_ID") and given.get("WANDB_RUN_ID"):  # set by W&B's agent for each of its runs
        return f"{given['WANDB_SWEEP_ID']}/{given['WANDB_RUN_ID']}"
    if int(given.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return f"slurm-{given['SLURM_JOB_ID']}-{given['SLURM_STEP_ID']}"
    if "NODE_RANK" in given or int(given.get("WORLD_SIZE", 1)) > 1:
        raise UserError(
            "name=... is missing: several processes were started separately, and without a name they "
            "would not use the same run directory."
        )
    return None


def plain(config: Any) -> Any:
    """dicts, lists and values, with interpolations resolved: what a checkpoint may hold."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def overrides() -> list[str]:
    """The overrides as they were typed, with interpolations unresolved; empty in a notebook."""
    if not HydraConfig.initialized():
        return []
    return OmegaConf.to_container(HydraConfig.get().overrides.task)  # type: ignore[return-value]


def is_recorded(group: str) -> bool:
    """Whether a group has the values of a run that is repeated (`--config-dir=<run directory>`)."""
    return HydraConfig.initialized() and str(HydraConfig.get().runtime.choices[group]).startswith(RECORDED)


def config_dirs(settings: DictConfig | None = None) -> list[str]:
    """The command line's own --config-dir, for a command that is started from this one.

    Args:
        settings: the node `hydra` of a config; None = of the one that Hydra has composed last.
    """
    sources = (settings or HydraConfig.get()).runtime.config_sources
    return [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]


def quoted(text: str) -> str:
    """A text quoted as the value of an override, whatever it contains."""
    # Backslashes count only before a quote, and there they are doubled.
    escaped = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("trainer.max_epochs", 340), ... for every value; an empty mapping is a value."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        else:
            yield name, value


def below_run_dir(run_dir: str, value: Any) -> Any:
    """A value of a config with `${run_dir}` in the place of that directory."""
    if isinstance(value, dict):
        return {key: below_run_dir(run_dir, entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [below_run_dir(run_dir, entry) for entry in value]
    if isinstance(value, str) and (value == run_dir or value.startswith(f"{run_dir}/")):
        return "${run_dir}" + value.removeprefix(run_dir)
    return value


def in_conf(group: str, choice: str) -> bool:
    return (CONF_DIR / group / f"{choice}.yaml").is_file()


def conf_choice(group: str, choice: str | None) -> str:
    """The file of conf/ that a recorded choice came from, if it still exists; else the choice."""
    original = (choice or "null").removeprefix(RECORDED)
    return original if choice is None or in_conf(group, original) else choice


def keys_of(config: Any, prefix: str = "") -> Iterator[str]:
    """The keys of groups and of values: trainer, trainer.max_epochs, ..."""
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{key}.")


def unknown_key(key: str, known: set[str]) -> str:
    """The message for a key that is not among the known ones."""
    name = key.rpartition(".")[2]
    namesakes = sorted(k for k in known if k.rpartition(".")[2] == name)  # `lr` is optimizer.lr, not logger
    close = get_close_matches(key, namesakes, n=3, cutoff=0.0) or get_close_matches(
        key, known, n=1, cutoff=0.0
    )
    return f"Unknown config key: {key}. The nearest one is {' or '.join(close)}; all keys are in conf/."


def for_the_user(problem: Exception, config_name: str) -> UserError:
    """One of USER_ERRORS as a UserError, which a front door prints."""
    return problem if isinstance(problem, UserError) else UserError(explain(problem, config_name))


def explain(error: Exception, config_name: str) -> str:
    """One readable message for what Hydra or OmegaConf refuse."""
    cause: BaseException = error
    while cause.__cause__ is not None and isinstance(
        cause.__cause__, (HydraException, OmegaConfBaseException)
    ):
        cause = cause.__cause__
    text = str(cause).strip()
    if text.startswith("UserError raised"):  # by one of our resolvers
        return text.partition(": ")[2].partition("\n")[0]
    unknown = re.search(r"Key '([^']+)' (?:is not in struct|not in)", text)
    if unknown:
        full = re.search(r"full_key: (\S+)", text)
        key = full.group(1) if full else unknown.group(1)
        reference = _reference_keys(config_name)
        return unknown_key(key, reference) if reference else f"Unknown config key: {key}."
    if isinstance(cause, MissingMandatoryValue):
        key = text.rpartition("Missing mandatory value: ")[2].split()[0]
        return f"{key}=... is missing: conf/{config_name}.yaml says what it is."
    if "=~" in text:
        twice = "'cache_dir=\"~/data\"'"
        return f"{text.splitlines()[0]}\nA path with ~ has to be quoted twice, {twice}; or write $HOME/data."
    variable = re.search(r"Environment variable '([^']+)' not found\"?\s+full_key: (\S+)", text)
    if variable:
        return f"{variable[2]}: the environment variable {variable[1]} is not set."
    deleted = re.search(r"Could not delete from config. '([^']+)' does not exist", text)
    if deleted:
        return f"~{deleted[1]}: there is no value to delete. To switch a key off, set it to null if allowed."
    derived = re.search(r"Interpolation key '([^']+)' not found|Error trying to access (\S+):", text)
    if derived and "full_key: " in text:
        key = text.partition("full_key: ")[2].split()[0]
        source = derived.group(1) or derived.group(2)
        return (
            f"{key} follows from {source}, which has no such value here. Give {source} a value like the one "
            f"in conf/, or set {key} itself."
        )
    if "Cannot merge DictConfig with ListConfig" in text:
        lists = [o.partition("=")[0].lstrip("+") for o in sys.argv[1:] if "=[" in o]
        where = text.partition("In '")[2].partition("'")[0] or " or ".join(lists)
        return (
            f"{where or 'The config'}: a list where keys with values are expected, or the reverse, such as "
            f"ignored: [255] instead of ignored: {{ids: [255]}}."
        )
    missing = re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", text)
    if missing:
        return _unknown_choice(*missing.groups())
    return text if text in str(error) else f"{error}\n{text}"


def not_composed(error: Exception, arguments: Sequence[str]) -> UserError:
    """For an error that Hydra did not expect while it composed conf/; its text often does not say where."""
    given = [argument.partition("=") for argument in arguments]
    wrong = [
        _unknown_choice(group, choice)
        for group, equals, choice in given
        if equals and (CONF_DIR / group).is_dir() and not in_conf(group, choice)
    ]
    if isinstance(error, YAMLError):
        text = f"A file of the config is not valid YAML: {' '.join(str(error).split())}"
    elif isinstance(error, RecursionError):
        text = "The defaults lists of the config's files name each other in a circle."
    elif isinstance(error, UnicodeDecodeError):
        text = f"A file of the config is not UTF-8: {error}"
    elif not wrong:
        text = f"The config cannot be composed: {type(error).__name__}: {error}"
    else:
        text = ""
    return UserError("\n".join(filter(None, [text, *wrong])))


def _unknown_choice(group: str, choice: str) -> str:
    if choice.startswith("submitit_"):
        return f'{group}={choice} needs the package: pip install -e ".[slurm]"'
    available = files_of(group)
    if not available:
        return f"{group}={choice}: there is no folder conf/{group}."
    close = get_close_matches(choice, available, n=1, cutoff=0.0)[0]
    there_are = ", ".join(available)
    own, _ = own_folder()
    where = f" or {own}/{group}" if own else ""
    hint = "" if own else " A file of your own needs --config-dir=<its folder>."
    return (
        f"{group}={choice}: no such file in conf/{group}{where}. Did you mean {close}? There are: "
        f"{there_are}.{hint}"
    )


def files_of(group: str) -> list[str]:
    """The names of a group's files, in conf/ and in the folder of --config-dir."""
    folders = [CONF_DIR, *filter(None, [own_folder()[0]])]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def own_folder() -> tuple[Path | None, list[str]]:
    """That of --config-dir on the command line, and the override by which `compose` finds it, too."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument("--config-dir", "-cd", type=Path)
    own = flags.parse_known_args(sys.argv[1:])[0].config_dir
    return own, [f"hydra.searchpath=['file://{own.absolute()}']"] if own else []


def _reference_keys(config_name: str) -> set[str]:
    """Keys of the groups that the command line chooses. The context of `@hydra.main` is gone here."""
    split = [argument.partition("=") for argument in sys.argv[1:]]
    own, search = own_folder()
    choices = [
        f"{group}={name}"
        for group, _, name in split
        if in_conf(group, name) or (own and (own / group / f"{name}.yaml").is_file())
    ]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return set(keys_of(OmegaConf.to_container(compose(config_name, [*search, *choices]))))
