"""`hydra/sweeper=optuna`: a search instead of a grid, with Hydra's syntax for values and Optuna's storage.

Each trial is a job like any other. The study on disk has the values of every trial: the same command resumes
an interrupted trial in its old directory, and adds only the trials that are missing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.utils import instantiate
from omegaconf import DictConfig

from src.errors import UserError, counted, shorten
from src.runs.atomic_files import write_json
from src.runs.jobs import DONE, Job, find, identity
from src.sweep.pruning import pruner_of, storage_of
from src.sweep.search_plots import draw
from src.sweep.sweepers import HouseSweeper

if TYPE_CHECKING:  # an optional dependency
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


class OptunaSweeper(HouseSweeper):
    """conf/hydra/sweeper/optuna.yaml explains the arguments."""

    def __init__(
        self,
        n_trials: int,
        direction: Literal["minimize", "maximize"],
        n_jobs: int | None,
        storage: str | None,
        study_name: str,
        sampler: DictConfig,
        pruner: DictConfig | None,
        params: Mapping[str, Any] | None = None,
    ):
        super().__init__(params)
        self.n_trials, self.direction, self.n_jobs = n_trials, direction, n_jobs
        self.storage, self.study_name, self.sampler = storage, study_name, sampler
        self.pruner = pruner

    def search(self, overrides: list[Override]) -> None:
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise UserError('hydra/sweeper=optuna needs the package: pip install -e ".[optuna]"') from error

        optuna.logging.set_verbosity(logging.WARNING)  # it would print each value besides our table
        last = {o.get_key_element(): o for o in overrides}  # of a key given twice, the last counts
        ((self.fixed,),) = BasicSweeper.split_arguments(
            [o for o in last.values() if not o.is_sweep_override()], max_batch_size=None
        )
        space = {key: distribution(o) for key, o in last.items() if o.is_sweep_override()}
        if not space:
            raise UserError(
                "Nothing to search: give a key several values, such as optimizer.lr=interval(1e-4,1e-2)."
            )
        self.study = optuna.create_study(
            study_name=self.study_name,
            storage=storage_of(self.storage, self.directory),
            direction=self.direction,
            pruner=pruner_of(self.pruner),  # some samplers ask the pruner, too
            load_if_exists=True,
        )
        self._check_same_recipe()
        self._check_same_space(space)
        self._take_up(space)
        at_once = self.n_jobs or int(getattr(self.launcher, "jobs", 1))
        while (left := self.n_trials - len(self._trials(space))) > 0:
            self._run_trials([self._ask(space) for _ in range(min(at_once, left))])
        self._report()
        self._check_failed(self._trials(space))

    def _trials(self, space: dict[str, BaseDistribution]) -> list[FrozenTrial]:
        """The trials that count: not those that have been retried, nor one that was interrupted before it had
        all its values, since it has never run."""
        from optuna.trial import TrialState

        def never_ran(trial: FrozenTrial) -> bool:
            return trial.state == TrialState.FAIL and trial.params.keys() < space.keys()

        trials = self.study.trials
        retried = {trial.user_attrs.get("retry_of") for trial in trials}
        return [trial for trial in trials if trial.number not in retried and not never_ran(trial)]

    def _check_same_recipe(self) -> None:
        now = sorted(identity(self.fixed))
        before = self.study.user_attrs.get("recipe", now)
        if before != now:
            raise UserError(
                f"{self.directory}: this search was started with {' '.join(before)}, and now it is "
                f"{' '.join(now)}. Their scores are not comparable: choose another name=."
            )
        self.study.set_user_attr("recipe", now)

    def _check_same_space(self, space: dict[str, BaseDistribution]) -> None:
        from optuna.distributions import check_distribution_compatibility

        for trial in self.study.trials:
            for key in trial.distributions.keys() & space.keys():
                try:
                    check_distribution_compatibility(trial.distributions[key], space[key])
                except ValueError as error:
                    raise UserError(
                        f"{self.directory}: {key} has other choices, or another scale, than in this search's "
                        f"earlier trials, and Optuna cannot mix them ({error}). Only the bounds of an "
                        f"interval may change: choose another name=."
                    ) from error

    def _take_up(self, space: dict[str, BaseDistribution]) -> None:
        """Resume and retry the trials of earlier commands, in their directories. Those commands have ended,
        because this one holds the sweep's lock."""
        from optuna.trial import TrialState

        failed = [trial for trial in self._trials(space) if trial.state == TrialState.FAIL]
        left = self.study.get_trials(states=[TrialState.RUNNING])
        for trial in left:
            if trial.params.keys() != space.keys():  # killed before it had all its values
                self.study.tell(trial.number, state=TrialState.FAIL)
        again = [self._retry(trial) for trial in failed if self._status(trial) not in DONE]
        self._run_trials([*(trial for trial in left if trial.params.keys() == space.keys()), *again])

    def _retry(self, trial: FrozenTrial) -> FrozenTrial:
        """A new trial with the values of a failed one, whose state is final for Optuna."""
        from optuna.trial import TrialState, create_trial

        self.study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={"retry_of": trial.number},
            )
        )
        return self.study.trials[-1]

    def _job(self, trial: FrozenTrial) -> Job | None:
        return find(self.directory, self._overrides(trial), self.varied)

    def _status(self, trial: FrozenTrial) -> str | None:
        return job.status if (job := self._job(trial)) else None

    def _ask(self, space: dict[str, BaseDistribution]) -> FrozenTrial:
        """A new trial. Its number seeds its sampler, so that an interrupted search draws the same values as
        an uninterrupted one; one seed for all trials would draw the first values again after each start."""
        seed = self.sampler.get("seed")
        own = {} if seed is None else {"seed": seed + len(self.study.trials)}
        self.study.sampler = instantiate(self.sampler, **own)
        number = self.study.ask(space).number
        return self.study.trials[number]

    def _run_trials(self, trials: Sequence[FrozenTrial]) -> None:
        from optuna.trial import TrialState

        jobs = self.place([self._overrides(trial) for trial in trials])
        for trial, job in zip(trials, jobs, strict=True):
            if job.status not in DONE:
                job.trial = trial.number
                job.write()
        for trial, job in zip(trials, self.run(jobs), strict=True):
            if job.status == "finished" and job.score is not None:
                self.study.tell(trial.number, job.score)
            else:
                state = TrialState.PRUNED if job.status == "pruned" else TrialState.FAIL
                self.study.tell(trial.number, state=state)

    def _overrides(self, trial: FrozenTrial) -> list[str]:
        return [*self.fixed, *(f"{key}={value}" for key, value in trial.params.items())]

    def _report(self) -> None:
        """Print the best trial, keep it in best.json, and draw the search."""
        from optuna.trial import TrialState

        complete = self.study.get_trials(states=[TrialState.COMPLETE])
        if not complete:
            return
        best = self.study.best_trial
        job = self._job(best)
        where = str(job.directory) if job else None
        write_json(
            self.directory / "best.json",
            {"value": best.value, "params": best.params, "job": where, "trials": len(self.study.trials)},
        )
        values = " ".join(f"{key}={value}" for key, value in best.params.items())
        pruned = len(self.study.get_trials(states=[TrialState.PRUNED]))
        print(
            f"Best of {counted(len(complete), 'finished trial')}"
            + (f" ({pruned} more were pruned)" if pruned else "")
            + f": {best.value:.4f} with {values} ({where})",
            flush=True,
        )
        draw(self.study, self.directory)

    def _check_failed(self, trials: Sequence[FrozenTrial]) -> None:
        """Raises UserError for failed trials: they count, and this command has not repeated them."""
        from optuna.trial import TrialState

        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        if not failed:
            return
        jobs = [self._job(trial) for trial in failed]
        lines = [
            f"  {job.directory} ("
            + (f"exit code {job.exit_code})" if job.exit_code else "without a val mIoU)")
            for job in {job.directory: job for job in jobs if job}.values()
        ]
        none = "" if len(failed) < len(trials) else " None has finished, so there is no best one."
        raise UserError(
            f"{len(failed)} of {len(trials)} trials failed.{none}\n{shorten(lines, 20)}\n"
            f"Their job.json says why. The same command with name={self.config.name} retries them. If their "
            f"values are the reason, hydra.sweeper.n_trials={len(trials) + len(failed)} also runs "
            f"{len(failed)} more, with other values."
        )


def distribution(override: Override) -> BaseDistribution:
    """Hydra's choice(), range() and interval() as Optuna's distributions, logarithmic with tag(log, ...).

    As in a grid, a range excludes its end. int(interval(1, 8)) gives whole numbers, including 8.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    low: Any
    high: Any
    step: Any
    if isinstance(value, IntervalSweep):
        low, high, log = value.start, value.end, "log" in value.tags
        return (IntDistribution if isinstance(low, int) else FloatDistribution)(low, high, log=log)
    if isinstance(value, RangeSweep):
        values = list(value.range())
        low, high = values[0], values[-1]
        step, log = value.step, "log" in value.tags
        if isinstance(low, int):
            return IntDistribution(low, high, log=log, step=step)
        return FloatDistribution(low, high, log=log, step=None if log else step)
    return CategoricalDistribution(list(override.sweep_string_iterator()))
