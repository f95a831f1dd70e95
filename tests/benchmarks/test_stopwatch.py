"""The stopwatch, with a clock that tells the time it is told."""

import os
import time

import cv2
import pytest
import torch

from src.benchmarks.one_core import one_core
from src.benchmarks.stopwatch import Stopwatch, replaced, spread


class _Clock:
    now = 0.0

    def perf_counter(self):
        return self.now

    def spend(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = _Clock()
    monkeypatch.setattr(time, "perf_counter", clock.perf_counter)
    return clock


def test_a_part_within_a_part_is_not_counted_twice(clock):
    watch = Stopwatch()
    read = watch.timed("read", lambda: clock.spend(2))

    def decode():
        clock.spend(1)
        read()
        clock.spend(4)

    with watch.running():
        clock.spend(8)
        watch.timed("decode", decode)()
        clock.spend(16)
    assert watch.take() == {"read": 2, "decode": 5, "other": 24}
    assert watch.take() == {}


def test_time_does_not_count_while_the_watch_stands(clock):
    watch = Stopwatch()
    timed = watch.timed("read", lambda: clock.spend(1))
    timed()
    with watch.running():
        pass
    timed()
    assert watch.take() == {"other": 0}


def test_an_error_ends_its_part(clock):
    watch = Stopwatch()

    def fail():
        clock.spend(1)
        raise KeyError

    with watch.running():
        with pytest.raises(KeyError):
            watch.timed("read", fail)()
        clock.spend(2)
    assert watch.take() == {"read": 1, "other": 2}


def test_what_is_replaced_comes_back():
    class Product:
        def method(self):
            return 1

    product, original = Product(), Product.method
    with replaced(product, "method", lambda method: lambda: method() + 1):
        assert product.method() == 2
    assert "method" not in vars(product)
    with (
        pytest.raises(ZeroDivisionError),
        replaced(Product, "method", lambda method: lambda self: 1 / 0),
    ):
        product.method()
    assert Product.method is original


def test_spread_is_median_and_quartiles():
    assert spread([1, 2, 3, 4, 100]) == {"q1": 2, "median": 3, "q3": 4}


def test_one_core_is_given_back():
    before = os.sched_getaffinity(0), cv2.getNumThreads(), torch.get_num_threads()
    with one_core() as core:
        assert os.sched_getaffinity(0) == {core}
        assert torch.get_num_threads() == 1
    assert (os.sched_getaffinity(0), cv2.getNumThreads(), torch.get_num_threads()) == before
