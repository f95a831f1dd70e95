"""What finished and unfinished runs left on disk, one record for each."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from src.metrics.by_image import BY_IMAGE, Counts, read_by_image
from src.runs.jobs import FILE, Job
from src.runs.record import decides, read_starts

_STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ ")
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class RunResult:
    """A run directory.

    overrides: those that decide what is computed, as typed; the experiment is one of them, the seed is not.
    status: `finished`, or why there are no metrics.
    """

    directory: Path
    overrides: tuple[str, ...]
    seed: int | None
    status: str = "finished"
    metrics: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.directory.as_posix()

    @property
    def best(self) -> float | None:
        """mIoU of best.ckpt, which was picked on the same images; of an evaluation, its mIoU."""
        return self.metrics.get("mIoU")

    @property
    def last(self) -> float | None:
        """mIoU after the last epoch: one evaluation of one checkpoint, as published numbers are."""
        return self._last.get("mIoU")

    @property
    def iou(self) -> Mapping[str, float | None]:
        """IoU of each class after the last epoch."""
        return self._last.get("IoU") or {}

    @property
    def _last(self) -> Mapping[str, Any]:
        last = self.metrics.get("last")
        return last if isinstance(last, Mapping) and last.get("mIoU") is not None else self.metrics

    @property
    def epochs(self) -> int | None:
        trainer = self.config.get("trainer") or {}
        return trainer.get("max_epochs") if self.config.get("task") == "train" else None

    @cached_property
    def hours(self) -> float | None:
        """How long it ran, all starts together, by the times in its log."""
        path = self.directory / "train.log"
        return _hours(path.read_text(errors="replace").splitlines()) if path.exists() else None

    @cached_property
    def by_image(self) -> Counts | None:
        return read_by_image(self.directory / BY_IMAGE)

    @cached_property
    def start(self) -> Mapping[str, Any]:
        """The record of its last start: command, code, hardware."""
        starts = read_starts(self.directory)
        return starts[-1] if starts else {}


def read_runs(folders: Iterable[Path]) -> list[RunResult]:
    """The runs below some folders that are finished or belong to a sweep, in the order of their names, with
    numbers as numbers: 2 before 10."""
    places: dict[Path, None] = {}
    for folder in folders:
        for pattern in ("metrics.json", FILE):
            places |= dict.fromkeys(path.parent for path in folder.rglob(pattern))
    ordered = sorted(places, key=lambda place: [_natural(part) for part in place.parts])
    found = (_read(place) for place in ordered)
    return [run for run in found if run is not None]


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBERS.split(text)]


def _read(directory: Path) -> RunResult | None:
    metrics = _json(directory / "metrics.json")
    config: dict[str, Any] = {}
    command: list[str] = []
    path = directory / "config.yaml"
    if path.exists():
        text = path.read_text(errors="replace")
        config = yaml.safe_load(text) or {}
        command = shlex.split(text.partition("\n")[0].removeprefix("#"))[3:]  # python -m src.train ...
    job = Job.read(directory)
    if metrics is None and job is None:
        return None
    if job is not None and not command:
        command = job.overrides
    status = "finished"
    if metrics is None and job is not None:
        status = job.status_now
        if job.exit_code and status != "pruned":
            status += f" (exit code {job.exit_code})"
    keys = dict(o.lstrip("+~").partition("=")[::2] for o in command)
    seed = str(config.get("seed", keys.get("seed", "")))
    return RunResult(
        directory,
        tuple(o for o in command if not o.startswith(("seed=", "-")) and "=" in o and decides(o)),
        int(seed) if seed.isdigit() else None,
        status,
        metrics or {},
        config,
    )


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
        return content if isinstance(content, dict) else None
    except (OSError, ValueError):
        return None


def _hours(lines: list[str]) -> float:
    """The time from the first to the last line of each start, added up."""
    seconds, first, now = 0.0, None, None
    for line in lines:
        found = _STAMP.match(line)
        if not found:
            continue
        time = datetime.fromisoformat(found[1])
        if "Run directory: " in line or first is None:
            seconds += (now - first).total_seconds() if first and now else 0.0
            first = time
        now = time
    seconds += (now - first).total_seconds() if first and now else 0.0
    return seconds / 3600
