"""scripts/slurm/train.sbatch, with a stand-in for SLURM: tasks, their variables, the signal, the requeue."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from front_doors import REPOSITORY, TINY

from src.weights.checkpoint_files import load_checkpoint

SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys, time

# Since SLURM 22.05 srun has to be told of the cores.
assert sys.argv[1:3] == ["--kill-on-bad-exit=1", "--cpus-per-task=1"], sys.argv
command = sys.argv[3:]
nodes, per_node = int(os.environ["SLURM_JOB_NUM_NODES"]), int(os.environ["SLURM_NTASKS_PER_NODE"])
tasks = [
    subprocess.Popen(command, env=os.environ | {{
        "SLURM_NTASKS": str(nodes * per_node), "SLURM_STEP_NUM_TASKS": str(nodes * per_node),
        "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % per_node),
        "SLURM_NODEID": str(rank // per_node),
        "SLURM_NODELIST": "localhost", "SLURM_STEP_ID": "0", "SLURM_NNODES": str(nodes),
    }})
    for rank in range(nodes * per_node)
]
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, _: [task.send_signal(number) for task in tasks])
open(os.environ["SRUN_PID"], "w").write(str(os.getpid()))
while not any(task.poll() for task in tasks) and None in [task.poll() for task in tasks]:
    time.sleep(0.02)
for task in tasks if any(task.poll() for task in tasks) else ():
    task.terminate()  # --kill-on-bad-exit=1
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""


@pytest.fixture
def sbatch(tmp_path, doors):
    """Runs the script as SLURM would; sends a signal to all tasks once a file is there."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.log\n')):
        (bin_dir / name).write_text(text)
        (bin_dir / name).chmod(0o755)

    def run(*overrides, nodes, per_node, when=None, number=None):
        pid = tmp_path / "srun.pid"
        pid.unlink(missing_ok=True)
        environment = doors.environment() | {
            "PATH": f"{bin_dir}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SRUN_PID": str(pid),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_NTASKS_PER_NODE": str(per_node),
            "SLURM_CPUS_PER_TASK": "1",
        }
        arguments = [*overrides, f"runs_dir={doors.folder}", f"cache_dir={doors.cache}"]
        script = REPOSITORY / "scripts/slurm/train.sbatch"
        job = subprocess.Popen(
            ["bash", script, *arguments], cwd=REPOSITORY, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        deadline = time.monotonic() + 200
        while when and not when.exists() and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if when and job.poll() is None:  # the time limit is told to the script, a preemption to all
            os.kill(job.pid if number == signal.SIGUSR1 else int(pid.read_text()), number)
        output, _ = job.communicate(timeout=200)
        return job.returncode, output

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "per_node"), [(1, 1), (1, 2), (2, 1)])
def test_a_job_out_of_time_is_requeued_and_goes_on(doors, sbatch, tmp_path, nodes, per_node):
    # Without name=: a requeued job has its number still, and with it its run directory.
    tiny = (*TINY, "data.street.train=128", "callbacks.last.every_n_train_steps=1", "callbacks.pictures=null")
    shape = {"nodes": nodes, "per_node": per_node}
    directory = doors.folder / "train/slurm-4711-0"
    last = directory / "checkpoints/last.ckpt"
    code, output = sbatch(*tiny, **shape, when=last, number=signal.SIGUSR1)
    assert code in (138, 143), output  # the highest of all tasks', as srun's
    assert "SIGUSR1: saving after this batch" in output
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4711\n"
    saved = load_checkpoint(last)["global_step"]
    assert 0 < saved < 64
    code, output = sbatch(*tiny, **shape)
    assert code == 0, output
    assert f"Resuming from {last}" in output
    assert [p.name for p in (doors.folder / "train").iterdir()] == ["slurm-4711-0"]
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4711\n"

    whole = doors("train", *tiny, f"trainer.devices={nodes * per_node}", own_process=True)
    assert whole.code == 0, whole.err
    one, other = (load_checkpoint(d / "checkpoints/last.ckpt") for d in (directory, whole.directory))
    assert all(torch.equal(one["state_dict"][k], other["state_dict"][k]) for k in other["state_dict"])


@pytest.mark.slow
def test_a_preempted_job_is_left_to_slurm(doors, sbatch, tmp_path):
    last = doors.folder / "train/run/checkpoints/last.ckpt"
    tiny = (*TINY, "trainer.max_epochs=500", "callbacks.last.every_n_train_steps=1", "name=run")
    code, output = sbatch(*tiny, nodes=1, per_node=1, when=last, number=signal.SIGTERM)
    assert code == 143, output
    assert not (tmp_path / "scontrol.log").exists()
