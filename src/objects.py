"""Objects that conf/ describes by a `_target_`: found, checked and made, with errors that name the key."""

import inspect
import pydoc
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from src.config import CONF_DIR, plain
from src.errors import UserError, shorten
from src.schema.keys import KEYS
from src.schema.kinds import shown

_HYDRAS_OWN = {"_target_", "_args_", "_convert_", "_partial_", "_recursive_"}


def build(key: str, config: Mapping[str, Any], **arguments: Any) -> Any:
    """Make the object that a `_target_` describes. Raises UserError with its key for values not allowed."""
    if problem := problem_of(key, config):
        raise UserError(problem)
    try:
        return instantiate({"_convert_": "all", **_arguments(key, config)}, **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if str(cause).startswith(f"{key}."):  # the message names the key itself
            raise UserError(str(cause)) from error
        if isinstance(cause, ModuleNotFoundError):
            raise UserError(f"{key}: {config['_target_']} needs a package: {cause}") from error
        values = ", ".join(
            f"{k}={v}" for k, v in plain(config).items() if k != "_target_" and len(str(v)) < 40
        )
        # albumentations checks with pydantic, whose own message is a page long.
        checked: list[Any] = getattr(cause and (cause.__cause__ or cause.__context__), "errors", list)()
        reasons = [": ".join([*map(str, entry["loc"][:1]), entry["msg"]]) for entry in checked]
        reason = "; ".join(reasons) or str(cause or error)
        raise UserError(f"{key}: {config['_target_']} refuses {values}\n{reason}") from error


def check_objects(config: Mapping[str, Any], groups: tuple[str, ...], single: tuple[str, ...]) -> None:
    """Raises UserError for all `_target_`s that cannot be imported, and arguments that they do not have.

    Args:
        config: that of the whole run.
        groups: keys of mappings whose entries are such objects, or null.
        single: keys of mappings that are such an object themselves.
    """
    entries = [(key, config[key]) for key in single]
    entries += [(f"{group}.{name}", entry) for group in groups for name, entry in config[group].items()]
    problems = [problem_of(key, entry) for key, entry in entries if entry and "_target_" in entry]
    if any(problems):
        raise UserError(shorten([problem for problem in problems if problem], 20))


def problem_of(key: str, config: Mapping[str, Any]) -> str:
    """Why the object, or one within its arguments, cannot be made; empty if nothing speaks against it."""
    target = config.get("_target_") if isinstance(config, Mapping) else None
    if not isinstance(target, str):
        return f"{key}={shown(config)}: expected an object with a _target_, or null."
    try:
        found = pydoc.locate(target)
    except pydoc.ErrorDuringImport as error:
        return f"{key}._target_={target}: cannot be imported ({type(error.value).__name__}: {error.value})."
    if found is None:
        return _not_found(key, target)
    if not callable(found):
        return f"{key}._target_={target}: a {type(found).__name__}, where a class or a function is needed."
    try:
        parameters = dict(inspect.signature(found).parameters)
    except (TypeError, ValueError):  # some functions written in C have no signature
        parameters = {}
    known = [name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
    if parameters and len(known) == len(parameters):
        for name in _arguments(key, config).keys() - _HYDRAS_OWN - set(known):
            close = get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {close[0]}?" if close else f" It has {', '.join(known) or 'none'}."
            if not close and (CONF_DIR / key / "any.yaml").is_file():
                hint += f" {key}=any is for a class that has no file in conf/{key}."
            return f"{key}.{name}: {target} has no such argument.{hint}"
    return next(filter(None, (problem_of(where, inner) for where, inner in _inner(key, config))), "")


def _arguments(key: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The entry without what the table of keys lists beside its arguments, such as schedule.interval."""
    return {name: value for name, value in config.items() if f"{key}.{name}" not in KEYS}


def _inner(key: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Objects among the arguments, such as the transforms of albumentations.OneOf."""
    items: Any = value.items() if isinstance(value, Mapping) else enumerate(value)
    for name, entry in items:
        if isinstance(entry, Mapping) and isinstance(entry.get("_target_"), str):
            yield f"{key}.{name}", entry
        elif isinstance(entry, Mapping | list):
            yield from _inner(f"{key}.{name}", entry)


def _not_found(key: str, target: str) -> str:
    owner, _, name = target.rpartition(".")
    text = f"{key}._target_={target}: cannot be imported"
    module: Any = pydoc.locate(owner) if owner else None
    if module is None:
        return f"{text}: there is no module {owner or target}. Is its package installed?"
    close = get_close_matches(name, [entry for entry in dir(module) if not entry.startswith("_")], n=1)
    return f"{text}: {owner} has no {name}.{f' Did you mean {owner}.{close[0]}?' if close else ''}"
