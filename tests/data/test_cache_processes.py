"""The cache among processes: killed while it is filled, filled by several at once, read by many workers."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from src.data.augment import RandomScaledCrop, SeededTransform
from src.data.checks.pairs import check_pairs
from src.data.dataset import SegmentationDataset, read_pair
from src.data.frame_cache import frames
from src.data.frame_cache.cache import FrameCache
from src.data.frame_cache.frames import Origin, frame_bytes
from src.data.layouts import Pair, find_pairs
from src.labels import CITYSCAPES
from src.street import write_street

FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    """Pairs and sizes of 40 frames of 512x256: enough work to be interrupted."""
    root = tmp_path_factory.mktemp("forty") / "street"
    write_street(root, {"train": 40}, 512, 256, seed=1)
    pairs = find_pairs("cityscapes", root, "train")
    return root, pairs, check_pairs(pairs, CITYSCAPES)


def fill(cache, pairs, sizes, results=None):
    try:
        cache.fill(pairs, sizes)
    except BaseException as error:
        if results is not None:
            results.put(repr(error))
        raise
    if results is not None:
        results.put("")


def assert_correct(cache, pairs):
    assert cache.missing(pairs, thorough=True) == {}
    for pair in pairs:
        for kept, decoded in zip(cache.read(pair), read_pair(pair, CITYSCAPES), strict=True):
            assert np.array_equal(kept, decoded)
    assert not list(cache.directory.glob(".*.tmp"))


def test_killed_at_random_moments_ten_times_over(forty, tmp_path):
    root, pairs, sizes = forty
    cache, parts = FrameCache(tmp_path / "frames", root, CITYSCAPES), []
    rng = random.Random(os.environ.get("CACHE_KILL_SEED", "0"))
    for kill in range(10):
        # Counted, since no clock is even: on a slow disk, ten kills in a part of the time all came too early.
        wanted = len(list(cache.directory.glob("*.frame"))) + rng.randint(0, 8)
        builder = FORK.Process(target=fill, args=(cache, pairs, sizes))
        builder.start()
        while builder.is_alive() and len(list(cache.directory.glob("*.frame"))) < wanted:
            time.sleep(rng.uniform(0, 0.002))
        builder.kill()
        builder.join()
        made = len(pairs) - len(cache.missing(pairs, thorough=True)) if cache.directory.exists() else 0
        parts.append(made)
        if made > 30 or kill == 4:  # begin once more with a half-made one
            for path in list(cache.directory.glob("*.frame"))[::2]:
                path.unlink()
    assert any(0 < made < len(pairs) for made in parts), parts  # some hit the middle
    cache.fill(pairs, sizes)
    assert_correct(cache, pairs)


def test_killed_in_the_middle_of_a_file(forty, tmp_path):
    """The moment that random ones may miss: part of a frame is written, nothing renamed."""
    root, pairs, sizes = forty
    cache = FrameCache(tmp_path / "frames", root, CITYSCAPES)

    def die(_):
        os.kill(os.getpid(), signal.SIGKILL)

    def fill_and_die():
        frames.os.fsync = die
        cache.fill(pairs, sizes)

    builder = FORK.Process(target=fill_and_die)
    builder.start()
    builder.join()
    assert builder.exitcode == -signal.SIGKILL
    assert list(cache.directory.glob(".*.tmp"))
    assert not list(cache.directory.glob("*.frame"))
    cache.fill(pairs, sizes)
    assert_correct(cache, pairs)


@pytest.mark.parametrize("processes", [2, 3])
def test_several_at_once_end_in_one_correct_cache(forty, tmp_path, processes):
    root, pairs, sizes = forty
    cache, results = FrameCache(tmp_path / "frames", root, CITYSCAPES), FORK.Queue()
    builders = [FORK.Process(target=fill, args=(cache, pairs, sizes, results)) for _ in range(processes)]
    for builder in builders:
        builder.start()
    assert [results.get(timeout=60) for _ in builders] == [""] * processes
    for builder in builders:
        builder.join()
    assert_correct(cache, pairs)


def test_one_waits_for_the_other_and_does_nothing_twice(forty, tmp_path, caplog):
    root, pairs, sizes = forty
    cache = FrameCache(tmp_path / "frames", root, CITYSCAPES)
    builder = FORK.Process(target=fill, args=(cache, pairs, sizes))
    builder.start()
    while not list(cache.directory.glob("*.frame")):
        time.sleep(0.001)
    early = {path: path.stat().st_ino for path in cache.directory.glob("*.frame")}
    with caplog.at_level("INFO"):
        cache.fill(pairs, sizes)
    builder.join()
    assert builder.exitcode == 0
    assert "waiting" in caplog.text
    assert "Caching" not in caplog.text
    assert {path: path.stat().st_ino for path in early} == early
    assert_correct(cache, pairs)


# ---- memory of the workers


def sparse_cityscapes(folder, count=2975, size=(1024, 2048)):
    """The frames of full-size Cityscapes without their pixels, which read as zeros and take no room."""
    cache = FrameCache(folder, folder, CITYSCAPES)
    pairs = [Pair(f"city_{index:06d}_000019", folder / f"{index}.png", None) for index in range(count)]
    header = frames._Header(Origin((0,) * 5), 0, *size, 0).pack()
    for pair in pairs:
        path = cache.path(pair)
        path.write_bytes(header)
        os.truncate(path, frame_bytes(size))
    return cache, pairs


def private_megabytes(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    fields = dict(line.split(":") for line in lines if line.startswith("Private_"))
    return sum(int(value.split()[0]) for value in fields.values()) / 1024


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_a_worker_takes_less_than_200_megabytes_of_its_own(tmp_path):
    cache, pairs = sparse_cityscapes(tmp_path)
    transform = SeededTransform([RandomScaledCrop((512, 1024), max_category_ratio=1)], seed=0)
    dataset = SegmentationDataset(pairs, CITYSCAPES, transform, cache.read)
    keys = [(0, index) for index in range(8 * 16 * 4)]
    loader = DataLoader(dataset, sampler=keys, batch_size=16, num_workers=8, persistent_workers=True)
    iterator = iter(loader)
    most = 0.0
    for _ in range(len(loader)):
        next(iterator)
        most = max(most, *(private_megabytes(worker.pid) for worker in iterator._workers))
    print(f"most private memory of a worker: {most:.0f} MB")
    assert most < 200
