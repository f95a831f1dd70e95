"""Work on many files with all cores, with a sign of life."""

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

    Threads will do: reading, decoding, checksums and writing release the GIL. What the function raises is
    raised here, and nothing more is begun. With a `text` the progress is shown under it. Not from within
    `function`, which would wait for a thread of its own pool.
    """
    waiting = deque(_pool(threads or usable_cores()).submit(function, item) for item in items)

    def results() -> Iterator[Result]:
        while waiting:
            yield waiting[0].result()
            waiting.popleft()  # its result is not kept

    try:
        yield from progress(results(), len(items), text) if text else results()
    finally:
        for future in waiting:
            future.cancel()
        wait(waiting)


def _pool(threads: int) -> ThreadPoolExecutor:
    """The process's own, whose threads stay. A thread that ends gives back what OpenCV keeps for it, under a
    lock, after Python takes it for ended; data workers that are forked in that moment wait for the lock for
    ever."""
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
