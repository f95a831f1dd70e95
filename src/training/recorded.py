"""What a checkpoint says of itself, checked before anything is made of it."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from src.data.cache_modes import MODES
from src.data.checks import LARGEST
from src.data.layouts import LAYOUTS, SPLITS
from src.errors import UserError, brief, shorten
from src.labels import LABEL_TABLES

_Check = Callable[[Any], bool]


def check_recorded(checkpoint: dict[str, Any], path: str) -> None:
    """Raises UserError that names every value which no training of ours records.

    Nothing is looked up, imported, resolved or allocated on the word of a value that was not checked.
    """
    recorded = checkpoint["hyper_parameters"]
    problems = _problems("hyper_parameters", recorded, _RECORDED)
    problems += _problems("", checkpoint, {"epoch": _integer(0, 10**9), "state_dict": _is_state})
    if isinstance(recorded["data"], dict):
        problems += _problems("data", recorded["data"], _DATA)
        problems += [f"data.{key} is missing" for key in _DATA_NEEDED if key not in recorded["data"]]
        street = recorded["data"].get("street")
        problems += _problems("data.street", street, _STREET) if isinstance(street, dict) else []
    if problems:
        raise UserError(
            f"checkpoint={path}: it records what no training of this project does.\n{shorten(problems)}\n"
            f"Is it damaged, or made by somebody else? Give the best.ckpt or last.ckpt of a run."
        )


def _problems(where: str, found: dict[str, Any], checks: dict[str, _Check]) -> list[str]:
    prefix = f"{where}." if where else ""
    return [
        f"{prefix}{key}={brief(found[key])}"
        for key, is_right in checks.items()
        if key in found and not is_right(found[key])
    ]


def _integer(lowest: int, highest: int) -> _Check:
    return lambda value: type(value) is int and lowest <= value <= highest


def _numbers(count: int | None = None) -> _Check:
    def check(value: Any) -> bool:
        fits = isinstance(value, list) and (count is None or len(value) == count)
        return fits and all(type(number) in (int, float) and math.isfinite(number) for number in value)

    return check


def _any_of(*checks: _Check) -> _Check:
    return lambda value: any(check(value) for check in checks)


def _one_of(*values: Any) -> _Check:
    return lambda value: isinstance(value, str | None) and value in values


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.replace("\n", "").isprintable()  # nothing for the terminal to do


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_integer(1, LARGEST)(side) for side in value)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_origin(value: Any) -> bool:
    """Of fine-tuned weights: {"family", "sha256", "trained_on": None or [{"data", "split"}, ...], ...}"""
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


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items()
    )


_RECORDED: dict[str, _Check] = {
    "model": _is_dict,  # the Segmenter and its network check the rest
    "data": _is_dict,
    "classes": lambda value: isinstance(value, list) and all(_is_text(name) for name in value),
    "precision": _one_of("32-true", "bf16-mixed", "16-mixed", "64-true"),
    "training": _any_of(_is_dict, _one_of(None)),
    "began_from": _any_of(_is_origin, _one_of(None)),
}
_DATA: dict[str, _Check] = {
    "name": _is_text,
    "root": _any_of(_is_text, _one_of(None)),
    "layout": _one_of(*LAYOUTS),
    "labels": lambda value: isinstance(value, str) and value in LABEL_TABLES,
    "num_classes": _integer(1, 255),
    "train_split": _one_of(*SPLITS),
    "val_split": _one_of(*SPLITS),
    "crop_size": _is_size,
    "mean": _numbers(3),
    "std": _numbers(3),
    "class_weights": _any_of(_numbers(), _one_of("labels", None)),
    "batch_size": _integer(1, 10**6),
    "val_batch_size": _integer(1, 10**4),
    "num_workers": _any_of(_integer(0, 1024), _one_of("auto")),
    "cache": _one_of(*MODES),
    "street": _any_of(_is_dict, _one_of(None)),
}
_DATA_NEEDED = ("name", "layout", "labels", "train_split", "val_split", "crop_size")
_STREET: dict[str, _Check] = {
    "train": _integer(1, 10**5),
    "val": _integer(1, 10**5),
    "width": _integer(64, 2048),
    "height": _integer(32, 1024),
    "seed": _integer(0, 2**63),
}
RECORDED_KEYS = frozenset(_DATA)
"""Of the data group; others in a checkpoint are not looked at."""
