"""`python -m src.predict` on many images: killed in the middle, and with flat memory."""

import csv
import os
import signal
import subprocess
import time

import cv2
import psutil
import pytest
from front_doors import REPOSITORY, TINY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(module_doors):
    keys = ("model=pixelwise", "model.channels=[8]", "callbacks.pictures=null", "report.images=0")
    tiny = (key for key in TINY if not key.startswith("model."))
    run = module_doors("train", *tiny, *keys, "trainer.max_epochs=1", name="trained")
    assert run.code == 0, run.err
    return str(run.directory / "checkpoints/best.ckpt")


@pytest.fixture
def start(doors, checkpoint):
    """Starts the command in a process of its own."""

    def run(folder):
        keys = (f"checkpoint={checkpoint}", f"source={folder}", "engine=torch", "output=[color,overlay]")
        where = ("name=run", f"runs_dir={doors.folder}", f"cache_dir={doors.cache}")
        return subprocess.Popen(
            doors.command("predict", *keys, *where),
            cwd=REPOSITORY,
            env=doors.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    return run


def many(street_root, folder, count):
    """So many names of a few images."""
    images = sorted((street_root / "leftImg8bit").glob("*/*/*.png"))
    for number in range(count):
        place = folder / f"{number % 10}/{number:05d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(images[number % len(images)], place)
    return folder


def rows(directory):
    path = directory / "shares.csv"
    return list(csv.reader(path.open(newline="")))[1:] if path.exists() else []


def lines(directory):
    path = directory / "shares.csv"
    return path.read_bytes().count(b"\n") - 1 if path.exists() else 0


def test_kill_9_in_the_middle(doors, start, street_root, tmp_path):
    folder, directory = many(street_root, tmp_path / "photos", 600), doors.folder / "predict/run"
    done = 0
    for more in (20, 100, 150, 200):
        process = start(folder)
        while lines(directory) < done + more:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kept = rows(directory)
        assert all(len(row) == 3 + 19 for row in kept)
        assert len(kept) >= done + more, "nothing that was done is lost"
        done = len(kept)
        for path in (p for kind in ("color", "overlay") for p in (directory / kind).rglob("[!.]*.*")):
            assert cv2.imread(str(path)) is not None, f"{path} is half-written"
    process = start(folder)
    assert process.wait() == 0, process.stderr.read()
    process.communicate()
    assert sorted(row[0] for row in rows(directory)) == sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*.png")
    )
    assert not list(directory.rglob("*.tmp"))
    for kind in ("color", "overlay"):
        assert len([path for path in (directory / kind).rglob("*") if path.is_file()]) == 600


def test_memory_stays_flat_over_10_000_images(doors, start, street_root, tmp_path):
    folder, directory = many(street_root, tmp_path / "photos", 10_000), doors.folder / "predict/run"
    process, early, late = start(folder), 0, 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        done, used = lines(directory), watched.memory_info().rss
        if done < 1000:
            early = max(early, used)
        else:
            late = max(late, used)
        time.sleep(0.05)
    assert process.returncode == 0, process.stderr.read()
    process.communicate()
    assert len(rows(directory)) == 10_000
    print(f"{early / 1e6:.0f} MB up to 1,000 images, {late / 1e6:.0f} MB up to 10,000")
    assert late < early + 25e6
