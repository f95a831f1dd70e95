"""What finished and unfinished runs left on disk, one record for each."""

import json
import logging
import re
import shlex
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from src.config import below_run_dir, flatten
from src.errors import UserError
from src.metrics.by_image import BY_IMAGE, Counts, read_by_image
from src.runs.jobs import FILE, WEIGHTS, Job, identity
from src.runs.record import decides, read_starts
from src.schema.roles import MAY_CHANGE
from src.weights.recorded_network import seen_before

log = logging.getLogger(__name__)

IMAGES = "images"
"""The key, in a run's recipe, of the images that it was judged on."""
_STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ ")
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class RunResult:
    """A run directory.

    overrides: those that decide what is computed, as typed, and all that its sweep varied; the experiment
        and the file that it began from (of an evaluation, that it judged) are among them, the seed is not.
    status: `finished`, or why there are no metrics of the last epoch.
    """

    directory: Path
    overrides: tuple[str, ...]
    seed: int | None
    status: str = "finished"
    metrics: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    repeats: str | None = None
    """The run directory that was given as `--config-dir`."""

    @property
    def name(self) -> str:
        return self.directory.as_posix()

    @property
    def best(self) -> float | None:
        """mIoU of best.ckpt, which was picked on the same images; of an evaluation, its mIoU."""
        return self.metrics.get("mIoU")

    @property
    def last(self) -> float | None:
        """mIoU after the last epoch: one evaluation of one checkpoint, as published numbers are. None if that
        epoch had no validation; of an evaluation, its mIoU."""
        return self._last.get("mIoU")

    @property
    def iou(self) -> Mapping[str, float | None]:
        """IoU of each class after the last epoch."""
        return self._last.get("IoU") or {}

    @property
    def _last(self) -> Mapping[str, Any]:
        last = self.metrics.get("last")
        return last if isinstance(last, Mapping) else self.metrics

    @property
    def has_seen_its_images(self) -> bool:
        """Whether it is known that its network was trained on images that it was evaluated on."""
        known = self.metrics.get("trained_on") or []
        return bool(seen_before(known, str(self.metrics.get("data")), str(self.metrics.get("split"))))

    @property
    def epochs(self) -> int | None:
        trainer = self.config.get("trainer") or {}
        return trainer.get("max_epochs") if self.config.get("task") == "train" else None

    @cached_property
    def recipe(self) -> Mapping[str, Any]:
        """All values that decide its result but for the seed, whether they were typed or are in a file; on
        which images it was judged; of an evaluation, also the weights. Empty without a recorded config."""
        facts: dict[str, Any] = {IMAGES: self._images} if self.config else {}
        if self.config.get("task") == "eval":
            facts |= {
                "data.root": self.metrics.get("root"),
                "weights_sha256": self.metrics.get("weights_sha256"),
            }
        return _recipe(self.config) | {key: facts[key] for key in facts if facts[key]}

    @property
    def _images(self) -> str:
        """How many there are, with how many labelled pixels: other images have hardly ever the same."""
        rows = self.metrics.get("confusion_matrix") or []
        return f"{self.metrics.get('num_images')}: {sum(map(sum, rows))} px" if rows else ""

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


def read_runs(folders: Iterable[Path], *, inside: bool = False) -> list[RunResult]:
    """The runs below some folders that are finished or belong to a sweep, in the order of their names, with
    numbers as numbers: 2 before 10. A directory that cannot be read is left out, with a warning.

    Args:
        inside: whether the process that runs their sweep asks; see `Job.status_now`.
    """
    places: dict[Path, Path] = {}  # each once, also where two folders have it
    for folder in folders:
        for pattern in ("metrics.json", FILE):
            for path in folder.rglob(pattern):
                places.setdefault(path.parent.resolve(), path.parent)
    ordered = sorted(places.values(), key=lambda place: [_natural(part) for part in place.parts])
    runs = []
    for place in ordered:
        try:
            run = _read(place, inside)
        except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError, UserError) as error:
            log.warning("%s is left out: %s", place, getattr(error, "text", None) or repr(error))
            continue
        if run is not None:
            runs.append(run)
    return _as_their_origins(runs) if any(run.repeats for run in runs) else runs


def _as_their_origins(runs: list[RunResult]) -> list[RunResult]:
    """The runs; those that repeat another's config with the overrides of a run that has the same config but
    for the seed: the two are one setting, though nobody typed the overrides again."""
    recipes = [_recipe(run.config) for run in runs]
    typed = [(recipe, run.overrides) for recipe, run in zip(recipes, runs, strict=True) if not run.repeats]

    def origin(run: RunResult, recipe: dict[str, Any]) -> RunResult:
        same = (overrides for other, overrides in typed if other == recipe)
        return replace(run, overrides=next(same, run.overrides)) if run.repeats else run

    return [origin(run, recipe) for run, recipe in zip(runs, recipes, strict=True)]


def _recipe(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the result, but for the seed."""
    judged = config.get("task") == "eval"
    return {
        key: below_run_dir(str(config.get("run_dir")), value)
        for key, value in flatten(config)
        if key != "seed" and not f"{key}.".startswith(MAY_CHANGE) and (judged or key not in WEIGHTS)
    }


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBERS.split(text)]


def _read(directory: Path, inside: bool) -> RunResult | None:
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
        command = identity(job.overrides, set(job.varied))
    status = "finished"
    if metrics is None and job is not None:
        status = job.status if inside else job.status_now
        if job.exit_code and status != "pruned":
            status += f" (exit code {job.exit_code})"
    elif metrics is not None and isinstance(last := metrics.get("last"), dict) and last.get("mIoU") is None:
        status = "no validation after the last epoch"
    varied = set(job.varied) if job else set()
    starts = read_starts(directory)
    repeats = starts[-1].get("repeats") if starts else None
    if repeats and Path(repeats).resolve() == directory.resolve():  # resumed or extended by its own config
        repeats = starts[0].get("repeats")
        typed = {o.lstrip("+~").partition("=")[0]: o for o in (*starts[0].get("overrides", ()), *command)}
        command = list(typed.values())
    overrides = [o for o in command if _counts(o, varied)]
    keys = dict(o.lstrip("+~").partition("=")[::2] for o in command)
    seed = str(config.get("seed", keys.get("seed", "")))
    return RunResult(
        directory,
        (f"--config-dir={repeats}", *overrides) if repeats else tuple(overrides),
        int(seed) if seed.isdigit() else None,
        status,
        metrics or {},
        config,
        repeats,
    )


def _counts(override: str, varied: Set[str]) -> bool:
    """Whether two runs that differ in it are two settings: another file of weights is not another seed."""
    key, equals, _ = override.partition("=")
    name = key.lstrip("+~")
    if name == "seed" or not (equals or key.startswith("~")):
        return False
    return key in varied or name in WEIGHTS or decides(override)


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
