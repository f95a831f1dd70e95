"""Starting the processes of one run each by itself, as a cluster does."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from front_doors import REPOSITORY


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def meeting_place() -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}


def environment(**more: str) -> dict[str, str]:
    """For a process of a user who has started nothing else yet."""
    launchers = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_", "CGNET_RUN_STAMP", "SLURM_")
    own = {key: value for key, value in os.environ.items() if not key.startswith(launchers)}
    paths = f"{REPOSITORY}:{REPOSITORY / 'tests'}"
    return own | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "COLUMNS": "120"} | more


def start(
    command: Sequence[str], folder: Path, name: str, before: Sequence[str] = (), **more: str
) -> subprocess.Popen:
    """A Python command, with a program `before` that starts it; what it says goes into `folder`, so that no
    full pipe stops it."""
    out, err = ((folder / f"{name}.{kind}").open("w") for kind in ("out", "err"))
    return subprocess.Popen(
        [*before, sys.executable, *command], cwd=REPOSITORY, env=environment(**more), stdout=out, stderr=err
    )


def end(processes: dict[str, subprocess.Popen], folder: Path, timeout: float = 200) -> dict[str, Ended]:
    """Waits for all; none is left behind."""
    try:
        codes = {name: process.wait(timeout) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
    return {
        name: Ended(code, *((folder / f"{name}.{kind}").read_text() for kind in ("out", "err")))
        for name, code in codes.items()
    }
