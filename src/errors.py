"""The one kind of error that the user can fix. A front door prints its text and exits with its code."""

from collections.abc import Sequence
from typing import Any


class UserError(Exception):
    """Something outside the program is wrong: a file, a value, a machine.

    The text names the file or key, what was found, what was expected and the fix; it is shown without a
    traceback. An error in a DataLoader worker reaches the main process with its formatted traceback as its
    message; `text` extracts the original message from it.
    """

    exit_code = 2
    _WORKER = "Original Traceback"

    @property
    def text(self) -> str:
        message = str(self)
        if self._WORKER in message:
            message = message.rpartition(f"{type(self).__name__}: ")[2].strip()
        return printable(message)


class IncompleteError(UserError):
    """The command has done what it could, and left out what it named before."""

    exit_code = 1


ASK_THE_DOCTOR = "python -m src.doctor with the same keys reads every file and names all that are bad."


def printable(text: str) -> str:
    """A text for logs and reports: bytes of file names that are not UTF-8, which they refuse, are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def counted(number: int, noun: str) -> str:
    """ "1 device", "2 devices"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def brief(value: Any, length: int = 80) -> str:
    """The repr of a value on one line, cut off if it is long."""
    text = " ".join(repr(value).split("\n"))
    return text if len(text) <= length else f"{text[:length]}..."


def shorten(lines: Sequence[str], shown: int = 5) -> str:
    """The first lines of a list, and how many more there are."""
    more = [f"... and {len(lines) - shown} more"] if len(lines) > shown else []
    return "\n".join([*lines[:shown], *more])
