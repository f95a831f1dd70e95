"""Counts the values of masks of which nothing is known yet: ids or colours, their pixels and files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from src.data.files import Source, decode_image, read_bytes
from src.data.masks.decoding import color_keys, decode_ids
from src.data.masks.formats import check_mask_format, header_in
from src.data.parallel import parallel_map
from src.errors import UserError, shorten
from src.runs.machine import usable_cores

_PHOTOGRAPH = 10_000  # colours


@dataclass
class Survey:
    """The values of some masks. A colour is a key, see `color_keys`.

    pixels, files: how many have a value. first: a file that has it.
    """

    by_color: bool
    masks: int = 0
    pixels: Counter[int] = field(default_factory=Counter)
    files: Counter[int] = field(default_factory=Counter)
    first: dict[int, Source] = field(default_factory=dict)

    def share(self, value: int) -> float:
        return self.pixels[value] / self.pixels.total()


def survey(masks: Sequence[Source]) -> Survey:
    """Read all masks. Raises UserError for files that are no masks, and for ids and colours together."""
    found: dict[bool, Survey] = {}
    problems = []
    results = parallel_map(_values, masks, "Reading every mask", 2 * usable_cores())
    for path, result in zip(masks, results, strict=True):
        if isinstance(result, UserError):
            problems.append(result.text)
            continue
        by_color, values, counts = result
        part = found.setdefault(by_color, Survey(by_color))
        part.masks += 1
        part.pixels.update(dict(zip(values, counts, strict=True)))
        part.files.update(values)
        for value in values:
            part.first.setdefault(value, path)
        if len(part.pixels) > _PHOTOGRAPH:  # the caller refuses so many, and each file would add more
            break
    if problems:
        raise UserError(shorten(problems))
    if len(found) > 1:
        ids, colors = (next(iter(found[by_color].first.values())) for by_color in (False, True))
        raise UserError(
            f"{ids}: a mask with ids (one channel), but {colors} has colours; {found[False].masks} masks "
            f"have ids, {found[True].masks} have colours. Write all masks in the same way."
        )
    return found.popitem()[1]


def _values(path: Source) -> tuple[bool, list[int], list[int]] | UserError:
    """(whether the mask has colours, its values, pixels of each)"""
    try:
        data = read_bytes(path)
        header = header_in(path, data)
        check_mask_format(path, header)
        by_color = header.mode not in ("grey", "palette")
        pixels = color_keys(decode_image(path, data)) if by_color else decode_ids(path, data, header)
    except UserError as error:
        return error
    flat = pixels.ravel()
    starts = np.concatenate(
        [[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1]
    )  # runs are far fewer than pixels
    values, inverse = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(inverse, np.diff(starts, append=flat.size)).astype(np.int64)
    return by_color, values.tolist(), counts.tolist()
