"""Cityscapes' instanceIds files, beside the label files: they tell apart single people and vehicles."""

import logging
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from src.data.files import Source, png_header, read_grey16
from src.data.folders import is_file
from src.data.layouts import LABEL_END, Pair
from src.data.parallel import parallel_map
from src.errors import UserError, shorten
from src.labels import IGNORE, PER_LABEL, LabelTable
from src.runs.machine import usable_cores

log = logging.getLogger(__name__)
INSTANCE_END = "_gtFine_instanceIds.png"
_NO_TRAIN_ID = 254
_AGAIN = "Extract gtFine_trainvaltest.zip again"


def find_instances(
    pairs: Sequence[Pair], sizes: Sequence[tuple[int, int]], table: LabelTable
) -> list[Source] | None:
    """The instanceIds file of each pair, its header checked; None, with a log line, if no pair has one.

    Raises UserError that names the files that are damaged, of another size, or missing while others exist.

    Args:
        sizes: (height, width) of each pair.
    """
    if not table.has_instances or any(pair.label is None for pair in pairs):
        return None
    labels: list[Source] = [pair.label for pair in pairs if pair.label is not None]
    paths = instance_files(labels)
    if paths is not None:
        check_instance_files(paths, sizes)
    return paths


def instance_files(labels: Sequence[Source]) -> list[Source] | None:
    """The instanceIds files beside the label files; None, with a log line, if there is none at all.

    Raises UserError where some are missing.
    """
    paths = [label.with_name(label.name.removesuffix(LABEL_END) + INSTANCE_END) for label in labels]
    missing = [path for path in paths if not is_file(path)]
    if len(missing) == len(paths):
        log.info("No *%s files beside the labels: no iIoU is computed, which needs them.", INSTANCE_END)
        return None
    if missing:
        lines = shorten([f"{path}: missing" for path in missing])
        raise UserError(
            f"{len(missing)} of {len(paths)} labels have no instanceIds file beside them.\n{lines}\n"
            f"{_AGAIN}, or remove the other instanceIds files: then iIoU is left out."
        )
    return paths


def check_instance_files(paths: Sequence[Source], sizes: Sequence[tuple[int, int]]) -> None:
    """Raises UserError for errors in headers and at file ends; others are found when the files are read."""
    jobs = list(zip(paths, sizes, strict=True))
    found = [problem for problem in parallel_map(_problem, jobs, threads=4 * usable_cores()) if problem]
    if found:
        raise UserError(
            f"{shorten(found)}\n{_AGAIN}, or remove all instanceIds files: then iIoU is left out."
        )


def _problem(job: tuple[Source, tuple[int, int]]) -> str:
    path, size = job
    try:
        header = png_header(path)
    except UserError as error:
        return error.text
    if (header.bits, header.mode) != (16, "grey"):
        return f"{path}: an instanceIds file is a 16-bit PNG of one channel, this one is {header}."
    if header.size != size:
        return f"{path}: {header.width}x{header.height} pixels, but its label has {size[1]}x{size[0]}."
    return ""


def read_instances(path: Source, target: np.ndarray, table: LabelTable) -> np.ndarray:
    """(H, W) int32, the ids as stored.

    Raises UserError where the file is damaged, or an id belongs to another class than the target.

    Args:
        target: (H, W) uint8 train ids of the same frame.
    """
    ids = read_grey16(path)
    if ids.shape != target.shape:
        raise UserError(
            f"{path}: {ids.shape[1]}x{ids.shape[0]} pixels, but its label has "
            f"{target.shape[1]}x{target.shape[0]}. {_AGAIN}."
        )
    differs = np.take(_train_ids(table), ids) != target
    if differs.any():
        row, column = np.argwhere(differs)[0].tolist()
        raise UserError(
            f"{path}: disagrees with its label file in {np.count_nonzero(differs)} pixels, such as row "
            f"{row}, column {column}: the id {ids[row, column]}, where the label is "
            f"{_said(int(target[row, column]), table)}. Both must come from the same release. {_AGAIN}."
        )
    return ids.astype(np.int32)


def _said(train_id: int, table: LabelTable) -> str:
    return "an ignored one" if train_id == IGNORE else f"'{table.class_names[train_id]}'"


@lru_cache
def _train_ids(table: LabelTable) -> np.ndarray:
    """(65536,) uint8, from an instance id to the train id that the target must have there."""
    result = np.full(2**16, _NO_TRAIN_ID, np.uint8)
    for label in table.labels:
        result[label.id] = label.train_id
        if label.has_instances:
            result[label.id * PER_LABEL : (label.id + 1) * PER_LABEL] = label.train_id
    return result
