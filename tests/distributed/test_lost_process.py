"""One process of a run is killed: the others end soon, and say why."""

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
