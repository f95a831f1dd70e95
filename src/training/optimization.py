"""Optimizer and schedule from conf/: parameter groups, frozen parameters, and when a schedule steps."""

import inspect
import math
import pydoc
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.utilities.types import LRSchedulerConfigType
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from src.errors import UserError, shorten
from src.objects import build
from src.schema.kinds import shown

Config = Mapping[str, Any]


def freeze(network: nn.Module, config: Config) -> None:
    """Freezes the parameters to which `optimizer.groups` gives an lr_factor of 0.

    They need no gradients from then on, so this comes before DDP and torch.compile see the network. A
    BatchNorm layer with only frozen parameters keeps its statistics, too: it is put into evaluation mode,
    which Lightning leaves as it is. Other layers, such as dropout, work as in training.

    Args:
        config: the values of a file in conf/optimizer.

    Raises UserError for a pattern that matches no parameter.
    """
    table = config.get("groups")
    if not table:
        return
    used = {name: _pattern(name, table) for name, _ in network.named_parameters()}
    for number, pattern in enumerate(table):
        if pattern not in used.values():
            raise UserError(_matches_nothing(pattern, list(table)[:number], list(used)))
    for name, parameter in network.named_parameters():
        if (pattern := used[name]) is not None and table[pattern].get("lr_factor") == 0:
            parameter.requires_grad_(False)
    for layer in network.modules():
        own = list(layer.parameters(recurse=False))
        if isinstance(layer, _NormBase) and own and not any(p.requires_grad for p in own):
            layer.eval()


def build_optimizer(config: Config, module: nn.Module, network: nn.Module) -> Optimizer:
    """The optimizer of all parameters of `module`.

    They are one group, except where the network has `param_groups(lr)`, or the config has `groups`. Both
    may be given: what the config sets for a parameter then replaces what the network sets.

    Args:
        config: the values of a file in conf/optimizer.
        network: a part of `module`. Its `param_groups(lr)`, if it has one, gets the optimizer's own learning
            rate and returns groups as torch's optimizers take them: dicts with "params" and, if they differ
            from the optimizer's own, "lr", "weight_decay", ..., with each trainable parameter in exactly one.

    Raises UserError for values that are not allowed, and for a trainable parameter in no group or in two.
    """
    if not config.get("groups") and not callable(getattr(network, "param_groups", None)):
        return build("optimizer", config, params=module.parameters())
    groups = _groups(config, module, network)
    return build("optimizer", config, params=iter(groups))  # Hydra would change a list


def _groups(config: Config, module: nn.Module, network: nn.Module) -> list[dict[str, Any]]:
    table = config.get("groups") or {}
    if not isinstance(rate := config.get("lr"), int | float):
        raise UserError("optimizer.lr is missing: parameter groups have learning rates relative to it.")
    own = _own_groups(network, rate)
    of_network = {id(p): number for number, group in enumerate(own) for p in group["params"]}
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups: dict[tuple[int | None, str | None], dict[str, Any]] = {}
    for parameter in module.parameters():
        if not parameter.requires_grad:
            continue
        name = names.get(id(parameter))  # the loss may have parameters, too
        number = of_network.get(id(parameter))
        pattern = None if name is None else _pattern(name, table)
        if (number, pattern) not in groups:
            base = {} if number is None else dict(own[number])
            groups[number, pattern] = base | _set_by(pattern, table, rate, number) | {"params": []}
        groups[number, pattern]["params"].append(parameter)
    if not groups:
        raise UserError("optimizer.groups freezes all parameters: there is nothing to train.")
    return list(groups.values())


def _set_by(pattern: str | None, table: Config, rate: float, number: int | None) -> dict[str, Any]:
    """What the table sets for a group; its name is that of its learning rate in logs."""
    if pattern is None:
        return {"name": "others"} if number is None else {}
    values = {"name": pattern if number is None else f"{pattern} in group {number + 1}"}
    row = table[pattern]
    if "lr_factor" in row:
        values["lr"] = rate * row["lr_factor"]
    return values | {key: value for key, value in row.items() if key != "lr_factor"}


