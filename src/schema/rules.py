"""Rules between values. A rule takes the values by key and returns what is wrong, or an empty text.

Rules are applied when every value has the type and range of the table. A key may be missing: an evaluation
has no model, a prediction has no data, and a user's own optimizer may name its learning rate differently.
"""

from collections.abc import Callable, Mapping
from typing import Any

from src.errors import UserError
from src.label_tables import JOINED, OWN, table_of
from src.labels import LabelTable
from src.schema.kinds import shown

Values = Mapping[str, Any]


def _labels(values: Values) -> str:
    if "data" not in values or _are_to_be_proposed(values):
        return ""
    try:
        table_of(_data(values))
    except UserError as error:
        return error.text
    return ""


def _are_to_be_proposed(values: Values) -> bool:
    """Whether the doctor is asked which classes there are (src/diagnosis/proposal.py)."""
    lacks = values["data.labels"] == OWN and values.get("data.classes") is None
    return values["task"] == "doctor" and lacks and values.get("data.layout") != JOINED


def _data(values: Values) -> Values:
    return {key.removeprefix("data."): value for key, value in values.items() if key.startswith("data.")}


def _table(values: Values) -> LabelTable | None:
    if "data" not in values:
        return None
    try:
        return table_of(_data(values))
    except UserError:
        return None


def _num_classes(values: Values) -> str:
    table = _table(values)
    for key in ("data.num_classes", "model.num_classes"):
        if table and values.get(key, table.num_classes) != table.num_classes:
            return (
                f"{key}={values[key]}: data.labels={table.name} has {table.num_classes} classes. Leave it "
                f"out, it follows from the labels."
            )
    return ""


def _class_weights(values: Values) -> str:
    table = _table(values)
    for key in ("data.class_weights", "loss.class_weights"):
        weights = values.get(key)
        if table and isinstance(weights, list) and len(weights) != table.num_classes:
            return (
                f"{key} has {len(weights)} numbers, for {table.num_classes} classes: give one number per "
                f"class, 'labels' (computed from the training labels) or null."
            )
    return ""


def _learning_rate(values: Values) -> str:
    rate, lowest = values.get("optimizer.lr"), values.get("schedule.min_lr", 0.0)
    if isinstance(rate, int | float) and isinstance(lowest, int | float) and lowest > rate:
        return (
            f"schedule.min_lr={lowest:g} is above optimizer.lr={rate:g}, so that the learning rate would "
            f"rise. Set schedule.min_lr=0, or the learning rate that the training should end with."
        )
    if rate == lowest and values.get("schedule._target_") == "src.training.schedules.PolyLR":
        return (
            f"schedule.min_lr={lowest:g} is optimizer.lr, so that the learning rate would never fall. Set "
            f"schedule.min_lr=0, or choose schedule=constant."
        )
    return ""


def _fused(values: Values) -> str:
    """Lightning would refuse this only later: a fused optimizer unscales the gradients by itself."""
    clipped, scaled = values.get("trainer.gradient_clip_val"), values.get("trainer.precision") == "16-mixed"
    if values.get("optimizer.fused") and clipped and scaled:
        return (
            "optimizer.fused=true cannot be combined with trainer.gradient_clip_val under "
            "trainer.precision=16-mixed. Set optimizer.fused=null, or trainer.precision=bf16-mixed."
        )
    return ""


def _checkpoints(values: Values) -> str:
    """The run resumes from, reports and evaluates files at these places."""
    folder = f"{values.get('run_dir')}/checkpoints"
    for key, target, right in (
        ("callbacks.best.dirpath", "best_checkpoint.RunCheckpoint", folder),
        ("callbacks.last.path", "last_checkpoint.LastCheckpoint", f"{folder}/last.ckpt"),
    ):
        ours = values.get(f"{key.rpartition('.')[0]}._target_") == f"src.training.callbacks.{target}"
        if ours and values.get(key, right) != right:
            return (
                f"{key}={shown(values[key])}: the run looks for its checkpoints in {folder}. Set "
                f"runs_dir=... or run_dir=... to have the whole run elsewhere."
            )
    return ""


def _scales(values: Values) -> str:
    """At 4 times its height and width, a Cityscapes frame has 2.5 GB of logits for 19 classes."""
    scale, factors = values.get("input_scale", 1.0), values.get("tta.scales", [1.0])
    if scale * max(factors) > 4:
        return f"tta.scales={shown(factors)} times input_scale={scale:g}: give a product of at most 4."
    return ""


def _stride(values: Values) -> str:
    window, stride = values.get("window"), values.get("stride")
    if stride is None:
        return ""
    if window is None:
        return f"stride={shown(stride)} is the stride of a window: give window=[height,width], too."
    if any(step > side for step, side in zip(stride, window, strict=True)):
        return (
            f"stride={shown(stride)}: a stride larger than the window, {shown(window)}, leaves pixels "
            f"without a class. null = two thirds of the window."
        )
    return ""


def _length(values: Values) -> str:
    """With neither of the two set, Lightning would train for 1000 epochs."""
    epochs, steps = values.get("trainer.max_epochs"), values.get("trainer.max_steps", -1)
    if "trainer" in values and epochs in (None, -1) and steps == -1:
        return (
            f"trainer.max_epochs={shown(epochs)} and trainer.max_steps=-1: a training without end has no "
            f"learning-rate schedule, and trainer.max_time does not say how many steps it has. Set one of "
            f"them."
        )
    return ""


def _unlabelled(values: Values) -> str:
    split = values.get("teacher.unlabelled_split")
    if split is None or values.get("teacher.checkpoint") or values.get("teacher.model"):
        return ""
    return (
        f"teacher.unlabelled_split={split}: without labels these images can only be learned from a teacher. "
        f"Set teacher.checkpoint."
    )


RULES: tuple[Callable[[Values], str], ...] = (
    _labels,
    _num_classes,
    _class_weights,
    _learning_rate,
    _fused,
    _checkpoints,
    _scales,
    _stride,
    _length,
    _unlabelled,
)
