"""What would never end is refused before it begins, with the numbers."""

from collections import namedtuple

import pytest
from front_doors import TINY

from src.runs import open_files as limits
from src.runs.machine import memory, usable_memory
from src.street import write_street

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("workers", "cores", "gigabytes", "said"),
    [
        (8, 8, 16, ""),
        (64, 1, 16, ""),  # waits for a slow disk
        (65, 1, 16, "130 processes for each device, which take about 6 GB, on 1 core with 16 GB"),
        (500, 64, 2000, ""),
        (500, 64, 16, "take about 50 GB, on 64 cores with 16 GB"),
        (60, 64, 4, "take about 6 GB"),
    ],
)
def test_workers(monkeypatch, refused, workers, cores, gigabytes, said):
    monkeypatch.setattr(limits, "usable_cores", lambda: cores)
    monkeypatch.setattr(limits, "usable_memory", lambda: int(gigabytes * 1e9))
    if not said:
        limits.check_workers(workers, loaders=2)
        return
    with refused(f"data.num_workers={workers}", said, "data.num_workers=auto"):
        limits.check_workers(workers, loaders=2)


@pytest.mark.parametrize("task", ["train", "doctor"])
def test_very_many_workers(doors, monkeypatch, task):
    monkeypatch.setattr(limits, "usable_memory", lambda: 10**10)
    outcome = doors(task, *TINY, "data.num_workers=500")
    assert outcome.code == 2
    assert "data.num_workers=500: 1000 processes" in outcome.out + outcome.err
    assert "Traceback" not in outcome.out + outcome.err


def test_the_limit_of_a_container(monkeypatch, tmp_path):
    monkeypatch.setattr("src.runs.machine._MEMORY_LIMITS", (tmp_path / "none", tmp_path / "limit"))
    assert usable_memory() == memory()
    for text, expected in (("max\n", memory()), ("1000000\n", 10**6), (f"{2**62}\n", memory())):
        (tmp_path / "limit").write_text(text)
        assert usable_memory() == expected


def test_a_street_that_does_not_fit_on_the_disk(tmp_path, refused):
    root = tmp_path / "street"
    with refused(str(root), "scenes take about", "GB are free", "data.street.train"):
        write_street(root, {"train": 10**12, "val": 4}, width=256, height=128, seed=1)
    assert list(tmp_path.iterdir()) == []


def test_a_street_on_a_small_disk(doors, tmp_path, monkeypatch):
    monkeypatch.setattr("src.street.writer.shutil.disk_usage", lambda _: Usage(0, 0, 10**5))
    outcome = doors("train", *TINY, f"data.root={tmp_path / 'street'}", "data.street.seed=77")
    assert outcome.code == 2
    assert "0.0001 GB are free" in outcome.err
