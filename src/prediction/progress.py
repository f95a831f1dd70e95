"""How far a prediction is: a bar on a terminal, lines in a log."""

import logging
import sys
import time

import rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)
_BETWEEN = 30  # seconds from one line in a log to the next


class Rate:
    """Counts images, and shows how many there are and how many a second.

    Args:
        total: 0 if it is unknown.
    """

    def __init__(self, total: int):
        self._total = total
        self._images = 0
        self._first = self._said = time.monotonic()
        self._bar: Progress | None = None
        if sys.stdout.isatty():
            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=rich.get_console())
            self._task = self._bar.add_task("", total=total or None, rate="")
            self._bar.start()

    @property
    def per_second(self) -> float | None:
        """Images per second since the first one, which may have compiled the network; None at first."""
        passed = time.monotonic() - self._first
        return (self._images - 1) / passed if self._images > 1 and passed else None

    def step(self) -> None:
        """One more image."""
        self._images += 1
        now = time.monotonic()
        if self._images == 1:
            self._first = now
        rate = "" if self.per_second is None else f"{self.per_second:.3g} images/s"
        if self._bar:
            self._bar.update(self._task, advance=1, rate=rate)
        elif now - self._said >= _BETWEEN:
            self._said = now
            log.info("%d of %s images, %s", self._images, self._total or "unknown", rate)

    def close(self) -> None:
        if self._bar:
            self._bar.stop()
