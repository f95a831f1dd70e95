"""How `-m` runs: each job gets a directory, or its old one; Hydra's launcher runs all that are unfinished."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from src.config import flatten, plain
from src.errors import UserError
from src.masking import hide_secrets, without_secrets
from src.runs.atomic_files import write_text
from src.runs.jobs import DONE, WEIGHTS, Job, place, read_jobs, table
from src.runs.locks import hold
from src.schema.check import check_object
from src.schema.roles import MAY_CHANGE
from src.sweep.launcher import LocalLauncher
from src.weights.shipped import weights_path


class HouseSweeper(Sweeper):
    """The part that our sweepers share. A subclass defines in `search` which jobs there are."""

    def __init__(self, params: Mapping[str, Any] | None = None):
        self.params = params or {}
        self.jobs: list[Job] = []  # of this command; the directory may hold more
        self._launched = 0

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        check_object("hydra.sweeper", plain(config.hydra.sweeper))
        self.config: DictConfig = config
        self.hydra_context: HydraContext = hydra_context
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    @abstractmethod
    def search(self, overrides: list[Override]) -> None:
        """Place and run jobs until there are no more. The overrides are those of params and command line."""

    def sweep(self, arguments: list[str]) -> None:
        """Raises UserError at the end if a job has not finished."""
        check_alone()
        typed = [f"{key}={value}" for key, value in self.params.items()] + arguments
        overrides = OverridesParser.create(self.hydra_context.config_loader).parse_overrides(typed)
        self.varied = {o.get_key_element() for o in overrides if o.is_sweep_override()}
        given = {o.get_key_element() for o in overrides}
        if clash := (self.varied & {"name", "runs_dir"}) | (given & {"run_dir"}):
            raise UserError(
                f"{clash.pop()}=...: a sweep has one directory, given by name= and runs_dir=; its jobs have "
                f"numbered folders in it."
            )
        if "sweep" in self.varied:
            raise UserError(
                "sweep=...: a sweep varies the values of one file of conf/sweep. Give one, and start another "
                "sweep for the next, with a name= of its own."
            )
        if "trainer.devices" in self.varied and isinstance(self.launcher, LocalLauncher):
            raise UserError(
                "trainer.devices=...: hydra/launcher=local gives each job equally many GPUs. Sweep this key "
                "without it, one job after the other."
            )
        if "extend" in given:
            raise UserError(
                f"extend=...: jobs of another length are other jobs. Extend each by its own command, without "
                f"-m: ... name={self.config.name}/0 extend=true"
            )
        name, self.directory = self.config.name, Path(self.config.hydra.sweep.dir)
        with self._locked():
            try:
                self.search(overrides)
            finally:
                self.jobs = [
                    Job.read(place) or job for place, job in {j.directory: j for j in self.jobs}.items()
                ]
                if jobs := read_jobs(self.directory):
                    print(f"\nSweep {self.directory}:\n{table(jobs)}", flush=True)
                self._compare()
                if any(job.status in ("interrupted", "not started") for job in self.jobs):
                    print(f"The same command with name={name} resumes what is missing.", flush=True)
        failed = [job for job in self.jobs if job.status not in DONE]
        if failed:
            raise UserError(
                f"{len(failed)} of {len(self.jobs)} jobs failed:\n"
                + "".join(f"  {job.directory} (exit code {job.exit_code})\n" for job in failed)
                + f"Their job.json says why. The same command with name={name} resumes what is missing."
            )

    def _compare(self) -> None:
        """Tables and pages of all jobs that are finished. They import torch, which --help does not need."""
        if self.config.task == "eval":
            from src.evaluation.comparison import report_comparison

            report_comparison(self.directory)
        elif self.config.task == "train" and any(self.directory.glob("*/metrics.csv")):
            from src.results.write import report_sweep

            report_sweep(self.directory)

    def place(self, batch: Sequence[Sequence[str]]) -> list[Job]:
        """Find or create the jobs. Raises HydraException before that for overrides that do not compose."""
        composed = [self._values(overrides) for overrides in batch]
        task = self.config.task
        jobs = [
            place(self.directory, list(overrides), self.varied, task, values, weights_path)
            for overrides, values in zip(batch, composed, strict=True)
        ]
        self.jobs += jobs
        return jobs

    def _values(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Those that decide what a job computes."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        values = dict(flatten(without_secrets(OmegaConf.to_container(config))))
        return {
            key: value
            for key, value in values.items()
            if key in WEIGHTS or not key.startswith(("hydra.", *MAY_CHANGE))
        }

    def run(self, jobs: Sequence[Job]) -> list[Job]:
        """Run the jobs that are not done. Returns all of them with their new status."""
        for job in jobs:
            if job.status in DONE:
                job.say(f"{job.status} before{job.result}")
        # One process per directory: values that are given twice, or drawn twice, are one job.
        todo = list({job.directory: job for job in jobs if job.status not in DONE}.values())
        if todo:
            # Hydra's own key tells the launcher's process which job this is.
            batch = [[*job.overrides, f"hydra.sweep.subdir={job.number}"] for job in todo]
            results = self.launcher.launch(batch, initial_job_idx=self._launched)
            self._launched += len(todo)
            for job, result in zip(todo, results, strict=True):
                now = Job.read(job.directory)
                if now is None or now.status not in (*DONE, "failed"):
                    _ = result.return_value  # raises the error that kept the job from running
        return [Job.read(job.directory) or job for job in jobs]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = hold(self.directory / ".lock")
        except BlockingIOError as error:
            raise UserError(
                f"{self.directory}: another process runs this sweep. Wait for it, or choose another name=."
            ) from error
        except OSError as error:
            raise UserError(f"{self.directory}: cannot be written ({error}). Set runs_dir=...") from error
        with lock:
            kept = without_secrets(OmegaConf.to_container(self.config))
            write_text(self.directory / "multirun.yaml", hide_secrets(OmegaConf.to_yaml(kept)))
            yield


class GridSweeper(HouseSweeper):
    """Runs every combination of the values, as Hydra's own sweeper does."""

    def __init__(self, params: Mapping[str, Any] | None = None, max_batch_size: int | None = None):
        super().__init__(params)
        self.max_batch_size = max_batch_size

    def search(self, overrides: list[Override]) -> None:
        endless = [o.input_line for o in overrides if o.is_interval_sweep()]
        if endless:
            raise UserError(f"{endless[0]}: a grid cannot search an interval. Add hydra/sweeper=optuna.")
        (batch,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
        jobs = self.place(batch)
        size = self.max_batch_size or len(jobs)
        for first in range(0, len(jobs), size):
            self.run(jobs[first : first + size])


def check_alone() -> None:
    """Raises UserError in one of several processes: each would run every job, or search for itself."""
    several = {
        "RANK": os.environ.get("WORLD_SIZE", "1"),
        "SLURM_PROCID": os.environ.get("SLURM_STEP_NUM_TASKS", os.environ.get("SLURM_NTASKS", "1")),
    }
    for name, processes in several.items():
        if name in os.environ and processes.isdigit() and int(processes) > 1:
            raise UserError(
                f"A sweep is one process, and this is one of {processes} ({name}={os.environ[name]}): start "
                f"it without torchrun or srun. Each job starts as many processes as trainer.devices says."
            )
