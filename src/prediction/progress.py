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
        self._begun: float | None = None  # when the first image was predicted, which may compile the network
        self._said = self._last = time.monotonic()
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

    def begin(self) -> None:
        """The first image is predicted. Later calls are ignored."""
        self._begun = self._begun or time.monotonic()

    @property
    def per_second(self) -> float | None:
        """Images per second after the first one, until the last one was written; None before that."""
        if self._images < 2 or self._begun is None:
            return None
        return (self._images - 1) / (self._last - self._begun)

    def step(self) -> None:
        """One more image is written."""
        self._images += 1
        self._last = time.monotonic()
        rate = "" if self.per_second is None else f"{self.per_second:.3g} images/s"
        if self._bar:
            self._bar.update(self._task, advance=1, rate=rate)
        elif self._last - self._said >= _BETWEEN:
            self._said = self._last
            log.info("%d of %s images, %s", self._images, self._total or "unknown", rate)

    def skip(self) -> None:
        """One image is left out."""
        if self._bar:
            self._bar.update(self._task, advance=1)

    def close(self) -> None:
        if self._bar:
            self._bar.stop()