def _own_groups(network: nn.Module, rate: float) -> list[dict[str, Any]]:
    """What the network's param_groups returns, checked; empty if it has none."""
    param_groups = getattr(network, "param_groups", None)
    if not callable(param_groups):
        return []
    where = f"{type(network).__name__}.param_groups({rate:g})"
    found = param_groups(rate)
    if not isinstance(found, Iterable):
        raise UserError(f'{where} returns {shown(found)}: expected a list of dicts with "params".')
    groups = []
    for group in found:
        if not isinstance(group, Mapping) or "params" not in group:
            raise UserError(f'{where}: {shown(group)} is not a group. Expected a dict with "params".')
        params = group["params"]
        groups.append(dict(group) | {"params": [params] if isinstance(params, nn.Parameter) else [*params]})
    times = {id(p): 0 for p in network.parameters()}
    for parameter in (p for group in groups for p in group["params"]):
        if id(parameter) not in times:
            raise UserError(f"{where}: {shown(parameter)} is not a parameter of the network.")
        times[id(parameter)] += 1
    wrong = [
        f"  {name}: in {times[id(p)] or 'no'} group{'s' if times[id(p)] > 1 else ''}"
        for name, p in network.named_parameters()
        if times[id(p)] > 1 or (p.requires_grad and not times[id(p)])
    ]
    if wrong:
        raise UserError(f"{where}: expected each trainable parameter in one group.\n{shorten(wrong)}")
    return groups


def _pattern(name: str, table: Iterable[str]) -> str | None:
    """The first pattern of the table that matches a parameter's name."""
    return next((pattern for pattern in table if fnmatchcase(name, pattern)), None)


def _matches_nothing(pattern: str, earlier: list[str], names: list[str]) -> str:
    taken = [name for name in names if fnmatchcase(name, pattern)]
    if taken:
        return (
            f"optimizer.groups: {shown(_pattern(taken[0], earlier))} stands before {shown(pattern)} and "
            f"takes all its parameters. The first pattern that matches counts: put the narrower one first."
        )
    parts = [name.split(".") for name in names]
    layers = dict.fromkeys(".".join(part[:end]) for part in parts for end in range(1, len(part)))
    close = get_close_matches(pattern.strip("*."), layers, n=3, cutoff=0.0)
    return (
        f"optimizer.groups: {shown(pattern)} matches no parameter of the network, such as {names[0]}. Near "
        f"names are {', '.join(f'{layer}.*' for layer in close)}."
    )


def build_schedule(config: Config, optimizer: Optimizer, steps: int, epochs: int) -> LRScheduler:
    """The learning-rate schedule, made for the length of the training.

    Arguments that follow from the training are filled in where the class has them and the config does not
    set them: `total_steps` and `T_max` (optimizer steps; epochs with interval=epoch), and `max_lr`, each
    group's own learning rate.

    Args:
        config: the values of a file in conf/schedule.
        steps: optimizer steps of the whole training.
        epochs: of the whole training.

    Raises UserError for values that are not allowed.
    """
    length = epochs if config.get("interval") == "epoch" else steps
    follows = {
        "total_steps": length,
        "T_max": length,
        "max_lr": [group["lr"] for group in optimizer.param_groups],
    }
    taken = _parameters_of(config["_target_"])
    scheduler = build(
        "schedule",
        config,
        optimizer=optimizer,
        **{key: value for key, value in follows.items() if key in taken and key not in config},
    )
    _check_monitor(scheduler, config)
    return scheduler


def _parameters_of(target: str) -> set[str]:
    """Names of the arguments of a class or function; empty if it cannot be found, which `build` reports."""
    try:
        return set(inspect.signature(pydoc.locate(target)).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError, pydoc.ErrorDuringImport):
        return set()


def _check_monitor(scheduler: LRScheduler, config: Config) -> None:
    if isinstance(scheduler, ReduceLROnPlateau) == bool(config.get("monitor")):
        return
    kind = type(scheduler).__name__
    if config.get("monitor"):
        raise UserError(f"schedule.monitor={config['monitor']}: {kind} reads no metric. Set it to null.")
    raise UserError(f"schedule.monitor is missing: {kind} reads a metric, such as val/mIoU.")


def length(trainer: Trainer) -> tuple[int, int]:
    """Optimizer steps and epochs of a whole training, once its Trainer has the data."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return 10**6, 10**6  # a step of a long training: a schedule may refuse one of a single step
    trainer.fit_loop.setup_data()  # Lightning does so later where max_steps alone ends the training
    steps = int(trainer.estimated_stepping_batches)
    batches = min(trainer.num_training_batches, sys.maxsize)  # infinite in a benchmark
    return steps, math.ceil(steps / math.ceil(batches / trainer.accumulate_grad_batches))


def steps_when(config: Config, scheduler: LRScheduler) -> LRSchedulerConfigType:
    """When Lightning steps the schedule, as configure_optimizers returns it.

    A schedule with a `monitor` is stepped by the callback StepAfterValidation. Lightning would step it after
    the epoch's last checkpoint, from which a resumed run would then lack this step.
    """
    if config.get("monitor"):
        never = sys.maxsize
        return {"scheduler": scheduler, "interval": "epoch", "frequency": never, "monitor": config["monitor"]}
    return {"scheduler": scheduler, "interval": config.get("interval") or "step"}
