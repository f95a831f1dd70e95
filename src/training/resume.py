"""What a run resumes from: its last.ckpt, read once, and compared with what this training would save."""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from src.config import flatten
from src.errors import UserError, brief, shorten
from src.masking import without_secrets
from src.runs.directory import Run, rank
from src.runs.directory_checks import check_own
from src.schema.roles import MAY_CHANGE
from src.training.module import SegmentationModule
from src.weights.checkpoint_files import WAYS_ON, AtomicCheckpointIO
from src.weights.safe_pickle import mapping
from src.weights.tensor_checks import fault

log = logging.getLogger(__name__)

_LIKE_THE_PARAMETER = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")


def read_last_checkpoint(run: Run) -> dict[str, Any] | None:
    """The content of the run's last.ckpt; None for a new run.

    Raises UserError if the file is damaged, belongs to another run, or was written with another config; the
    config is compared even if config.yaml is gone.
    """
    path = run.last_checkpoint
    if path is None:
        return None
    checkpoint = AtomicCheckpointIO().load_checkpoint(path)
    if rank() == 0:
        check_own(run.directory, checkpoint, path)
        _check_same_training(checkpoint, run.config, path)
        if run.extended:
            _check_extendable(checkpoint, path)
    return checkpoint


def _check_extendable(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Raises UserError for a training that trainer.max_steps has ended within an epoch: the rest of this
    epoch would be lost."""
    loops = mapping(mapping(checkpoint.get("loops")).get("fit_loop"))
    progress = mapping(loops.get("epoch_loop.batch_progress"))
    ended = checkpoint.get("total_steps") == checkpoint.get("global_step")
    if ended and progress.get("is_last_batch") is False:
        raise UserError(
            f"extend=true: trainer.max_steps has ended the run within an epoch, and it can be extended only "
            f"after a whole one. Begin a new run with its weights: checkpoint={path} name=longer"
        )


def _check_same_training(checkpoint: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> None:
    recorded, training = checkpoint["hyper_parameters"], checkpoint["hyper_parameters"].get("training")
    before = {"model": recorded["model"], "data": recorded["data"]}
    if isinstance(training, dict):
        before |= {key: training.get(key) for key in ("optimizer", "schedule")}
    then, now = dict(flatten(without_secrets(before))), dict(flatten(config))
    changed = [
        f"  {key}: {brief(then[key])} in it, {brief(now[key])} now"
        for key in sorted(then.keys() & now.keys())  # an older run lacks the other keys
        if _differ(then[key], now[key]) and not key.startswith(MAY_CHANGE)
    ]
    if changed:
        raise UserError(
            f"{path}: written with another config than this command's:\n" + "\n".join(changed) + "\n"
            "The file belongs to another run, or this is not the run's own command. Put the run's own file "
            "back, or copy the run's own best.ckpt over it."
        )


def _differ(found: Any, wanted: Any) -> bool:
    try:
        return bool(found != wanted)
    except (RuntimeError, ValueError):  # a damaged file has a tensor or an array there
        return True


def check_resumable(
    checkpoint: Mapping[str, Any], path: Path, trainer: pl.Trainer, module: SegmentationModule
) -> None:
    """Raises UserError that names the values which this training could not have saved, since Lightning loads
    them without a check."""
    optimizer, scheduler = module.build_optimizer(steps=10**6, epochs=10**6)
    fresh = {
        "epoch": 0,
        "global_step": 0,
        "scored_epoch": None,
        "scored_step": None,
        "total_steps": 0,
        "loops": {"fit_loop": trainer.fit_loop.state_dict()},
        "SegmentationDataModule": {"next_epoch": 0, "next_batch": 0},
        "averaging_state": {"n_averaged": torch.tensor(0)},
        "optimizer_states": [{"param_groups": optimizer.state_dict()["param_groups"]}],
        "lr_schedulers": [scheduler.state_dict()],
        "callbacks": {c.state_key: c.state_dict() for c in trainer.callbacks if _keeps_its_kind(c)},  # type: ignore[attr-defined]
    }
    lines = list(_unlike(checkpoint, fresh))
    lines += _wrong_weights(checkpoint, module)
    if not lines:
        state = checkpoint["optimizer_states"][0]
        lines += _switched(state.get("param_groups", []), optimizer.param_groups)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        lines += _wrong_states(state.get("state"), parameters)
    if lines:
        raise UserError(
            f"{path}: not a checkpoint of this training:\n{shorten([f'  {line}' for line in lines])}\n"
            f"The run cannot resume from it: {WAYS_ON}"
        )


def spread_anew(
    checkpoint: dict[str, Any], module: SegmentationModule, steps: int, epochs: int, asked: bool
) -> None:
    """Gives a checkpoint the schedule of a training of another length, at the step that it was saved at.

    A schedule's state records its length, so it would end where the shorter training has ended. Nothing is
    changed if the length is still the same, and for a schedule that does not depend on it.

    Args:
        steps: optimizer steps of the whole training.
        epochs: of the whole training.
        asked: whether the run is to be extended; older checkpoints do not record their length.
    """
    before = checkpoint.get("total_steps")
    if before == steps or (before is None and not asked):
        return
    optimizer, scheduler = module.build_optimizer(steps, epochs)
    name, groups = type(scheduler).__name__, checkpoint["optimizer_states"][0]["param_groups"]
    rates = [group["lr"] for group in groups]
    if not isinstance(scheduler, ReduceLROnPlateau):
        with warnings.catch_warnings():  # that the optimizer has not stepped yet
            warnings.simplefilter("ignore")
            for _ in range(min(checkpoint["lr_schedulers"][0]["last_epoch"], steps)):
                scheduler.step()
        checkpoint["lr_schedulers"] = [scheduler.state_dict()]
        for group, new in zip(groups, optimizer.param_groups, strict=True):
            group |= {key: value for key, value in new.items() if key != "params"}
    if rank() == 0:
        log.warning(
            "The training has %d steps now%s. Its schedule, %s, continues at step %d as in a training of "
            "that length: the learning rate is %s there, and was %s so far.",
            steps,
            f", and had {before} before" if before else "",
            name,
            checkpoint["global_step"],
            ", ".join(f"{group['lr']:.3g}" for group in groups),
            ", ".join(f"{rate:.3g}" for rate in rates),
        )


def renew_patience(checkpoint: dict[str, Any], trainer: pl.Trainer) -> None:
    """Gives a checkpoint the patience of this command's EarlyStopping, which Lightning would replace by the
    recorded one. A run that was stopped goes on if its patience is larger now."""
    for callback in trainer.early_stopping_callbacks:
        state, fresh = checkpoint["callbacks"].get(callback.state_key), callback.state_dict()
        if not state or state["patience"] == callback.patience:
            continue
        kept = ("wait_count", "best_score")
        if state["wait_count"] < callback.patience:
            state |= {key: value for key, value in fresh.items() if key not in kept}
        state["patience"] = callback.patience


def _keeps_its_kind(callback: Callback) -> bool:
    """Whether its state has the same structure at any time. Of other callbacks nothing is known: that of
    StochasticWeightAveraging, for example, begins with -1 and None."""
    return type(callback).__module__.startswith("src.") or isinstance(
        callback, ModelCheckpoint | EarlyStopping
    )


def _unlike(found: Any, fresh: Any, where: str = "") -> Iterator[str]:
    """The values in `found` of another kind than in `fresh`, the content for a training that has not begun.
    Missing keys are left to Lightning and to torch, which complete what their older versions have written;
    only the loops would begin to count again at 0, without a word."""
    if isinstance(fresh, dict):
        if not isinstance(found, dict):
            yield f"{where}={brief(found)}"
            return
        if where.startswith("loops"):
            yield from (f"{where}.{key} is missing" for key in fresh.keys() - found.keys())
        for key in found.keys() & fresh.keys():
            yield from _unlike(found[key], fresh[key], f"{where}.{key}" if where else str(key))
    elif isinstance(fresh, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(fresh):
            yield f"{where}={brief(found)}"
            return
        for i, (one, other) in enumerate(zip(found, fresh, strict=True)):
            yield from _unlike(one, other, f"{where}.{i}")
    elif not _alike(found, fresh):
        yield f"{where}={brief(found)}"


def _alike(found: Any, fresh: Any) -> bool:
    if isinstance(fresh, Tensor):
        same = isinstance(found, Tensor) and found.shape == fresh.shape and not bool(found.isnan().any())
        return same and found.is_floating_point() == fresh.is_floating_point()
    if isinstance(fresh, bool | str):
        return type(found) is type(fresh)
    if isinstance(fresh, int):
        return type(found) is int and 0 <= found < 2**53
    if isinstance(fresh, float):  # the best score so far is infinite at first, and may be negative
        if type(found) not in (int, float) or math.isnan(found):
            return False
        return math.isinf(fresh) or (math.isfinite(found) and (found >= 0 or fresh < 0))
    single = isinstance(found, Tensor) and found.numel() == 1
    return found is None or single or type(found) in (int, float, str)  # None: not known at first


def _wrong_weights(checkpoint: Mapping[str, Any], module: SegmentationModule) -> list[str]:
    wanted = module.state_dict()
    states = [(key, checkpoint.get(key)) for key in ("state_dict", "current_model_state")]
    return [
        f"{name}.{key}: {problem}"
        for name, state in states
        if isinstance(state, dict)
        for key, tensor in state.items()
        if key in wanted and (problem := _wrong(key, tensor, wanted[key]))
    ]


def _wrong(key: str, tensor: Any, wanted: Tensor) -> str | None:
    if not isinstance(tensor, Tensor) or tensor.shape != wanted.shape:
        return f"{brief(tensor)}, expected {tuple(wanted.shape)}"
    return fault(key, tensor, wanted.dtype)


def _switched(found: list[dict[str, Any]], fresh: list[dict[str, Any]]) -> list[str]:
    """Switches of the optimizer, such as amsgrad, that differ: a schedule changes rates, but none of them."""
    return [
        f"optimizer_states.0.param_groups.{number}.{key}={group[key]}"
        for number, (group, own) in enumerate(zip(found, fresh, strict=False))
        for key, value in own.items()
        if isinstance(value, bool) and group.get(key, value) is not value
    ]


def _wrong_states(states: Any, parameters: list[Tensor]) -> list[str]:
    """Names the wrong entries in the states that an optimizer keeps for its parameters."""
    if not isinstance(states, dict) or not all(isinstance(state, dict) for state in states.values()):
        return [f"optimizer_states.state={brief(states)}"]
    lines = [f"optimizer_states.state.{brief(key)}" for key in states if key not in range(len(parameters))]
    return lines or [
        f"optimizer_states.state.{number}.{key}={brief(value)}"
        for number, state in states.items()
        for key, value in state.items()
        if (key in _LIKE_THE_PARAMETER and _wrong(key, value, parameters[number]))
        or (key == "step" and not _is_count(value))
    ]


def _is_count(value: Any) -> bool:
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    return type(number) in (int, float) and number >= 1
