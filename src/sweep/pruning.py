"""Pruning: a trial of a search whose val mIoU falls behind is ended early (`hydra.sweeper.pruner`).

The process that started the job, on whichever machine that is, reads the job's metrics.csv, reports to the
study, and ends the job as a preemption would. So pruning works with every launcher, and a training does not
know about it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig

from src.config import plain
from src.errors import counted
from src.objects import build
from src.runs.directory_checks import csv_rows
from src.runs.jobs import Job

if TYPE_CHECKING:  # an optional dependency
    from optuna.pruners import BasePruner
    from optuna.storages import BaseStorage
    from optuna.trial import Trial

_SECONDS = 1.0  # between two looks at metrics.csv


def storage_of(url: str | None, sweep: Path) -> "BaseStorage | str":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return url or JournalStorage(JournalFileBackend(str(sweep / "optuna.journal")))


def pruner_of(settings: Any) -> "BasePruner":
    """Raises UserError for a class or an argument that does not exist."""
    from optuna.pruners import NopPruner

    return build("hydra.sweeper.pruner", plain(settings)) if settings else NopPruner()


@contextmanager
def pruned_by(job: Job, sweeper: DictConfig, end: Callable[[], None]) -> Iterator[None]:
    """While a job runs: report each of its validations to its study, and `end` it once its pruner says so.

    Does nothing for a job that is not a trial, and without a pruner. An error does not stop the job.
    """
    if job.trial is None or not sweeper.get("pruner"):  # a grid may take up a search's jobs
        yield
        return
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(job, sweeper, end, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(job: Job, sweeper: DictConfig, end: Callable[[], None], over: threading.Event) -> None:
    try:
        trial, seen = _trial(job, sweeper)
        file = job.directory / "metrics.csv"
        while True:
            ended = over.wait(_SECONDS)
            rows = [row for row in csv_rows(file) if row.get("val/mIoU")]
            values = [float(row["val/mIoU"]) for row in rows]
            # A validation's number is its step: epochs and optimizer steps may be what the search varies.
            for number in range(seen, len(values)):
                trial.report(values[number], number)
            if ended:
                return
            if len(values) > seen and not _is_the_last(rows[-1], job) and trial.should_prune():
                job.say(f"falls behind after {counted(len(values), 'validation')}, val mIoU {values[-1]:.4f}")
                return end()
            seen = max(seen, len(values))
    except Exception as error:  # of Optuna, of a database, ...
        job.say(f"cannot be pruned, and runs to its end ({error!r}).")


def _is_the_last(row: dict[str, str], job: Job) -> bool:
    """Whether the training ends with this validation: there is nothing left to save, and results to lose."""
    trainer = yaml.safe_load((job.directory / "config.yaml").read_text())["trainer"]
    epochs, steps = trainer["max_epochs"] or -1, trainer["max_steps"]
    return 0 < epochs <= int(row["epoch"]) + 1 or 0 < steps <= int(row["step"]) + 1


def _trial(job: Job, sweeper: DictConfig) -> "tuple[Trial, int]":
    """The trial, and how many validations were reported before the job was interrupted."""
    import optuna

    study = optuna.load_study(
        study_name=sweeper.study_name,
        storage=storage_of(sweeper.storage, job.directory.parent),
        pruner=pruner_of(sweeper.pruner),
    )
    (found,) = (trial for trial in study.trials if trial.number == job.trial)
    return optuna.trial.Trial(study, found._trial_id), len(found.intermediate_values)
