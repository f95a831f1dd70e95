"""Reads every file of a split completely: what is wrong with each, and statistics of all of them."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from src.data.checks.findings import Finding
from src.data.checks.pairs import SMALLEST, nothing_labelled, too_small, train_ids
from src.data.files import Header, Source, decode_image, read_bytes
from src.data.layouts import Pair
from src.data.masks.decoding import UnknownColorsError, decode_mask
from src.data.masks.formats import check_image_header, check_mask_header, header_in
from src.data.masks.mismatches import size_mismatch, unknown_ids
from src.data.parallel import parallel_map
from src.errors import UserError
from src.labels import IGNORE, LabelTable
from src.runs.machine import usable_cores

UNREADABLE, DAMAGED, NO_CLASS_MAP = "unreadable file", "damaged file", "label that is no class map"
SIZES, SMALL, UNKNOWN = "image and label of different sizes", "frame too small", "id outside the table"
TRAIN_IDS, UNLABELLED = "labelTrainIds in place of labelIds", "label without a labelled pixel"
CONVERTED, FLAT, TWICE = "image that is not 8-bit RGB", "image of one colour", "the same image twice"


@dataclass
class PairFacts:
    """What one pair holds; None where a file could not be read."""

    pair: Pair
    findings: list[Finding] = field(default_factory=list)
    size: tuple[int, int] | None = None  # (height, width) of the image
    digest: bytes | None = None  # of the image file
    levels: np.ndarray | None = None  # (3, 256) int64: how often each value occurs in red, green, blue
    ids: np.ndarray | None = None  # (256,) int64: how often each label id occurs

    def error(self, kind: str, error: UserError) -> None:
        self.findings.append(Finding("error", kind, error.text))

    def remark(self, kind: str, text: str) -> None:
        self.findings.append(Finding("remark", kind, text))


@dataclass
class Inspection:
    """All pairs of one folder of a split. The counts are sums over the files that could be read."""

    pairs: Sequence[Pair]
    findings: list[Finding] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    levels: np.ndarray = field(default_factory=lambda: np.zeros((3, 256), np.int64))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))  # pixels per train id
    digests: dict[bytes, Pair] = field(default_factory=dict)

    @property
    def intact(self) -> bool:
        return not any(finding.level == "error" for finding in self.findings)

    def class_counts(self, table: LabelTable) -> list[int]:
        """Labelled pixels of each class of the table."""
        return self.classes[: table.num_classes].tolist()

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Of red, green and blue over all pixels, 0-255: exact sums of integers, rounded once at the end."""
        means, stds = [], []
        for levels in self.levels.tolist():
            number = sum(levels)
            total = sum(value * count for value, count in enumerate(levels))
            squares = sum(value * value * count for value, count in enumerate(levels))
            means.append(total / number)
            stds.append(((number * squares - total * total) / number**2) ** 0.5)
        return means, stds


def inspect(pairs: Sequence[Pair], table: LabelTable, text: str = "") -> Inspection:
    """Read every file of `pairs`, several at a time, and show the progress with the title `text`."""
    result = Inspection(pairs)
    highest = []
    # Twice as many threads as cores: on network disks half of them wait.
    for facts in parallel_map(lambda pair: inspect_pair(pair, table), pairs, text, 2 * usable_cores()):
        result.findings += facts.findings
        if facts.size is not None and facts.levels is not None:
            result.sizes[facts.size] += 1
            result.levels += facts.levels
        if facts.digest is not None:
            same = result.digests.setdefault(facts.digest, facts.pair)
            if same is not facts.pair:
                line = f"{facts.pair.image}: the same file as {same.image}. Remove one of the pairs."
                result.findings.append(Finding("remark", TWICE, line))
        if facts.ids is not None:
            np.add.at(result.classes, table.to_train_id, facts.ids)
            highest.append((int(np.flatnonzero(facts.ids)[-1]), facts.pair))
    result.findings += _of_all_labels(highest, result.classes, table)
    return result


