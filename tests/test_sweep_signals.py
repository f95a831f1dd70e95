"""A sweep that is told to end, by Ctrl-C or by SIGTERM, ends its job first and keeps what it has."""

import os
import signal
import subprocess
import sys
import time

import pytest
from front_doors import REPOSITORY

from src.runs.jobs import read_jobs

# A job that notes each signal of a second and ends as a training does; SIGUSR2 would kill it. It
# waits for signals instead of handling them: of two at once, Python may run the first one's handler alone.
JOB = """
import signal, sys
awaited = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
print("up", file=open(sys.argv[1], "w"))
noted = [signal.sigtimedwait(awaited, 60).si_signo]
while more := signal.sigtimedwait(awaited, 1):
    noted.append(more.si_signo)
print(*noted, file=open(sys.argv[1], "a"))
sys.exit(128 + noted[0])
"""
SWEEP = f"""
import sys
from src.sweep import child
notes = sys.argv.pop(1)
child._command = lambda job, *_: [sys.executable, "-c", {JOB!r}, notes + job.directory.name]
from src.train import main
sys.exit(main())
"""


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("number", "to_all", "code", "at_once"),
    [
        (signal.SIGINT, True, 130, 1),
        (signal.SIGHUP, False, 129, 1),
        (signal.SIGTERM, False, 143, 1),
        (signal.SIGTERM, False, 143, 2),
        (signal.SIGINT, True, 130, 2),
    ],
)
def test_each_job_is_told_once_then_the_sweep_ends(doors, tmp_path, number, to_all, code, at_once):
    """Ctrl-C goes to all processes of a terminal; a cluster's SIGTERM, or a user's, to the one it knows."""
    notes = [tmp_path / f"notes{job}" for job in range(at_once)]
    seeds = ",".join(map(str, range(at_once + 1)))
    command = [sys.executable, "-c", SWEEP, str(tmp_path / "notes"), "-m", f"seed={seeds}", "name=run"]
    command += [f"runs_dir={tmp_path}", "trainer.accelerator=cpu"]
    if at_once > 1:
        command += ["hydra/launcher=local", f"hydra.launcher.jobs={at_once}"]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=doors.environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as swept:
        deadline = time.monotonic() + 60
        while not all(n.exists() and n.read_text() for n in notes) and time.monotonic() < deadline:
            time.sleep(0.05)
        if at_once == 1:
            (pid,) = _children(swept.pid)
            os.kill(pid, signal.SIGUSR2)
        (os.killpg if to_all else os.kill)(swept.pid, number)
        out, _ = swept.communicate(timeout=60)
    assert swept.returncode == code
    assert [n.read_text().split() for n in notes] == [["up", str(int(number))]] * at_once
    assert [(job.status, job.exit_code) for job in read_jobs(tmp_path / "train/run")] == [
        *[("interrupted", code)] * at_once,
        ("not started", None),
    ]
    assert "interrupted" in out
    assert out.rstrip().endswith("The same command with name=run resumes what is missing.")


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [map(int, line.split()) for line in listed.stdout.splitlines()]
    return [child for child, parent in pairs if parent == pid]
