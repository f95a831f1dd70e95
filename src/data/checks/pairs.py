"""Checks of a split that take seconds, before a run starts. The doctor reads every file and takes longer."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

import numpy as np

from src.data.dataset import to_target
from src.data.layouts import Pair
from src.data.masks.decoding import read_mask
from src.data.masks.formats import check_image_header, check_mask_header, header_of
from src.data.masks.mismatches import size_mismatch
from src.data.parallel import parallel_map
from src.errors import ASK_THE_DOCTOR, UserError, shorten
from src.label_tables import with_keys_of
from src.labels import CITYSCAPES, IGNORE, LabelTable
from src.runs.machine import usable_cores

SMALLEST = 32
"""The shortest side of a frame or a crop, in pixels, that the network accepts."""

_DECODED = 16  # at most so many labels are decoded here; the others are checked when they are read
_T = TypeVar("_T")


def check_pairs(pairs: Sequence[Pair], table: LabelTable) -> list[tuple[int, int]]:
    """(height, width) of every image. Checks the headers of all files, and decodes a few labels.

    Raises UserError that names the bad files: unreadable, truncated, with an image and a label of different
    sizes, labels that are no class maps, have unknown ids, or have no labelled pixel.
    """
    parts = groupby(pairs, key=lambda pair: pair.table)
    return [size for own, part in parts for size in _check_part(list(part), own or table)]


def _check_part(pairs: Sequence[Pair], table: LabelTable) -> list[tuple[int, int]]:
    # More threads than cores, because they wait for the disk.
    sizes = _all(
        list(parallel_map(_outcome(lambda pair: _pair_size(pair, table)), pairs, threads=4 * usable_cores()))
    )
    labelled = [pair for pair in pairs if pair.label is not None]
    some = labelled[:: len(labelled) // _DECODED + 1]  # from first to last
    seen = _all([_outcome(lambda pair: _ids(pair, table))(pair) for pair in some])
    if some:
        highest = max(highest for highest, _ in seen)
        if problem := train_ids(some[0], len(some), highest, table):
            raise problem
        if not any(is_labelled for _, is_labelled in seen):
            raise nothing_labelled(some[0], len(some), table)
    return sizes


def train_ids(first: Pair, files: int, highest: int, table: LabelTable) -> UserError | None:
    """The error for labels without an id above `highest` that are labelTrainIds under another name, or None.

    Train ids end at 18. The label ids of traffic lights and signs, vegetation, sky, people and vehicles are
    higher (19-33), and any set of street scenes contains some of these.
    """
    if table.name != "cityscapes" or not 6 < highest < CITYSCAPES.num_classes:
        return None
    if str(first.label).endswith("_labelIds.png"):
        fix = "under the name of labelIds (0-33). Extract gtFine_trainvaltest.zip again."
    else:
        keys = with_keys_of(table.part, "data.classes")
        fix = f"and not labelIds (0-33). List their classes, with the ids that they have, in {keys}."
    return UserError(
        f"{first.label}: {files} files with no id above {highest}: these look like labelTrainIds (0-18) {fix}"
    )


def nothing_labelled(first: Pair, files: int, table: LabelTable) -> UserError:
    keys = with_keys_of(table.part, "data.labels to the right table (data.classes, if they are listed)")
    return UserError(
        f"{first.label}: not one labelled pixel in {files} files, only ids that are ignored. "
        f"Extract the labels again, or set {keys}."
    )


def too_small(pair: Pair, size: Sequence[int]) -> UserError:
    return UserError(
        f"{pair.image}: {size[1]}x{size[0]} pixels, but the network needs at least {SMALLEST}x{SMALLEST}. "
        f"Download or extract it again, or remove the pair."
    )


def _pair_size(pair: Pair, table: LabelTable) -> tuple[int, int]:
    image = header_of(pair.image)
    check_image_header(pair.image, image, table)
    size = image.size
    if pair.label is not None:
        label = header_of(pair.label)
        check_mask_header(pair.label, label, table)
        if label.size != size:
            raise size_mismatch(pair, size, label.size, table)
    if min(size) < SMALLEST:
        raise too_small(pair, size)
    return size


def _ids(pair: Pair, table: LabelTable) -> tuple[int, bool]:
    """(highest id, whether any pixel is labelled)"""
    assert pair.label is not None
    label = read_mask(pair.label, table)
    return int(np.max(label)), bool(np.any(to_target(label, pair, table) != IGNORE))


def _outcome(check: Callable[[Pair], _T]) -> Callable[[Pair], _T | UserError]:
    def run(pair: Pair) -> _T | UserError:
        try:
            return check(pair)
        except UserError as error:
            return error

    return run


def _all(outcomes: Sequence[_T | UserError]) -> list[_T]:
    """The outcomes, if none is an error; else raises one UserError with all errors."""
    problems = [outcome.text for outcome in outcomes if isinstance(outcome, UserError)]
    if problems:
        raise UserError(f"{shorten(problems)}\n{ASK_THE_DOCTOR}")
    return [outcome for outcome in outcomes if not isinstance(outcome, UserError)]
