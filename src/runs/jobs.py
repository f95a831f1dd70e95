"""The jobs of a sweep, on disk: runs/<task>/<sweep>/<number>/job.json.

A job is identified by its overrides. Its number is only the name of its directory: the same command, or one
with more values, finds each earlier job in its old directory.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.masking import hide_secrets
from src.runs.atomic_files import write_json
from src.runs.locks import is_held
from src.schema.roles import MAY_CHANGE

FILE = "job.json"
DONE = ("finished", "pruned")  # statuses of jobs that do not run again
WEIGHTS = ("checkpoint", "teacher.checkpoint")
"""Keys of files that a run begins from, learns from or judges, which decide its result."""
# Overrides that say which sweep this is. The other keys of MAY_CHANGE say where and how it runs.
_WHICH_SWEEP = ("name", "sweep", "hydra")


@dataclass
class Job:
    directory: Path
    overrides: list[str]  # on disk without passwords and keys
    status: str = "not started"  # not started | running | finished | pruned | failed | interrupted
    score: float | None = None  # best val mIoU, of a finished job that validated
    exit_code: int | None = None
    error: str | None = None  # the last lines that a failed job wrote
    started: str | None = None  # UTC
    ended: str | None = None
    trial: int | None = None  # its number in the study of a search
    varied: list[str] = field(default_factory=list)  # the keys whose values its sweep lists
    values: dict[str, Any] | None = None  # that decide what it computes, those of conf/ included

    @classmethod
    def read(cls, directory: Path) -> "Job | None":
        path = directory / FILE
        try:
            if not path.exists():
                return None
            content = dict(json.loads(path.read_text()).items())
            known = cls.__dataclass_fields__.keys() & content.keys()  # older code wrote others, too
            return cls(directory, **{key: content[key] for key in known})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: damaged ({error}). Delete {directory}, and the sweep runs this job again; or give "
                f"the sweep another name=."
            ) from error

    @property
    def number(self) -> int:
        return int(self.directory.name)

    def is_outdated(self, file_of: Callable[[str], Path]) -> bool:
        """Whether it is an evaluation of a file of weights that has changed since."""
        try:
            judged = json.loads((self.directory / "metrics.json").read_bytes())["checkpoint"]
            changed = file_of(judged).stat().st_mtime
        except (OSError, ValueError, LookupError, TypeError):  # no result, or the file is gone
            return False
        return self.started is not None and changed > datetime.fromisoformat(self.started).timestamp()

    def changes(self, values: Mapping[str, Any]) -> list[str]:
        """Of the values that decide what it computes: those that are not as they were. Keys that only one
        of the two has belong to another version of the code."""
        before = self.values or {}
        return [
            f"{key} was {before[key]}, is {value}"
            for key, value in values.items()
            if key in before and before[key] != value
        ]

    def write(self) -> None:
        content = {key: value for key, value in asdict(self).items() if key != "directory"}
        hidden = [hide_secrets(override) for override in self.overrides]
        error = self.error and hide_secrets(self.error)
        write_json(self.directory / FILE, content | {"overrides": hidden, "error": error}, durable=True)

    def start(self) -> None:
        self.status, self.started = "running", _now()
        self.score = self.exit_code = self.error = self.ended = None
        self.write()

    def end(self, status: str, exit_code: int, *, score: float | None = None, error: str = "") -> None:
        self.status, self.exit_code, self.score, self.error = status, exit_code, score, error or None
        self.ended = _now()
        self.write()

    @property
    def result(self) -> str:
        """Its score, for the end of a line; empty without one."""
        return "" if self.score is None else f", mIoU {self.score:.4f}"

    def say(self, text: str) -> None:
        """One write for the whole line, which those of other threads cannot divide."""
        sys.stdout.write(f"Job {self.directory}: {text}\n")
        sys.stdout.flush()

    @property
    def status_now(self) -> str:
        """As recorded; but `interrupted` if a job is recorded as running and its processes are gone.

        Not for the process that runs the sweep, see `is_held`.
        """
        locks = (self.directory / ".lock", self.directory.parent / ".lock")
        return "interrupted" if self.status == "running" and not any(map(is_held, locks)) else self.status


def read_jobs(sweep: Path) -> list[Job]:
    """The jobs of a sweep, in the order of their numbers."""
    found = (Job.read(path.parent) for path in sweep.glob(f"*/{FILE}") if path.parent.name.isdigit())
    return sorted((job for job in found if job), key=lambda job: job.number)


def place(
    sweep: Path,
    overrides: list[str],
    varied: Set[str],
    task: str = "train",
    values: Mapping[str, Any] | None = None,
    file_of: Callable[[str], Path] = Path,
) -> Job:
    """The job with these overrides, in its directory; a new one gets the lowest free number.

    An evaluation is another one if its images lie elsewhere, and runs again if its weights have changed.
    Only one process at a time may call this.

    Args:
        values: that decide what it computes. The same overrides may mean others, once a file of conf/ or of
            --config-dir was edited.
        file_of: the file that a value of `checkpoint` names.
    """
    kept = None if values is None else json.loads(json.dumps(values, default=str))  # as it is read again
    judged = {"data.root"} if task == "eval" else set()
    job = find(sweep, overrides, varied | judged)
    if job:
        if task == "eval" and job.is_outdated(file_of):
            job.status = "not started"
        if job.status not in DONE:
            job.overrides, job.varied, job.values = overrides, sorted(varied), kept
            job.write()
        elif changed := job.changes(kept or {}):
            job.say(
                f"WARNING: conf/ or --config-dir has changed since: {', '.join(changed[:3])}"
                f"{', ...' if changed[3:] else ''}. Its result stays in the tables; with another name= the "
                f"sweep begins anew."
            )
        return job
    number = 0
    while (sweep / str(number)).exists():
        number += 1
    job = Job(sweep / str(number), overrides, varied=sorted(varied), values=kept)
    job.directory.mkdir()
    job.write()
    return job


def find(sweep: Path, overrides: list[str], varied: Set[str]) -> Job | None:
    wanted = sorted(identity(overrides, varied))
    return next((job for job in read_jobs(sweep) if sorted(identity(job.overrides, varied)) == wanted), None)


def identity(overrides: Sequence[str], varied: Set[str] = frozenset()) -> list[str]:
    """The overrides that tell one job from another.

    Where and how it runs (trainer.devices, data.root, logger, ...) does not count unless the sweep varies it.
    Files of weights do: another teacher is another job.
    """

    def counts(override: str) -> bool:
        key = override.partition("=")[0]
        name = key.lstrip("+~")
        which_sweep = re.split("[./]", name)[0] in _WHICH_SWEEP
        return key in varied or name in WEIGHTS or not (which_sweep or f"{name}.".startswith(MAY_CHANGE))

    return [hide_secrets(override) for override in overrides if counts(override)]


def table(jobs: Sequence[Job]) -> str:
    """One line per job: number, status, mIoU, and the overrides in which the jobs differ."""
    return "\n".join(
        f"{job.number:>4}  {job.status:<11}  {'' if job.score is None else f'{job.score:.4f}':>6}  "
        + " ".join(differing(job, jobs))
        for job in jobs
    )


def differing(job: Job, jobs: Sequence[Job]) -> list[str]:
    """The overrides in which a job differs from the others; of a single job, those that identify it."""
    if len(jobs) < 2:
        return identity(job.overrides)
    common = set.intersection(*(set(other.overrides) for other in jobs))
    return [hide_secrets(override) for override in job.overrides if override not in common]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
