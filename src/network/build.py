"""From plain data to a network. Checkpoints have this data: what they may name is in src.network.trust."""

import difflib
import importlib
import inspect
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from src.errors import UserError, brief
from src.network.trust import is_trusted

PACKAGE = "src.network"
RULE = f"expected the dotted path of a network class in the package {PACKAGE}, such as {PACKAGE}.cgnet.CGNet"


def build_network(target: Any, arguments: Mapping[str, Any]) -> nn.Module:
    """The network class that `target` names, called with `arguments`.

    Nothing outside the package is imported, let alone called, unless the user has named it. Raises UserError,
    which names the target or the argument at fault.
    """
    if isinstance(target, str) and is_trusted(target) and not target.startswith(f"{PACKAGE}."):
        return _build_foreign(target, arguments)
    return construct(target, _network_class(target), arguments)


def _build_foreign(target: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A class, or a function that returns a network, of the user's own or of a library."""
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"_target_={target}: {error}. Is its package installed, or is its folder in PYTHONPATH, or the "
            f"one in which the command is run?"
        ) from error
    except Exception as error:  # of any type, in a module of the user's own
        raise UserError(f"_target_={target}: cannot be imported: {where_it_failed(error)}") from error
    if not callable(found := getattr(module, name, None)):
        close = difflib.get_close_matches(name, [n for n in vars(module) if not n.startswith("_")], n=1)
        hint = f" Did you mean {module_name}.{close[0]}?" if close else ""
        raise UserError(f"_target_={target}: {module_name} has no class {name}.{hint}")
    try:
        network = construct(target, found, arguments)
    except UserError:
        raise
    except Exception as error:
        if (
            isinstance(error, NotImplementedError | RuntimeError)
            and torch.get_default_device().type == "meta"
        ):
            raise  # its constructor needs values of tensors, and the caller asked for none
        raise UserError(f"{target}: {where_it_failed(error)}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"_target_={target}: gives a {type(network).__name__}, not a torch.nn.Module.")
    return network


def where_it_failed(error: BaseException) -> str:
    """The error of code that is not ours, with the file and the line of it that was reached last."""
    frames = list(traceback.extract_tb(error.__traceback__))
    ours = str(Path(__file__).parents[1])
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith((ours, "<"))]
    frames = own or frames
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def construct(
    where: str, cls: Callable[..., Any], arguments: Any, supplied: Mapping[str, Any] | None = None
) -> Any:
    """cls(**supplied, **arguments); any fault of `arguments` is a UserError that begins with `where`."""
    supplied = supplied or {}
    if not isinstance(arguments, Mapping):
        raise UserError(f"{where}: expected keys and values, found {brief(arguments)}")
    parameters = inspect.signature(cls).parameters
    variadic = {name: p.kind for name, p in parameters.items() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    takes_any = inspect.Parameter.VAR_KEYWORD in variadic.values()
    open_names = [name for name in parameters if name not in supplied and name not in variadic]
    for name in arguments:
        if name not in open_names and not takes_any:
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
    own_code = isinstance(target, str) and "." in target and not target.startswith(f"{PACKAGE}.")
    way = f"\nIf you know this class and trust the file, name it: trust={target}" if own_code else ""
    refusal = UserError(f"_target_={brief(target)} is not allowed: {RULE}{way if len(way) < 300 else ''}")
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
