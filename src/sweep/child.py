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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src.config import config_dirs, quoted
from src.config import overrides as config_overrides
from src.errors import UserError
from src.masking import hide_secrets
from src.runs.directory import sweep_job_score
from src.runs.locks import is_held
from src.runs.machine import let_go_of_closed_terminal
from src.sweep.jobs import Job, differing, identity, read_jobs

# Variables that srun and torchrun set for each process. A job starts its own ranks; with these variables,
# Lightning would take it for a rank of the launcher, and refuse trainer.devices=2 in a SLURM job of one task.
_LAUNCHERS = re.compile(
    r"CGNET_FIRST_RANK|SLURM_(NTASKS|TASKS_PER_NODE|NPROCS|PROCID|LOCALID|NODEID|STEP_).*"
    r"|TORCHELASTIC_.*|(LOCAL_|GROUP_|NODE_)?RANK|(LOCAL_|GROUP_)?WORLD_SIZE"
)

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)


def run_job(config: DictConfig, task: str) -> float:
    """Run the job that Hydra has just composed, unless it is finished. Returns its score, NaN without one.

    Raises UserError when it failed, KeyboardInterrupt or SystemExit when the sweep was told to end.
    """
    settings = HydraConfig.get()
    overrides = config_overrides()
    directory = Path(settings.sweep.dir) / str(settings.sweep.subdir)
    job = Job.read(directory)
    if job is None or job.overrides != [hide_secrets(o) for o in overrides]:  # by a sweeper that is not ours
        job = Job(directory, overrides)
    job.overrides = overrides
    if job.status != "finished":
        if is_held(directory / ".lock"):
            raise UserError(f"{directory}: a process that was started earlier still runs this job.")
        print(f"Job {directory}: {' '.join(identity(overrides))}", flush=True)
        _run(job, config, task)
    return math.nan if job.score is None else job.score


def _run(job: Job, config: DictConfig, task: str) -> None:
    job.start()
    with _Child(_command(job, config, task), _environment(str(config.name), job)) as child:
        code = child.wait()
    if code == 0:
        score = sweep_job_score(job.directory)
        job.end("finished", code, score=None if math.isnan(score) else score)
    elif child.told_to_end or code == 130:
        job.end("interrupted", code)
    else:
        job.end("failed", code, error=child.last_words)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if number in child.told_to_end:
            raise SystemExit(128 + number)
    if child.told_to_end or code == 130:
        raise KeyboardInterrupt
    if code:
        raise UserError(f"{job.directory} ended with exit code {code}: {' '.join(identity(job.overrides))}")


def _command(job: Job, config: DictConfig, task: str) -> list[str]:
    overrides = [o for o in job.overrides if not o.startswith(("name=", "sweep=", "hydra."))]
    name = quoted(f"{config.name}/{job.directory.name}")
    return [sys.executable, "-m", f"src.{task}", *config_dirs(), *overrides, f"name={name}"]


def _environment(sweep: str, job: Job) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not _LAUNCHERS.fullmatch(name)}
    varied = differing(job, read_jobs(job.directory.parent))
    name = " ".join([f"{sweep}/{job.directory.name}", *varied])
    return {"WANDB_RUN_GROUP": sweep, "WANDB_NAME": name[:128]} | kept  # 128: the longest that W&B takes


class _Child:
    """A child process. Keeps its last lines of stderr, and passes on to it the signals that end the sweep."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        self.told_to_end: list[int] = []
        self._words: deque[str] = deque(maxlen=300)  # lines: of many tracebacks, the first is the cause
        self._before = {
            number: signal.signal(number, self._pass_on)
            for number in (signal.SIGINT, *_PASSED_ON)
            if signal.getsignal(number) != signal.SIG_IGN  # nohup sets this for SIGHUP
        }
        with _ignored(signal.SIGUSR2):
            self._process = subprocess.Popen(
                command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace"
            )
        for number in self.told_to_end:  # signals that came between the two statements above
            if number in _PASSED_ON:
                self._process.send_signal(number)
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True)
        self._reader.start()

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:  # submitit raises an exception at its time limit
            self._process.terminate()
            self._process.wait()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self) -> int:
        """The exit code of the process, as a shell would give it: 137 after SIGKILL."""
        code = self._process.wait()
        self._reader.join(timeout=5)  # a process that the job left behind may keep the pipe open
        return code if code >= 0 else 128 - code

    @property
    def last_words(self) -> str:
        return "".join(self._words).strip()

    def _pass_on(self, number: int, _: object) -> None:
        """Pass on all signals but SIGINT: Ctrl-C reaches the job anyway, and twice would end it uncleanly."""
        self.told_to_end.append(number)
        let_go_of_closed_terminal()
        if number in _PASSED_ON and hasattr(self, "_process"):
            self._process.send_signal(number)

    def _read(self, stream: TextIO) -> None:
        for line in stream:
            sys.stderr.write(line)
            sys.stderr.flush()
            self._words.append(line)


@contextmanager
def _ignored(number: int) -> Iterator[None]:
    """Ignore a signal in children that are started meanwhile. SLURM sends submitit's SIGUSR2 to every process
    of a job, and it would kill the training; the SIGTERM that we then send lets the training save."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)
