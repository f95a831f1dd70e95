"""Driving `python -m src.<task>` from a test: in this process where that will do, else in its own."""

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent

# Small enough for seconds, with every part in it: 16 training and 7 validation scenes, two epochs.
TINY = (
    "experiment=debug",
    "data.street.val=7",
    "data.val_batch_size=3",
    "model.num_blocks=[2,2]",
    "trainer.detect_anomaly=false",
    "trainer.accelerator=cpu",
    "callbacks.pictures.count=2",
)


def early_stopping(mode: str, patience: int, monitor: str = "val/mIoU") -> str:
    return (
        "callbacks.early_stopping={_target_: pytorch_lightning.callbacks.EarlyStopping, "
        f"monitor: {monitor}, mode: {mode}, patience: {patience}}}"
    )


_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

# Images of the handmade test split (fixture `cityscapes_root`).
TEST_NAMES = [f"{city}_{i:06d}_000019" for city, count in (("berlin", 3), ("ulm", 2)) for i in range(count)]


@dataclass
class Outcome:
    code: int
    out: str
    err: str
    directory: Path
    metrics: dict[str, Any] = field(default_factory=dict)
    started: set[int] = field(default_factory=set)  # of a sweep's jobs, by their numbers

    @property
    def files(self) -> set[str]:
        return {p.relative_to(self.directory).as_posix() for p in self.directory.rglob("*") if p.is_file()}


class FrontDoors:
    """Runs commands with their run directories and caches in temporary folders."""

    def __init__(self, folder: Path, cache: Path):
        self.folder, self.cache = folder, cache
        self.paths = [REPOSITORY / "tests"]  # PYTHONPATH of commands in their own process

    def __call__(self, task: str, *overrides: str, name: str = "run", own_process: bool = False) -> Outcome:
        arguments = [*overrides, f"name={name}", f"runs_dir={self.folder}", f"cache_dir={self.cache}"]
        run = self._in_own_process if own_process else self._in_this_process
        code, out, err = run(task, arguments)
        outcome = Outcome(code, out, err, self.folder / task / name)
        if outcome.code == 0 and (outcome.directory / "metrics.json").exists():
            outcome.metrics = json.loads((outcome.directory / "metrics.json").read_text())
        return outcome

    def command(self, task: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", f"src.{task}", *arguments]

    def environment(self) -> dict[str, str]:
        # What a command of before, in this process, has left for its own ranks and jobs.
        # WANDB_SERVICE: W&B's process of an earlier test, which may still hold the run of a killed training.
        without = ("CGNET_RUN_STAMP", "WANDB_SERVICE")
        given = {key: value for key, value in os.environ.items() if key not in without}
        return {
            "WANDB_MODE": "offline",
            **given,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": ":".join(map(str, self.paths)),
            "COLUMNS": "120",
        }

    def _in_own_process(self, task: str, arguments: list[str]) -> tuple[int, str, str]:
        done = subprocess.run(
            self.command(task, *arguments),
            cwd=REPOSITORY,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    @staticmethod
    def _in_this_process(task: str, arguments: list[str]) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        before, sys.argv = sys.argv, [f"src/{task}.py", *arguments]
        handlers = {number: signal.getsignal(number) for number in _HANDLED}
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = import_module(f"src.{task}").main()
        finally:
            sys.argv = before
            for number, handler in handlers.items():  # of a command that a signal ended, they stay
                signal.signal(number, handler)
        return code, out.getvalue(), err.getvalue()
