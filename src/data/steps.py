"""Builds the transforms of conf/augment: their order, their fill values, and a check of what they do."""

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np

from src.data.augment import TRANSFORMS, RandomScaledCrop, SeededTransform, Transform
from src.errors import UserError
from src.labels import IGNORE
from src.objects import build

Size = tuple[int, int]
"""(height, width)"""

_DRAWS = 8  # trials with each frame size; half of them at the smallest scale


def build_steps(
    augment: Mapping[str, Any], mean: Sequence[float], always: bool = False
) -> dict[str, Transform]:
    """The transforms by name, in the order in which they are applied; null leaves one out.

    Steps that were added after `pad` are moved before it, so that they do not change the padded pixels; only
    `flip` stays after it. A step that fills pixels, but has no fill values in the config, fills the image
    with the dataset's mean and the label with IGNORE.

    Args:
        always: give each step probability 1, so that a check sees what it does.

    Raises UserError that names the key of a step that cannot be built.
    """
    names = [name for name, step in augment.items() if step is not None]
    if "pad" in names:
        behind = names[names.index("pad") :]
        stay = [name for name in behind if name in ("pad", "flip")]
        names[-len(behind) :] = [name for name in behind if name not in stay] + stay
    steps = {}
    for name in names:
        key, values = f"augment.{name}", augment[name]
        step = build(key, _completed(values, mean, always), _convert_="all")
        if not isinstance(step, TRANSFORMS):
            raise UserError(f"{key}: {values['_target_']} is no transform of albumentations.")
        steps[name] = step
    return steps


def _completed(value: Any, mean: Sequence[float], always: bool) -> Any:
    """The values of a step, and of steps nested in it (such as in OneOf), with the fill values added."""
    if isinstance(value, list):
        return [_completed(item, mean, always) for item in value]
    if not isinstance(value, Mapping):
        return value
    result = {name: _completed(item, mean, always) for name, item in value.items()}
    parameters = _parameters(value.get("_target_"))
    if _is_zero(parameters.get("fill_mask")):  # else the step does not fill the label, like CoarseDropout
        result.setdefault("fill_mask", IGNORE)
        if _is_zero(parameters.get("fill")) and "tuple" in str(parameters["fill"].annotation):
            result.setdefault("fill", list(mean))
    if always and "p" in parameters:
        result["p"] = 1.0
    return result


def _is_zero(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and parameter.default == 0


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    """Of the class `target`; empty if they are unknown or there is no such class, which `build` reports."""
    try:
        module, _, name = target.rpartition(".")
        return inspect.signature(getattr(import_module(module), name)).parameters
    except (AttributeError, ImportError, TypeError, ValueError):
        return {}


def check_steps(augment: Mapping[str, Any], mean: Sequence[float], sizes: Sequence[Size]) -> Size:
    """The size of every sample.

    Every step is tried on synthetic frames. Raises UserError that names a step which changes the dtype or the
    number of channels, or which puts new ids into the label. Also raises it if samples would differ in size.

    Args:
        sizes: of all training frames.
    """
    steps = build_steps(augment, mean, always=True)
    wanted = augment["crop"].get("size") if "crop" in steps else None
    size: Size | None = (wanted[0], wanted[1]) if wanted else None
    lowest = (min(height for height, _ in sizes), min(width for _, width in sizes))
    for frame in dict.fromkeys([lowest, min(sizes), max(sizes)]):
        for draw in range(_DRAWS):
            passed = _try(steps, frame, draw)
            made = passed[-1][1]
            size = size or made
            if made != size:
                scale = augment["crop"].get("scale") if "crop" in steps else None
                raise UserError(_differs(passed, size, scale))
    assert size is not None
    return size


def _try(steps: Mapping[str, Transform], frame: Size, draw: int) -> list[tuple[str, Size]]:
    """Apply all steps to a synthetic frame; returns the names of the steps and the size after each."""
    image = np.zeros((*frame, 3), np.uint8)
    # Two pairs of ids without a common one: an id that a step adds is new to at least one of them.
    pair = np.array(((1, 6), (0, 8))[draw // 2 % 2], np.uint8)
    rows, columns = (np.arange(side) // 16 % 2 for side in frame)
    mask = pair[rows[:, None] ^ columns]
    passed = [("", frame)]
    for name, step in steps.items():
        if isinstance(step, RandomScaledCrop) and draw % 2 == 0:
            step.scale = (step.scale[0], step.scale[0])
        who = f"augment.{name}: {type(step).__name__}"
        try:
            image, mask = SeededTransform([step], draw)(image, mask, 0, 0).values()
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{who} fails on an image of {_said(passed[-1][1])} pixels: {type(error).__name__}: {error}"
            ) from error
        _check_kind(who, image, (*image.shape[:2], 3), "image")
        _check_kind(who, mask, image.shape[:2], "label")
        strange = sorted(set(np.unique(mask).tolist()) - {*pair.tolist(), IGNORE})
        if strange:
            raise UserError(
                f"{who} puts the ids {strange} into a label that has none of them. Filled pixels must be "
                f"{IGNORE} (ignored; fill_mask={IGNORE}), and ids must not be interpolated "
                f"(mask_interpolation=0, nearest neighbour)."
            )
        passed.append((name, (image.shape[0], image.shape[1])))
    return passed


def _check_kind(who: str, found: Any, shape: tuple[int, ...], what: str) -> None:
    if isinstance(found, np.ndarray) and found.dtype == np.uint8 and found.shape == shape:
        return
    kind = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
    raise UserError(
        f"{who} turns the {what} into {kind}. Images must stay uint8 (H, W, 3) and labels uint8 (H, W): the "
        f"network subtracts the mean itself, on the device."
    )


def _differs(passed: Sequence[tuple[str, Size]], size: Size, scale: Any) -> str:
    """The message for a sample that is not of `size`, with its cause. `scale`: the crop's, if any."""
    made, names = passed[-1][1], [name for name, _ in passed]
    changes = [
        name for (_, old), (name, new) in pairwise(passed) if old != new and name not in ("crop", "pad")
    ]
    if changes:
        fix = f"augment.{changes[-1]} changes the size: choose values that keep the size."
    elif "crop" not in names:
        fix = "Give a crop (augment.crop), or a dataset with frames of one size."
    elif "pad" not in names:
        fix = f"augment.pad gives all one size: leave it on, or raise the lowest augment.crop.scale={scale}."
    else:
        fix = "augment.pad has a different size (min_height, min_width) from augment.crop."
    return (
        f"augment: a frame of {_said(passed[0][1])} pixels can become a sample of {_said(made)}, but all "
        f"samples must have {_said(size)} (width x height) to share a batch. {fix}"
    )


def _said(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]}"
