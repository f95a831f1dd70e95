"""A disk that is really full, or really read-only: a small file system of our own, in a mount namespace."""

import shutil
import subprocess

import pytest
from faults import fault
from front_doors import REPOSITORY, TINY

from src.weights.checkpoint_files import load_checkpoint

QUIET = ("callbacks.summary=null", "callbacks.pictures=null")


def _namespaces() -> bool:
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /mnt"]
    return bool(shutil.which("unshare")) and not subprocess.run(command, capture_output=True).returncode


pytestmark = pytest.mark.skipif(not _namespaces(), reason="may not mount file systems")


@pytest.fixture
def mounted(doors, tmp_path):
    """Runs shell commands beside a small file system at $DISK, of which a copy remains."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()

    def run(size, script, *overrides, task="train"):
        arguments = [*overrides, "name=run", f"runs_dir={disk}/runs"]
        if not any(a.startswith("cache_dir=") for a in arguments):
            arguments.append(f"cache_dir={doors.cache}")
        command = subprocess.list2cmdline(doors.command(task, *arguments))
        lines = (f"mount -t tmpfs -o size={size} none {disk}", script, f"cp -r {disk} {kept}")
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", "\n".join(lines)],
            cwd=REPOSITORY,
            env=doors.environment() | {"COMMAND": command, "DISK": str(disk)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        return done.stderr, done.stdout, kept

    return run


RUN = "$COMMAND; echo exit code $?\n"
MAKE_ROOM = "mount -o remount,size=100m $DISK\n"


@pytest.mark.slow
def test_no_room_for_a_checkpoint(mounted):
    """Two checkpoints of 3.3 MB fit; a third, which would replace one of them, does not beside them."""
    look = "ls -A $DISK/runs/train/run/checkpoints; cp $DISK/runs/train/run/checkpoints/last.ckpt $DISK/..\n"
    errors, output, kept = mounted("8m", RUN + look + MAKE_ROOM + RUN, *TINY, *QUIET)
    assert "checkpoints/last.ckpt: cannot be written, No space left on device: it takes 3.2" in errors
    assert "MB are free. A file that was there before is unchanged." in errors
    assert "last.ckpt, saved" in errors
    assert "exit code 2\nbest.ckpt\nlast.ckpt\n" in output, "a temporary file was left"
    assert output.rstrip().endswith("exit code 0")
    assert load_checkpoint(kept.parent / "last.ckpt")["global_step"] == 4
    assert load_checkpoint(kept / "runs/train/run/checkpoints/last.ckpt")["global_step"] == 8


@pytest.mark.slow
def test_no_room_for_the_config(mounted):
    errors, output, _ = mounted("4k", RUN + MAKE_ROOM + RUN, *TINY, *QUIET, "trainer.max_epochs=1")
    assert "config.yaml: cannot be written, No space left on device" in errors
    assert "exit code 2" in output
    assert output.rstrip().endswith("exit code 0")


@pytest.mark.slow
@pytest.mark.parametrize(("size", "named"), [("12k", "record.json"), ("32k", "last.ckpt")])
def test_no_room_for_the_run_s_other_files(mounted, size, named):
    """The log can be filled up as well: it may end, the training says why it does."""
    errors, output, _ = mounted(size, RUN, *TINY, QUIET[0])
    assert named in errors
    assert "No space left on device" in errors
    assert "exit code 2" in output


@pytest.mark.slow
def test_no_room_for_the_synthetic_street(mounted, tmp_path):
    errors, output, _ = mounted(
        "100k", RUN + MAKE_ROOM + RUN, *TINY, *QUIET, f"cache_dir={tmp_path}/disk/cache"
    )
    assert "Cannot write the synthetic street" in errors
    assert "GB are free" in errors
    assert "exit code 2" in output
    assert output.rstrip().endswith("exit code 0")


@pytest.mark.slow
def test_a_run_directory_that_becomes_read_only(mounted, tmp_path):
    overrides = fault("ReadOnlyFolder", step=5, path=tmp_path / "disk")
    errors, output, kept = mounted("50m", RUN, *TINY, *QUIET, *overrides)
    assert "Read-only file system" in errors
    assert "run/metrics.csv: cannot be written" in errors
    assert "last.ckpt, saved" in errors
    assert "exit code 2" in output
    assert load_checkpoint(kept / "runs/train/run/checkpoints/last.ckpt")["global_step"] == 4
