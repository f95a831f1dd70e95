"""Processes many files on all cores, and shows the progress."""

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from src.runs.machine import usable_cores

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], text: str = "", threads: int | None = None
) -> Iterator[Result]:
    """function(item) for each item, in their order, on as many threads as there are cores.

    Threads are enough, because reading, decoding, checksums and writing release the GIL. An exception in
    `function` is raised here, and no further item is started. If `text` is given, a progress bar with this
    title is shown. `function` must not call `parallel_map`: it would wait for a thread of its own pool.
    """
    waiting = deque(_pool(threads or usable_cores()).submit(function, item) for item in items)

    def results() -> Iterator[Result]:
        while waiting:
            yield waiting[0].result()
            waiting.popleft()  # do not keep its result in memory

    try:
        yield from progress(results(), len(items), text) if text else results()
    finally:
        for future in waiting:
            future.cancel()
        wait(waiting)


def _pool(threads: int) -> ThreadPoolExecutor:
    """The thread pool of this process, whose threads never end. A thread that ends frees its OpenCV data
    under a lock, after Python considers it ended. A data worker that is forked at that moment would wait for
    the lock forever."""
    key = (os.getpid(), threads)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads)
    return _pools[key]


def progress(items: Iterable[Item], total: int, text: str) -> Iterator[Item]:
    """The items, with a bar on a terminal and a line every quarter in a log."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(items, text, total, console=Console(stderr=True), transient=True)
        return
    for done, item in enumerate(items, 1):
        yield item
        if done * 4 // total > (done - 1) * 4 // total:
            log.info("%s: %d of %d", text, done, total)
