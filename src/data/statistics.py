"""Class frequencies of a set of labels and the class weights that follow from them."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.data.dataset import read_target
from src.data.files import absolute, stamp
from src.data.layouts import Pair
from src.data.parallel import parallel_map
from src.errors import UserError
from src.label_tables import OWN
from src.labels import LabelTable
from src.runs.atomic_files import write_json

log = logging.getLogger(__name__)


def class_weights(pairs: Sequence[Pair], table: LabelTable, cache_dir: str | Path) -> list[float]:
    """1 / ln(1.10 + p), where p is a class's share of all labelled pixels: ENet's weights, CGNet's constant.

    A class that never occurs has p = 0 and so the largest weight, 10.49.
    """
    counts = class_counts(pairs, table, cache_dir)
    if not sum(counts):
        raise UserError(f"{pairs[0].label}: no labelled pixel in this and {len(pairs) - 1} other files.")
    absent = [name for name, count in zip(table.class_names, counts, strict=True) if not count]
    if absent and table.name == OWN:
        first = " Do the ids of your masks begin at 1?" if absent[0] == table.class_names[0] else ""
        log.warning(
            "WARNING: classes that never occur in the training masks: %s.%s", ", ".join(absent), first
        )
    return weights_of(counts)


def weights_of(counts: Sequence[int]) -> list[float]:
    """The formula of `class_weights`. At least one count must be above 0."""
    pixels = np.array(counts, np.float64)
    return (1 / np.log(1.10 + pixels / pixels.sum())).tolist()


def class_counts(pairs: Sequence[Pair], table: LabelTable, cache_dir: str | Path) -> list[int]:
    """Pixels per train id over all labels, cached in `cache_dir` under a fingerprint of the label files.

    The fingerprint covers the label table and the path, size and modification time of every file. Other
    labels have another fingerprint, so a cached result is never stale.
    """
    cached = cached_counts(pairs, table, cache_dir)
    kept = _kept(cached, table.num_classes)
    if kept is not None:
        return kept
    log.info("Counting the classes in %d labels (once; kept in %s)", len(pairs), cached)

    def count(pair: Pair) -> np.ndarray:
        return np.bincount(read_target(pair, table).ravel(), minlength=256)[: table.num_classes]

    counts = sum(parallel_map(count, pairs), np.zeros(table.num_classes, np.int64)).tolist()
    keep_counts(cached, counts, table)
    return counts


def _kept(cached: Path, classes: int) -> list[int] | None:
    """The cached counts; None where there are none, or they are damaged."""
    try:
        counts = json.loads(cached.read_text())["counts"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    fits = isinstance(counts, list) and len(counts) == classes
    return counts if fits and all(type(count) is int and count >= 0 for count in counts) else None


def keep_counts(cached: Path, counts: Sequence[int], table: LabelTable) -> None:
    """Write the counts to `cached_counts` of the labels, asked for before these were read."""
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_json(cached, {"classes": table.class_names, "counts": list(counts)})
    except OSError as error:  # the counts are right nevertheless
        log.warning(
            "%s: the class frequencies cannot be saved (%s), so the next run counts again", cached, error
        )


def cached_counts(pairs: Sequence[Pair], table: LabelTable, cache_dir: str | Path) -> Path:
    """The file of these labels' counts. A label that changes gives another file."""
    return Path(cache_dir).expanduser() / f"class-counts-{_fingerprint(pairs, table)}.json"


def _fingerprint(pairs: Sequence[Pair], table: LabelTable) -> str:
    digest = hashlib.sha256(table.fingerprint)
    for pair in pairs:
        assert pair.label is not None
        digest.update(f"{absolute(pair.label)}\0{stamp(pair.label)}\n".encode())
        digest.update(pair.table.fingerprint if pair.table else b"")
    return digest.hexdigest()[:16]
