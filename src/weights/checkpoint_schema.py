"""Checks what a checkpoint records about itself, before anything is built from it."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from src.errors import UserError, brief, shorten
from src.label_tables import table_of
from src.schema.data_keys import PART_KEYS
from src.schema.keys import KEYS
from src.schema.kinds import Table, is_sound

_Check = Callable[[Any], bool]


def check_schema(checkpoint: dict[str, Any], file: str) -> None:
    """Raises UserError that names every value which no training of ours records.

    Nothing is looked up, imported, resolved or allocated because of a value that was not checked.

    Args:
        file: as the message names it: a path, with the key that gave it.
    """
    recorded = checkpoint["hyper_parameters"]
    problems = _problems("hyper_parameters", recorded, _RECORDED)
    problems += _problems("", checkpoint, {"epoch": _EPOCH, "global_step": _EPOCH, "state_dict": _is_state})
    scored: dict[str, Any] = {"scores": _any_of(_has_miou, _one_of(None))}
    scored |= dict.fromkeys(("scored_epoch", "scored_step"), _any_of(_EPOCH, _one_of(None)))
    scored |= dict.fromkeys(("val_loss", "epoch_loss"), lambda value: isinstance(value, float))
    scored["train_metrics"] = lambda value: (
        isinstance(value, dict) and all(isinstance(v, float) for v in value.values())
    )
    problems += _problems("", checkpoint, {"run": _is_run, **scored})
    if isinstance(recorded["data"], dict):
        problems += _problems("data", recorded["data"], _DATA)
        problems += [f"data.{key} is missing" for key in _DATA_NEEDED if key not in recorded["data"]]
        parts = recorded["data"].get("parts")
        places = (
            {f"data.parts.{name}": part for name, part in parts.items()} if isinstance(parts, dict) else {}
        )
        for where, place in {"data": recorded["data"], **places}.items():
            for group, checks in _GROUPS.items():
                values = place.get(group) if isinstance(place, dict) else None
                problems += _problems(f"{where}.{group}", values, checks) if isinstance(values, dict) else []
        problems += [] if problems else _table_problem(recorded["data"])
    if isinstance(recorded.get("training"), dict):
        problems += _problems("training", recorded["training"], _TRAINING)
    if problems:
        raise UserError(
            f"{file}: it has values that no training here records.\n{shorten(problems)}\n"
            f"Is it damaged, or made by somebody else? Give the best.ckpt or last.ckpt of a run."
        )


def _problems(where: str, found: dict[str, Any], checks: dict[str, _Check]) -> list[str]:
    prefix = f"{where}." if where else ""
    return [
        f"{prefix}{key}={brief(found[key])}"
        for key, is_right in checks.items()
        if key in found and not is_right(found[key])
    ]


def _table_problem(data: dict[str, Any]) -> list[str]:
    try:
        table_of(data)
    except UserError as error:
        return [error.text]
    return []


def _integer(lowest: int, highest: int) -> _Check:
    return lambda value: type(value) is int and lowest <= value <= highest


def _any_of(*checks: _Check) -> _Check:
    return lambda value: any(check(value) for check in checks)


def _one_of(*values: Any) -> _Check:
    return lambda value: isinstance(value, str | None) and value in values


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and is_sound(value)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_origin(value: Any) -> bool:
    """Where fine-tuning began: {"family", "sha256", "trained_on": None or [{"data", "split"}, ...], ...}"""
    if not isinstance(value, dict) or "trained_on" not in value:
        return False
    if not all(_is_text(value.get(key)) for key in ("family", "sha256")):
        return False
    seen = value["trained_on"]
    return seen is None or (
        isinstance(seen, list)
        and all(isinstance(e, dict) and e.keys() == {"data", "split"} for e in seen)
        and all(_is_text(text) for e in seen for text in e.values())
    )


def _is_run(value: Any) -> bool:
    """What the run recorded about itself; all of it may be missing."""
    texts = [value.get(key) for key in ("recipe", "revision")] if isinstance(value, dict) else [0]
    seed = value.get("seed") if isinstance(value, dict) else None
    return all(text is None or _is_text(text) for text in texts) and (seed is None or type(seed) is int)


def _has_miou(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("mIoU", ""), float | int | None)


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items()
    )


_EPOCH = _integer(0, 10**9)
_RECORDED: dict[str, _Check] = {
    "model": _is_dict,  # the Segmenter and its network check the rest
    "data": _is_dict,
    "classes": lambda value: isinstance(value, list) and all(_is_text(name) for name in value),
    "precision": KEYS["trainer.precision"].allows,
    "training": _any_of(_is_dict, _one_of(None)),
    "began_from": _any_of(_is_origin, _one_of(None)),
}
_DATA: dict[str, _Check] = {
    **{
        key.removeprefix("data."): kind.allows
        for key, kind in KEYS.items()
        if key.startswith("data.") and key != "data.split" and key.count(".") == 1
    },
    "name": _is_text,
    "root": _any_of(_is_text, _one_of(None)),
    "labels": _is_text,  # `_table_problem` builds the table
    "parts": _any_of(Table(PART_KEYS).allows, _one_of(None)),
    "cache": _any_of(KEYS["data.cache"].allows, _one_of("ram")),  # a mode of older versions
}
# The part that an evaluation repeats; the rest is checked when a training resumes.
_TRAINING: dict[str, _Check] = {
    "channels_last": KEYS["channels_last"].allows,
    "fp32_precision": KEYS["trainer.fp32_precision"].allows,
    "unlabelled_split": KEYS["teacher.unlabelled_split"].allows,
}
_DATA_NEEDED = ("name", "layout", "labels", "train_split", "val_split", "crop_size")
_GROUPS: dict[str, dict[str, _Check]] = {
    group: {
        key.removeprefix(f"data.{group}."): kind.allows
        for key, kind in KEYS.items()
        if key.startswith(f"data.{group}.")
    }
    for group in ("street", "splits", "ignored")
}
RECORDED_KEYS = frozenset(_DATA)
"""Keys of the data group; other keys in a checkpoint's data group are ignored."""
