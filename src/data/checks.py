"""What can be found wrong with a split in seconds, before anything starts."""

from collections.abc import Sequence

import numpy as np

from src.data.dataset import read_target, size_mismatch
from src.data.files import png_size, read_label
from src.data.layouts import Pair
from src.data.parallel import parallel_map, usable_cores
from src.errors import UserError, shorten
from src.labels import LabelTable

_DECODED = 16  # labels looked into; the rest is checked as it is read


def check_pairs(pairs: Sequence[Pair], table: LabelTable) -> list[tuple[int, int]]:
    """(height, width) of every image, from the headers of all files and a look into a few labels.

    Raises UserError that names the bad files: unreadable, truncated, of different sizes, unknown ids.
    """
    problems: list[str] = []
    sizes: list[tuple[int, int]] = []
    for result in parallel_map(_pair_size, pairs, threads=4 * usable_cores()):  # they wait for the disk
        if isinstance(result, UserError):
            problems.append(result.text)
        else:
            sizes.append(result)
    if problems:
        raise UserError(shorten(problems))
    _look_into_labels(pairs, table)
    return sizes


def _pair_size(pair: Pair) -> tuple[int, int] | UserError:
    try:
        size = png_size(pair.image)
        if pair.label is not None and (label := png_size(pair.label)) != size:
            return size_mismatch(pair, size, label)
    except UserError as error:
        return error
    return size


def _look_into_labels(pairs: Sequence[Pair], table: LabelTable) -> None:
    labelled = [pair for pair in pairs if pair.label is not None]
    some = labelled[:: len(labelled) // _DECODED + 1]  # from first to last
    for pair in some:
        read_target(pair, table)
    if table.name == "cityscapes" and some:
        # Train ids end at 18. Above lie the label ids of traffic lights and signs, vegetation, sky, people
        # and vehicles (19-33), and no set of street scenes does without all of them.
        highest = max(int(np.max(read_label(pair.label))) for pair in some if pair.label is not None)
        if highest < table.num_classes:
            raise UserError(
                f"{some[0].label}: {len(some)} files with no id above {highest}: these look like "
                f"labelTrainIds (0-18) under the name of labelIds (0-33). Extract gtFine_trainvaltest.zip "
                f"again."
            )
