"""One process of a run is killed: the others end soon, and say why."""

import os
import signal
import time
from pathlib import Path

import pytest
from front_doors import TINY
from launch import end, meeting_place, start


def wait_for(path: Path, process) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert path.exists()


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_was_started_apart(doors, tmp_path, killed):
    keys = *TINY, "trainer.max_epochs=500", "trainer.devices=2", "name=run", f"runs_dir={tmp_path}"
    place = meeting_place()
    ranks = {
        str(rank): start(
            ["-m", "src.train", *keys, f"cache_dir={doors.cache}"],
            tmp_path,
            str(rank),
            LOCAL_RANK=str(rank),
            NODE_RANK="0",
            **place,
        )
        for rank in (0, 1)
    }
    wait_for(tmp_path / "train/run/checkpoints/last.ckpt", ranks["0"])
    ranks[str(killed)].kill()
    ended = end(ranks, tmp_path, timeout=60)
    assert ended[str(killed)].code == -signal.SIGKILL
    other = ended[str(1 - killed)]
    assert other.code == 2
    assert "Another rank cannot be reached" in other.err
    assert "Traceback" not in other.err


@pytest.mark.slow
def test_a_rank_that_lightning_started(doors, tmp_path):
    keys = *TINY, "trainer.max_epochs=500", "trainer.devices=2", "name=run", f"runs_dir={tmp_path}"
    first = start(["-m", "src.train", *keys, f"cache_dir={doors.cache}"], tmp_path, "run")
    wait_for(tmp_path / "train/run/checkpoints/last.ckpt", first)
    os.kill(child_of(first.pid), signal.SIGKILL)
    ended = end({"run": first}, tmp_path, timeout=60)["run"]
    # Lightning looks every five seconds whether its children live, and kills the first process if not.
    assert ended.code in (2, -signal.SIGKILL)
    assert "Traceback" not in ended.err
