"""`hydra/launcher=local`: several jobs of a sweep at the same time on this machine."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise, takewhile
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from src.config import plain
from src.errors import UserError
from src.runs.jobs import Job
from src.schema.check import check_object
from src.sweep.child import execute
from src.sweep.signals import Signals


class Slot(NamedTuple):
    """A job's share of the machine."""

    environment: dict[str, str]
    cores: set[int]  # empty = all


class LocalLauncher(Launcher):
    """Each job gets GPUs of its own (CUDA_VISIBLE_DEVICES) and an equal share of the CPU cores.

    Args:
        jobs: at the same time; None = as many as there are GPUs for (trainer.devices each), without GPUs 1.
    """

    def __init__(self, jobs: int | None = None):
        self._jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        check_object("hydra.launcher", plain(config.hydra.launcher))
        self.config = config
        self.slots = _slots(config, self._jobs)

    @property
    def jobs(self) -> int:
        return len(self.slots)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        free: SimpleQueue[Slot] = SimpleQueue()
        for slot in self.slots:
            free.put(slot)
        with Signals() as signals, ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self._run, list(one), free, signals) for one in job_overrides]
            wait(futures)
        signals.end_if_told()
        return [_returned(future) for future in futures]

    def _run(self, overrides: list[str], free: "SimpleQueue[Slot]", signals: Signals) -> Job | None:
        *overrides, subdir = overrides  # the sweeper adds it last
        slot = free.get()
        try:
            if signals.told:
                return None
            if slot.cores:
                os.sched_setaffinity(0, slot.cores)  # of this thread, and so of the process that it starts
            directory = Path(self.config.hydra.sweep.dir) / subdir.partition("=")[2]
            return execute(directory, overrides, self.config, self.config.hydra, signals, slot.environment)
        finally:
            free.put(slot)


def _returned(future: "Future[Job | None]") -> JobReturn:
    error = future.exception()
    returned = JobReturn(status=JobStatus.FAILED if error else JobStatus.COMPLETED)
    returned.return_value = error
    return returned


def _slots(config: DictConfig, jobs: int | None) -> list[Slot]:
    """Raises UserError if there are fewer GPUs than the jobs need."""
    accelerator = OmegaConf.select(config, "trainer.accelerator", default="auto")
    gpus = _gpus() if accelerator in ("auto", "gpu", "cuda") else []
    if not gpus:
        return [Slot({}, cores) for cores in _shares(jobs or 1)]
    devices = OmegaConf.select(config, "trainer.devices", default=1)
    if not isinstance(devices, int) or devices < 1:
        raise UserError(
            f"trainer.devices={devices}: with hydra/launcher=local it must be a number, so that each "
            f"job gets so many GPUs of its own."
        )
    jobs = jobs or max(1, len(gpus) // devices)
    if jobs * devices > len(gpus):
        raise UserError(
            f"hydra.launcher.jobs={jobs}: they need {jobs} x {devices} GPUs, and there are "
            f"{len(gpus)} (CUDA_VISIBLE_DEVICES={','.join(gpus)})."
        )
    own = (gpus[number * devices :][:devices] for number in range(jobs))
    return [
        Slot({"CUDA_VISIBLE_DEVICES": ",".join(each)}, cores)
        for each, cores in zip(own, _shares(jobs), strict=True)
    ]


def _gpus() -> list[str]:
    """Numbers or UUIDs of the GPUs that this process may use, for CUDA_VISIBLE_DEVICES."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        import torch  # which a sweep that is told its GPUs does not need

        return list(map(str, range(torch.cuda.device_count())))
    # As CUDA: what follows an invalid number, such as -1, does not count.
    named = [name.strip() for name in given.split(",")]
    return list(takewhile(lambda name: name and not name.startswith("-"), named))


def _shares(jobs: int) -> list[set[int]]:
    """The cores of this process, divided among the jobs; empty sets where there are too few to divide.

    A job's threads and data workers follow from the cores that it may use.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if jobs == 1 or len(cores) < jobs:
        return [set()] * jobs
    bounds = [number * len(cores) // jobs for number in range(jobs + 1)]
    return [set(cores[low:high]) for low, high in pairwise(bounds)]
