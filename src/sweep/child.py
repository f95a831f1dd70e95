"""Runs one job of a sweep as a command of its own, as the user would have typed it.

If a job crashes, or one of its DDP ranks does, the other jobs continue. The sweep itself is never one of
several ranks, whatever trainer.devices says.
"""

import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src.config import config_dirs, quoted
from src.config import overrides as config_overrides
from src.errors import UserError
from src.masking import hide_secrets
from src.runs.directory import sweep_job_score
from src.runs.jobs import DONE, Job, differing, identity, read_jobs
from src.runs.locks import is_held
from src.sweep.pruning import pruned_by
from src.sweep.signals import Signals

# Variables that srun and torchrun set for each process. A job starts its own ranks; with these variables,
# Lightning would take it for a rank of the launcher, and refuse trainer.devices=2 in a SLURM job of one task.
_LAUNCHERS = re.compile(
    r"CGNET_FIRST_RANK|SLURM_(NTASKS|TASKS_PER_NODE|NPROCS|PROCID|LOCALID|NODEID|STEP_).*"
    r"|TORCHELASTIC_.*|(LOCAL_|GROUP_|NODE_)?RANK|(LOCAL_|GROUP_)?WORLD_SIZE|MASTER_(ADDR|PORT)"
)


def run_job(config: DictConfig) -> float:
    """Run the job that Hydra has just composed, unless it is done. Returns its score, NaN without one.

    Raises UserError when it failed, KeyboardInterrupt or SystemExit when the sweep was told to end.
    """
    settings: Any = HydraConfig.get()
    directory = Path(settings.sweep.dir) / str(settings.sweep.subdir)
    with Signals() as signals:
        job = execute(directory, config_overrides(), config, settings, signals)
    signals.end_if_told()
    return math.nan if job.score is None else job.score


def execute(
    directory: Path,
    overrides: Sequence[str],
    config: DictConfig,
    settings: DictConfig,
    signals: Signals,
    slot: dict[str, str] | None = None,
) -> Job:
    """Run a job to its end in a child process, unless it is done, and record how it ended.

    Args:
        config: of the job, or of the whole sweep.
        settings: its node `hydra`.
        slot: of a job beside others: more environment variables. Its output is only in its train.log.

    Raises UserError when it failed.
    """
    job = Job.read(directory)
    if job is None or job.overrides != [hide_secrets(o) for o in overrides]:  # by a sweeper that is not ours
        job = Job(directory, list(overrides))
    job.overrides = list(overrides)
    if job.status in DONE:
        return job
    if is_held(directory / ".lock"):
        raise UserError(f"{directory}: a process that was started earlier still runs this job.")
    job.say(" ".join(identity(overrides)))
    job.start()
    environment = _environment(str(config.name), job) | (slot or {})
    command = _command(job, config, settings)
    with (
        _Child(command, environment, signals, quiet=slot is not None) as child,
        pruned_by(job, settings.sweeper, child.prune),
    ):
        code = child.wait()
    if code == 0:
        score = sweep_job_score(directory)
        job.end("finished", code, score=None if math.isnan(score) else score)
    elif child.pruned and code == 128 + signal.SIGTERM:
        job.end("pruned", code)
    elif signals.told or code == 128 + signal.SIGINT:
        job.end("interrupted", code)
        signals.told = signals.told or [signal.SIGINT]
    else:
        job.end("failed", code, error=child.last_words)
        raise UserError(f"{directory} ended with exit code {code}: {' '.join(identity(overrides))}")
    if slot is not None:
        job.say(f"{job.status}{job.result}")
    return job


def _command(job: Job, config: DictConfig, settings: DictConfig) -> list[str]:
    overrides = [o for o in job.overrides if not o.startswith(("name=", "sweep=", "hydra."))]
    name = quoted(f"{config.name}/{job.directory.name}")
    return [sys.executable, "-m", f"src.{config.task}", *config_dirs(settings), *overrides, f"name={name}"]


def _environment(sweep: str, job: Job) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not _LAUNCHERS.fullmatch(name)}
    varied = differing(job, read_jobs(job.directory.parent))
    name = " ".join([f"{sweep}/{job.directory.name}", *varied])
    return {"WANDB_RUN_GROUP": sweep, "WANDB_NAME": name[:128]} | kept  # 128: the longest that W&B takes


class _Child:
    """A child process that gets the signals which end the sweep. Keeps its last lines of stderr."""

    def __init__(self, command: list[str], environment: dict[str, str], signals: Signals, quiet: bool):
        self.pruned = False
        self._words: deque[str] = deque(maxlen=300)  # lines: of many tracebacks, the first is the cause
        with _ignored(signal.SIGUSR2):
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.DEVNULL if quiet else None,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        signals.pass_on_to(self._process)
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True)
        self._reader.start()

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:  # submitit raises an exception at its time limit
            self._process.terminate()
            self._process.wait()

    def wait(self) -> int:
        """The exit code of the process, as a shell would give it: 137 after SIGKILL."""
        code = self._process.wait()
        self._reader.join(timeout=5)  # a process that the job left behind may keep the pipe open
        return code if code >= 0 else 128 - code

    def prune(self) -> None:
        """As a preemption would: the run saves a checkpoint, and ends."""
        self.pruned = True
        self._process.terminate()

    @property
    def last_words(self) -> str:
        return "".join(self._words).strip()

    def _read(self, stream: TextIO) -> None:
        for line in stream:
            self._words.append(line)
            with suppress(OSError, ValueError):  # a lost terminal; the job must not wait
                sys.stderr.write(line)
                sys.stderr.flush()


@contextmanager
def _ignored(number: int) -> Iterator[None]:
    """Ignore a signal in children that are started meanwhile. SLURM sends submitit's SIGUSR2 to every process
    of a job, and it would kill the training; the SIGTERM that we then send lets the training save."""
    if threading.current_thread() is not threading.main_thread():  # a job beside others, without submitit
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)