def inspect_pair(pair: Pair, table: LabelTable) -> PairFacts:
    facts = PairFacts(pair)
    _look_at_image(facts, table)
    if pair.label is not None:
        label_size = _look_at_label(facts, table)
        if facts.size and label_size and facts.size != label_size:
            facts.error(SIZES, size_mismatch(pair, facts.size, label_size, table))
    if facts.size and min(facts.size) < SMALLEST:
        facts.error(SMALL, too_small(pair, facts.size))
    return facts


def _look_at_image(facts: PairFacts, table: LabelTable) -> None:
    path = facts.pair.image
    opened = _open(path, facts)
    if opened is None:
        return
    data, header = opened
    facts.size = header.size
    facts.digest = hashlib.blake2b(data, digest_size=16).digest()
    if (header.bits, header.mode) != (8, "RGB"):
        how = ", with three equal channels" if header.mode == "grey" else ""
        facts.remark(CONVERTED, f"{path}: {header}; it is read as 8-bit RGB{how}. Fine if that is intended.")
    try:
        check_image_header(path, header, table)
        image = decode_image(path, data)
    except UserError as error:
        facts.error(DAMAGED, error)
        return
    facts.levels = np.stack([_histogram(image, channel) for channel in range(3)])
    if ((facts.levels > 0).sum(1) == 1).all():
        color = "black" if not image.any() else f"one colour, RGB {tuple(image[0, 0].tolist())}"
        facts.remark(FLAT, f"{path}: the image is {color}. Download or extract it again, or remove the pair.")


def _look_at_label(facts: PairFacts, table: LabelTable) -> tuple[int, int] | None:
    """(height, width), if it can be read."""
    path = facts.pair.label
    assert path is not None
    opened = _open(path, facts)
    if opened is None:
        return None
    data, header = opened
    try:
        check_mask_header(path, header, table)
    except UserError as error:
        facts.error(NO_CLASS_MAP, error)
        return header.size
    try:
        facts.ids = _histogram(decode_mask(path, data, table), 0)
    except UnknownColorsError as error:
        facts.error(UNKNOWN, error)
        return header.size
    except UserError as error:
        facts.error(DAMAGED, error)
        return header.size
    unknown = np.flatnonzero((facts.ids > 0) & ~table.is_known).tolist()
    if unknown:
        pixels = int(facts.ids[unknown].sum())
        found = unknown_ids(facts.pair, np.flatnonzero(facts.ids).tolist(), table).text
        facts.error(UNKNOWN, UserError(f"{found} ({pixels} of {facts.ids.sum()} pixels)"))
    elif not facts.ids[table.to_train_id != IGNORE].any():
        facts.remark(UNLABELLED, f"{path}: not one labelled pixel. Extract it again, or remove the pair.")
    return header.size


def _open(path: Source, facts: PairFacts) -> tuple[bytes, Header] | None:
    """The file's bytes and header; None, and a finding is added, where it is no image."""
    try:
        data = read_bytes(path)
    except UserError as error:
        facts.error(UNREADABLE, error)
        return None
    try:
        header = header_in(path, data)
    except UserError as error:
        facts.error(DAMAGED, error)
        return None
    return data, header


def _histogram(picture: np.ndarray, channel: int) -> np.ndarray:
    """(256,) int64. calcHist is five times faster than bincount; its float32 is exact up to 2^24 pixels."""
    rows = max(1, 2**24 // picture.shape[1])
    parts = [picture[start : start + rows] for start in range(0, len(picture), rows)]
    counts = [cv2.calcHist([part], [channel], None, [256], [0, 256]).ravel() for part in parts]
    return np.sum([count.astype(np.int64) for count in counts], axis=0)


def _of_all_labels(highest: list[tuple[int, Pair]], classes: np.ndarray, table: LabelTable) -> list[Finding]:
    """Findings about all labels together. `highest`: the highest id of each label, and its pair."""
    if not highest:
        return []
    first = highest[0][1]
    if problem := train_ids(first, len(highest), max(number for number, _ in highest), table):
        return [Finding("error", TRAIN_IDS, problem.text)]
    if not classes[:IGNORE].any():
        return [Finding("error", UNLABELLED, nothing_labelled(first, len(highest), table).text)]
    return [
        Finding("remark", TRAIN_IDS, problem.text)
        for number, pair in highest
        if (problem := train_ids(pair, 1, number, table))
    ]
