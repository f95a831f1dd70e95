"""Checks all values of a config against the table of keys, before anything is imported or made."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from src.config import USER_ERRORS, for_the_user, plain
from src.errors import UserError, shorten
from src.schema.comments import meaning
from src.schema.data_keys import DATA_KEYS, PART_KEYS
from src.schema.keys import KEYS, OF_TASK, OPEN, PARTS, TARGETED, TARGETS
from src.schema.kinds import LONGEST_NAME, LONGEST_PATH, Group, Kind, shown
from src.schema.rules import RULES

_SHOWN = 20  # problems


def check_values(config: DictConfig, task: str, needed: Iterable[str] = ()) -> None:
    """Raises UserError that names every key whose value has another type or range than the table says.

    A key of `needed` that is absent (deleted with `~`, or left out of a user's own file) becomes null if
    null is allowed for it, and is an error otherwise.
    """
    problems = _fill_in(config, task, needed)
    values, unresolved = _resolve(config, task)
    derived: list[str] = []
    for key, value in values.items():
        problem = _problem(key, value, values, task)
        if problem:
            (derived if _is_derived(config, key) else problems).append(problem)
    problems = problems or derived or unresolved
    if not problems:
        problems = [problem for rule in RULES if (problem := rule(values))]
    if problems:
        raise UserError(shorten(problems, _SHOWN))


def check_object(key: str, entry: Mapping[str, Any]) -> None:
    """The same check for one object of the table, with a `_target_`."""
    values = {f"{key}.{name}": value for name, value in entry.items()}
    if problems := [problem for k, v in values.items() if (problem := _problem(k, v, values, ""))]:
        raise UserError("\n".join(problems))


def kind_of(key: str, values: Mapping[str, Any], task: str) -> Kind | None:
    """What the table allows for a key; None if it does not have the key, or the class that the key is for.

    Args:
        values: those of the whole config by key, which name the classes (`optimizer._target_`).
    """
    for table in (OF_TASK.get(task, {}), KEYS):
        if key in table:
            return table[key]
    if key.startswith("data.parts."):
        return _kind_in_part(*key.split(".")[3:])
    owner, _, name = key.rpartition(".")
    if owner in PARTS:
        return PARTS[owner].get(name)
    target = values.get(f"{owner}._target_")
    return TARGETS.get(target, {}).get(name) if isinstance(target, str) else None


def _kind_in_part(name: str = "", *below: str) -> Kind | None:
    """Of data.parts.<part>, of a key of the part, or of a key below that."""
    if below:
        return DATA_KEYS.get(".".join(("data", name, *below)))
    return PART_KEYS.get(name) if name else Group()


def _problem(key: str, value: Any, values: Mapping[str, Any], task: str) -> str:
    """What is wrong with a value; empty if nothing is."""
    group, _, name = key.rpartition(".")
    if value == "???":
        return f"{key}=... is missing.{_as_comment(key, task)}"
    if key in TARGETED and isinstance(value, Mapping) and "_target_" not in value:
        return f"{key}._target_ is missing: choose a file of conf/{key} ({key}=...)."
    if name == "_target_":
        is_path = isinstance(value, str) and value
        return "" if is_path else _refusal(key, value, "the dotted path of a class", task)
    kind = kind_of(key, values, task)
    if kind is None and group == "data":  # in a file of the user's own, which `check_keys` takes as it is
        close = get_close_matches(key, DATA_KEYS, n=1, cutoff=0.0)[0]
        return f"Unknown config key: {key}. The nearest one is {close}; all keys are in conf/data."
    if kind is None and group.startswith("data.parts."):
        known = get_close_matches(name, PART_KEYS, n=1, cutoff=0.0)[0]
        return (
            f"Unknown config key: {key}. The nearest one is {known}; all keys are in conf/data/joined.yaml."
        )
    if kind is None and group in OPEN:  # an object of the user's own, or one that is switched off
        if value is None or (isinstance(value, Mapping) and "_target_" in value):
            return ""
        return _refusal(key, value, "an object with a _target_, or null", task)
    return "" if kind is None or kind.allows(value) else _refusal(key, value, kind.expected, task)


def _refusal(key: str, value: Any, expected: str, task: str) -> str:
    if isinstance(value, str) and len(value.encode(errors="replace")) > LONGEST_NAME:
        expected += f", with at most {LONGEST_NAME} bytes between slashes and {LONGEST_PATH} in all"
    text = f"{key}={shown(value)}: expected {expected}."
    if isinstance(value, int | float) and not isinstance(value, bool) and expected.startswith("a name"):
        text += f" Quote it, since it reads as a number: \"{key}='{value}'\"."
    if isinstance(value, list) and key == "checkpoint":
        text += " Several are evaluated in turn: python -m src.eval -m checkpoint=one.ckpt,other.ckpt"
    return text + _as_comment(key, task)


def _as_comment(key: str, task: str) -> str:
    about = meaning(key, task)
    return f"  # {about}" if about else ""


def _node(config: DictConfig, key: str) -> Any:
    """The node of a key, the whole config for an empty key; None if a list or a value is above the key."""
    try:
        return OmegaConf.select(config, key) if key else config
    except OmegaConfBaseException:
        return None


def _fill_in(config: DictConfig, task: str, needed: Iterable[str]) -> list[str]:
    problems = []
    for key in needed:
        group, _, name = key.rpartition(".")
        parent = _node(config, group)
        if not isinstance(parent, DictConfig) or name in list(parent):  # `name in parent` is False for ???
            continue
        target = parent.get("_target_")
        kind = kind_of(key, {f"{group}._target_": target}, task)
        if group in OPEN or key == "sweep" or (kind is not None and kind.allows(None)):
            with open_dict(parent):
                parent[name] = None
        else:
            expected = f"expected {kind.expected}" if kind else "it is required"
            problems.append(f"{key} is missing: {expected}. A key cannot be deleted (~{key}), only changed.")
    return problems


def _resolve(config: DictConfig, task: str) -> tuple[dict[str, Any], list[str]]:
    """The values of all keys, groups included; and a message for each that cannot be resolved."""
    try:
        return dict(_walk(plain(config))), []
    except USER_ERRORS:
        values: dict[str, Any] = {}
        problems: dict[str, None] = {}
        unresolved: Any = OmegaConf.to_container(config)
        for key in dict(_walk(unresolved)):
            group, _, name = key.rpartition(".")
            parent = _node(config, group)
            if not isinstance(parent, DictConfig):
                continue
            try:
                values[key] = plain(parent[name])
            except USER_ERRORS as error:
                if not OmegaConf.is_config(parent._get_node(name)):  # else its own keys have the problem
                    problems[for_the_user(error, task).text] = None
        return values, list(problems)


def _walk(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{key}.")


def _is_derived(config: DictConfig, key: str) -> bool:
    """Whether the value follows from another key; then the problem of that key is the one to report."""
    group, _, name = key.rpartition(".")
    parent = _node(config, group)
    return isinstance(parent, DictConfig) and OmegaConf.is_interpolation(parent, name)
