"""Work on many files: in order, stopped by an error, on threads that stay."""

import threading
import time

import pytest

from src.data.parallel import parallel_map


def test_results_come_in_order_from_threads_that_stay():
    def who(number):
        time.sleep(0.002 * (number % 3))
        return number, threading.current_thread().name

    first, second = (list(parallel_map(who, range(40), threads=3)) for _ in range(2))
    assert [number for number, _ in first] == list(range(40))
    assert {name for _, name in second} <= {name for _, name in first}
    alive = {thread.name for thread in threading.enumerate()}
    assert {name for _, name in first} <= alive, "one that ends may hold a lock when data workers are forked"


def test_nothing_is_begun_after_an_error_and_nothing_still_runs():
    begun, ended = [], []

    def fail(number):
        begun.append(number)
        time.sleep(0.01)
        ended.append(number)
        if number == 1:
            raise ValueError("the second")
        return number

    with pytest.raises(ValueError, match="the second"):
        list(parallel_map(fail, range(1000), threads=2))
    assert len(begun) < 20
    assert sorted(begun) == sorted(ended)


def test_whoever_has_enough_ends_it():
    begun = []
    results = parallel_map(lambda number: begun.append(number) or time.sleep(0.01), range(1000), threads=2)
    next(results)
    results.close()
    assert len(begun) < 20
