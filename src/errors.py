"""The one kind of error that is the user's to fix. A front door prints its text and exits with code 2."""

from collections.abc import Sequence
from typing import Any


class UserError(Exception):
    """Something outside the program is wrong: a file, a value, a machine.

    The text names the file or key, what was found, what was expected and the fix; it is shown without a
    traceback. A DataLoader worker's error reaches the main process re-made from its formatted traceback, so
    `text` cuts the message back out.
    """

    _WORKER = "Original Traceback"

    @property
    def text(self) -> str:
        message = str(self)
        if self._WORKER in message:
            message = message.rpartition(f"{type(self).__name__}: ")[2].strip()
        return printable(message)


ASK_THE_DOCTOR = "python -m src.doctor with the same keys reads every file and names all that are bad."


def printable(text: str) -> str:
    """Names of files may have bytes that are no UTF-8; no log or report takes what Python makes of them."""
    return text.encode("utf-8", "backslashreplace").decode()


def counted(number: int, noun: str) -> str:
    """ "1 device", "2 devices"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def brief(value: Any, length: int = 80) -> str:
    """How Python writes a value, in one line, cut off where that is long."""
    text = " ".join(repr(value).split("\n"))
    return text if len(text) <= length else f"{text[:length]}..."


def shorten(lines: Sequence[str], shown: int = 5) -> str:
    """The first lines of a list, and how many more there are."""
    more = [f"... and {len(lines) - shown} more"] if len(lines) > shown else []
    return "\n".join([*lines[:shown], *more])
