"""Run directories: where a run lives, whether it may start there, how the same command goes on with it."""

import hashlib
import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from src.config import flatten, plain
from src.errors import UserError
from src.locks import hold
from src.record import command, differences, packages_of, read_starts, this_start, without_secrets
from src.warned import hand_over
from src.writing import nearest_existing, write_bytes, write_json, write_text

log = logging.getLogger(__name__)

# What may differ when a run goes on: where and how it runs, not what it computes.
MAY_CHANGE = (
    "name",  # a directory that was renamed
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.enable_",
    "trainer.log_every",
    "trainer.profiler",
    "trainer.default_root_dir",
    "callbacks.pictures",
    "callbacks.report",
    "callbacks.lines",
    "callbacks.summary",
    "callbacks.best.dirpath",
    "callbacks.last.",
    "callbacks.seeds.seed",  # is `seed`
    "data.root",
    "data.num_workers",
    "data.val_batch_size",
    "data.cache",
    "logger.",
    "report.",
    "runs_dir",
    "run_dir",
    "cache_dir",
    "compile",
)


def rank() -> int:
    """Of this process in a distributed run, from the variables that launchers set; 0 in any other.

    Without a launcher Lightning's users set NODE_RANK alone; then it is the rank among the nodes. That 0 is
    one process only holds in every case.
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
    id: str = ""  # of its own, from its first start on: the directory may move, and another get its name
    _lock: TextIO | None = field(default=None, repr=False)

    @classmethod
    def plan(cls, config: DictConfig) -> "Run":
        """Raises UserError where the run could not write, or would go on with another run's config or
        checkpoint, or from one that is damaged."""
        if not isinstance(config.name, str):
            raise UserError(f"name={config.name}: reads as a number. Quote it: \"name='{config.name}'\"")
        if Path(config.name).is_absolute() or set(Path(config.name).parts or [".."]) & {".", ".."}:
            raise UserError(
                f"name='{config.name}': give the run a name of its own, for a folder in runs_dir."
            )
        run = cls(Path(config.run_dir), without_secrets(plain(config)))
        if rank() == 0:
            run._check_writable()
            run._check_same_config()
            run._check_last_checkpoint()
        return run

    @property
    def last_checkpoint(self) -> Path | None:
        """The checkpoint to go on from; None for a new run."""
        path = self.directory / "checkpoints" / "last.ckpt"
        return path if path.exists() else None

    def check_own(self, checkpoint: Mapping[str, Any], path: Path) -> None:
        """Raises UserError where another run wrote the checkpoint. Those of before this was recorded pass."""
        writer = checkpoint.get("run")
        own = kept_id(self.directory)
        if not isinstance(writer, dict) or own is None or writer.get("id") == own:
            return
        raise UserError(
            f"{path}: written by another run, {brief(writer.get('name'))} (id {brief(writer.get('id'))}), not by "
            f"{self.directory} (id {own}). Put the run's own file back, or copy its own best.ckpt over "
            f"last.ckpt; to train on with the other run's weights, give checkpoint={path} a name=... of its own."
        )

    @property
    def finished(self) -> dict[str, Any] | None:
        """The figures of a run that came to its end; else None."""
        path = self.directory / "metrics.json"
        try:
            return json.loads(path.read_text()) if path.exists() else None
        except ValueError as error:
            raise UserError(
                f"{path}: damaged ({error}). Delete it, and the same command writes it anew."
            ) from error

    def open(self, world_size: int = 1) -> None:
        """Make the directory, lock it, keep the config and start its log. Other ranks have nothing to do.

        world_size: number of processes that the run has, for its record.
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
        comment = "\n# ".join(command(self.config["task"]).splitlines())  # a name may have several
        write_text(self.directory / "config.yaml", f"# {comment}\n{OmegaConf.to_yaml(self.config)}")
        handler = logging.FileHandler(self.directory / f"{self.config['task']}.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        hand_over(handler)
        log.info("Run directory: %s", self.directory)
        if self.config["task"] != "train" and (self.directory / "metrics.json").exists():
            log.warning("It has figures already, which are replaced. Another name=... would keep them.")
        self._record(world_size)

    def _record(self, world_size: int) -> None:
        """Add this start to record.json; its `packages` only where they are not those of the start before."""
        starts = read_starts(self.directory)
        start, patch = this_start(self.config, world_size)
        start["from_checkpoint"] = self._progress()
        start["code"]["patch"] = f"code-{hashlib.sha256(patch).hexdigest()[:8]}.diff" if patch else None
        if patch:
            write_bytes(self.directory / start["code"]["patch"], patch)
        repeated = start["repeats"]
        if start["from_checkpoint"]:
            if changed := differences(starts, start):
                log.warning("Results may differ, the run goes on with another: %s.", changed)
        elif repeated and (changed := differences(read_starts(Path(repeated)), start)):
            log.warning("Results may differ from those of %s, made with another: %s.", repeated, changed)
        if start["packages"] == packages_of(starts):
            del start["packages"]
        write_json(self.directory / "record.json", {"starts": [*starts, start]})

    def _progress(self) -> dict[str, int] | None:
        """What the run goes on from. A checkpoint that cannot be read is refused later, by the trainer."""
        from src.checkpoints import load_checkpoint  # torch, which --help does not need

        if self.last_checkpoint is None:
            return None
        try:
            checkpoint = load_checkpoint(self.last_checkpoint)
        except UserError:
            return None
        return {"epoch": checkpoint["epoch"] + 1, "step": checkpoint["global_step"]}

    def check_in_place(self) -> None:
        """Raises UserError where the directory that was opened has been removed, moved or replaced since."""
        if self._lock is None:
            return
        try:
            same = os.fstat(self._lock.fileno()).st_ino == (self.directory / ".lock").stat().st_ino
        except OSError:
            same = False
        if not same:
            raise UserError(
                f"{self.directory}: the run directory was removed, moved or replaced while the run was "
                f"writing to it. Nothing more is written. Put it back, and the same command goes on from "
                f"its last.ckpt; without it the same command begins anew."
            )

    def _check_writable(self) -> None:
        existing = nearest_existing(self.directory)
        if not existing.is_dir():
            raise UserError(f"{existing}: a file, where the run directory {self.directory} should be made.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"{existing}: not writable, so {self.directory} cannot be made. Set runs_dir=...")

    def _check_same_config(self) -> None:
        kept = self.directory / "config.yaml"
        if not kept.exists() or self.last_checkpoint is None:
            return
        try:  # as data: what it says is compared, never resolved
            loaded: Any = OmegaConf.to_container(OmegaConf.load(kept))
            before, now = (dict(flatten(c)) for c in (loaded, self.config))
        except (YAMLError, OmegaConfBaseException, OSError, AttributeError) as error:
            raise UserError(
                f"{kept}: damaged ({type(error).__name__}), not to be compared with this command's config. "
                f"Delete it where you are sure that the run's config is the same."
            ) from error
        changed = [
            f"  {key}: {before.get(key)} before, {now.get(key)} now"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not key.startswith(MAY_CHANGE)
        ]
        if changed:
            raise UserError(
                f"{self.directory}: this run was started with another config, it cannot go on with this:\n"
                + "\n".join(changed)
                + "\nRepeat its own command to go on with it, or choose another name=."
            )


def sweep_job_score(directory: Path) -> float:
    """What a sweeper maximises: the best val mIoU of a finished job; NaN where nothing was validated."""
    path = directory / "metrics.json"
    miou = json.loads(path.read_text())["mIoU"] if path.exists() else None
    return float("nan") if miou is None else miou
