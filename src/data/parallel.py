"""Work on many files with all cores, with a sign of life."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from src.machine import usable_cores

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], text: str = "", threads: int | None = None
) -> Iterator[Result]:
    """function(item) for each item, in their order, on as many threads as there are cores.

    Threads will do: reading, decoding, checksums and writing release the GIL. What the function raises is
    raised here, and nothing more is begun. With a `text` the progress is shown under it.
    """
    pool = ThreadPoolExecutor(threads or usable_cores())
    try:
        results = pool.map(function, items)
        yield from progress(results, len(items), text) if text else results
    finally:
        pool.shutdown(cancel_futures=True)


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
