"""From plain data to a network. Checkpoints have this data, so it must not be able to name anything else."""

import difflib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from src.errors import UserError, brief

PACKAGE = "src.network"
RULE = f"expected the dotted path of a network class in the package {PACKAGE}, such as {PACKAGE}.cgnet.CGNet"


def build_network(target: Any, arguments: Mapping[str, Any]) -> nn.Module:
    """The network class that `target` names, called with `arguments`.

    Nothing outside the package is imported, let alone called. Raises UserError, which names the target or the
    argument at fault.
    """
    return construct(target, _network_class(target), arguments)


def construct(
    where: str, cls: type[nn.Module], arguments: Any, supplied: Mapping[str, Any] | None = None
) -> Any:
    """cls(**supplied, **arguments); any fault of `arguments` is a UserError that begins with `where`."""
    supplied = supplied or {}
    if not isinstance(arguments, Mapping):
        raise UserError(f"{where}: expected keys and values, found {brief(arguments)}")
    parameters = inspect.signature(cls).parameters
    open_names = [name for name in parameters if name not in supplied]
    for name in arguments:
        if name not in open_names:
            close = difflib.get_close_matches(str(name), open_names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UserError(f"{where}: unknown argument {brief(name)}{hint} (known: {', '.join(open_names)})")
    missing = [
        name
        for name in open_names
        if name not in arguments and parameters[name].default is inspect.Parameter.empty
    ]
    if missing:
        raise UserError(f"{where}: missing argument {', '.join(missing)}")
    try:
        return cls(**supplied, **arguments)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _network_class(target: Any) -> type[nn.Module]:
    refusal = UserError(f"_target_={brief(target)} is not allowed: {RULE}")
    if not isinstance(target, str) or not target.startswith(PACKAGE + "."):
        raise refusal
    module_name, _, class_name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # If a module of ours exists, but one of its own imports is missing, the target is not at fault.
        if error.name is not None and module_name.startswith(error.name):
            raise refusal from None
        raise
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise refusal
    # Not a class that our module merely imports, and not the Segmenter, which wraps a network.
    if not found.__module__.startswith(PACKAGE + ".") or found.__module__ == f"{PACKAGE}.segmenter":
        raise refusal
    return found
