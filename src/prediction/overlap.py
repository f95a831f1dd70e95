"""Reading, computing and writing at the same time, with few images in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    pool: Executor, read: Callable[[Item], Result], items: Iterable[Item], depth: Callable[[], int]
) -> Iterator[tuple[Item, Result]]:
    """Each item with what `read` returns, in order; `depth()` of them are read in the pool before they are
    asked for. An exception of `read` is raised here."""
    remaining = iter(items)
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        while True:
            while len(waiting) < depth() and (item := next(remaining, None)) is not None:
                waiting.append((item, pool.submit(read, item)))
            if not waiting:
                return
            item, future = waiting.popleft()
            result = future.result()
            del future  # it would keep the result in memory
            yield item, result
            del result
    finally:
        for _, future in waiting:
            future.cancel()
