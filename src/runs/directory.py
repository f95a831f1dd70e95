"""Run directories: where a run keeps its files, whether it may start there, how a command resumes it."""

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf

from src.config import plain
from src.errors import UserError
from src.masking import without_secrets
from src.runs.atomic_files import nearest_existing, set_aside, write_bytes, write_json, write_text
from src.runs.directory_checks import (
    check_kinds,
    check_same_config,
    is_extended,
    kept_id,
    read_metrics,
)
from src.runs.locks import hold
from src.runs.log_handlers import hand_over
from src.runs.record import command, differences, origin, packages_of, read_starts, this_start

log = logging.getLogger(__name__)


def rank() -> int:
    """The rank of this process in a distributed run, from the variables that launchers set; otherwise 0.

    Without a launcher, Lightning's users set NODE_RANK alone. Then this is the rank of the node. In every
    case exactly one process of a run has the rank 0.
    """
    names = ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID")
    given = {name: int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()}
    if "RANK" in given:
        return given["RANK"]
    return given.get("NODE_RANK") or given.get("LOCAL_RANK", given.get("SLURM_PROCID", 0))


@dataclass
class Run:
    """A run directory that may not exist yet: `open` makes it, once all checks have passed."""

    directory: Path
    config: dict[str, Any]
    id: str | None = None  # stays the same if the directory is renamed or copied; known after `open`
    origin: dict[str, Any] = field(default_factory=dict)  # for its checkpoints; known after `open`
    extended: bool = False  # whether it continues beyond the length that it had so far
    _lock: TextIO | None = field(default=None, repr=False)

    @classmethod
    def plan(cls, config: DictConfig) -> "Run":
        """Raises UserError if the run could not write, or would resume with another config than its own."""
        if not isinstance(config.name, str):
            raise UserError(f"name={config.name}: reads as a number. Quote it: \"name='{config.name}'\"")
        if Path(config.name).is_absolute() or set(Path(config.name).parts or [".."]) & {".", ".."}:
            raise UserError(
                f"name='{config.name}': expected a name for a folder in runs_dir: not empty, not absolute, "
                f"without . and .."
            )
        run = cls(Path(config.run_dir), without_secrets(plain(config)))
        run.extended = config.task == "train" and is_extended(run.directory, run.config)
        if rank() == 0:
            run._check_writable()
            if run.last_checkpoint or (config.task == "train" and run.finished):
                check_same_config(run.directory, run.config)
            if run.extended and not run.last_checkpoint:
                raise UserError(f"extend=true: {run.directory} has no last.ckpt, so it cannot be continued.")
        return run

    @property
    def last_checkpoint(self) -> Path | None:
        """The checkpoint to resume from; None for a new run."""
        path = self.directory / "checkpoints" / "last.ckpt"
        return path if path.exists() else None

    @property
    def finished(self) -> dict[str, Any] | None:
        """The metrics of a finished run; else None."""
        return None if self.extended else read_metrics(self.directory / "metrics.json")

    def open(self, world_size: int = 1, resumed: Mapping[str, Any] | None = None) -> None:
        """Make the directory, lock it, write the config and start its log; on rank 0 only.

        world_size: number of processes that the run has, for its record.
        resumed: the content of the checkpoint that the run resumes from.
        """
        if rank() != 0:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = hold(self.directory / ".lock")
        except BlockingIOError as error:
            raise UserError(
                f"{self.directory}: another process is writing to this run. Wait for it, or give this one "
                f"another name (name=...)."
            ) from error
        except OSError as error:
            raise UserError(f"{self.directory}: cannot be written ({error}). Set runs_dir=...") from error
        for folder in (self.directory, self.directory / "checkpoints"):
            for half_written in folder.glob(".*.tmp"):  # by a process that was killed
                half_written.unlink(missing_ok=True)
        if self.extended:
            self._keep_metrics()
        comment = "\n# ".join(command(self.config["task"]).splitlines())  # a name may contain line breaks
        text = f"# {comment}\n{OmegaConf.to_yaml(self.config)}"
        write_text(self.directory / "config.yaml", text)
        handler = self._log()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        hand_over(handler)
        log.info("Run directory: %s", self.directory)
        if self.config["task"] != "train" and (metrics := self.directory / "metrics.json").exists():
            # At once: those of other weights must not stay if this evaluation is stopped.
            before = metrics.replace(metrics.with_name("metrics_before.json"))
            log.warning(
                "The directory already has metrics. They are kept in %s, until the next evaluation here.",
                before,
            )
        self._record(world_size, hashlib.sha256(text.encode()).hexdigest(), resumed)

    def _keep_metrics(self) -> None:
        """Rename the metrics of the shorter training. Without metrics.json the run is not finished, whenever
        it is stopped from here on."""
        path = self.directory / "metrics.json"
        if metrics := read_metrics(path):
            path.rename(path.with_name(f"metrics_epoch_{(metrics.get('last') or metrics)['epoch']}.json"))

    def _log(self) -> logging.FileHandler:
        path = self.directory / f"{self.config['task']}.log"
        try:
            return logging.FileHandler(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error}). Move it away.") from error

    def _record(self, world_size: int, config_sha256: str, resumed: Mapping[str, Any] | None) -> None:
        """Add this start to record.json, with `packages` only if they differ from the previous start's."""
        starts, path = read_starts(self.directory), self.directory / "record.json"
        starts = starts if all(isinstance(entry, dict) for entry in starts) else []
        self.id = kept_id(self.directory)
        if not starts and path.exists():
            kept = set_aside(path)
            log.warning("%s was damaged. It is kept as %s, and a new one is started.", path, kept.name)
        start, patch = this_start(self.config, world_size)
        start |= {"config_sha256": config_sha256, "from_checkpoint": None}
        self.origin = origin(start)
        if resumed:
            start["from_checkpoint"] = {"epoch": resumed["epoch"] + 1, "step": resumed["global_step"]}
            if isinstance(resumed.get("run"), dict):
                self.id = self.id or resumed["run"].get("id")  # if record.json was lost
        start["code"]["patch"] = f"code-{hashlib.sha256(patch).hexdigest()[:8]}.diff" if patch else None
        if patch:
            write_bytes(self.directory / start["code"]["patch"], patch)
        repeated = start["repeats"]
        if resumed:
            if changed := differences(starts, start):
                log.warning("Results may differ, since the run resumes with changes: %s.", changed)
        elif repeated and (changed := differences(read_starts(Path(repeated)), start)):
            log.warning("Results may differ from those of %s, because of changes: %s.", repeated, changed)
        if repeated and self.config.get("extend") and not resumed:
            log.warning(
                "%s was extended while it trained, so its learning rate followed the schedule of a shorter "
                "training first. This run follows that of the whole training.",
                repeated,
            )
        if start["packages"] == packages_of(starts):
            del start["packages"]
        self.id = self.id or uuid4().hex
        write_json(path, {"run": self.id, "starts": [*starts, start]})

    def check_in_place(self) -> None:
        """Raises UserError if the directory has been removed, moved or replaced since it was opened."""
        if self._lock is None:
            return
        try:
            same = os.fstat(self._lock.fileno()).st_ino == (self.directory / ".lock").stat().st_ino
        except OSError:
            same = False
        if not same:
            raise UserError(
                f"{self.directory}: the run directory was removed, moved or replaced while the run was "
                f"writing to it. Nothing more is written. Put the directory back, and the same command "
                f"resumes from its last.ckpt; otherwise the same command starts from the beginning."
            )

    def _check_writable(self) -> None:
        existing = nearest_existing(self.directory)
        if not existing.is_dir():
            raise UserError(f"{existing}: a file, so the run directory {self.directory} cannot be made.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"{existing}: not writable, so {self.directory} cannot be made. Set runs_dir=...")
        check_kinds(self.directory, self.config["task"])


def sweep_job_score(directory: Path) -> float:
    """What a sweeper maximises: the best val mIoU of a finished job; NaN if nothing was validated."""
    metrics = read_metrics(directory / "metrics.json")
    return float("nan") if metrics is None or metrics["mIoU"] is None else metrics["mIoU"]
