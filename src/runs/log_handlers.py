"""Keeps log messages: our warnings for the report, and early messages for a log that is opened later."""

import logging
from logging.handlers import MemoryHandler


class KeptWarnings(logging.Handler):
    """Keeps the texts of our own warnings, each once; not those of libraries, which address programmers."""

    texts: list[str] = []  # noqa: RUF012  one list per process: the report has no access to the handler

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts.clear()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.name.startswith("src.") and text not in self.texts:
            self.texts.append(text)


class Early(MemoryHandler):
    """Keeps all messages until `hand_over`, when every check has passed and the run has a log."""

    def __init__(self) -> None:
        super().__init__(capacity=10_000, flushLevel=logging.CRITICAL + 1)


def hand_over(log: logging.Handler) -> None:
    """Give a new log the messages so far and all later ones, except Lightning's advertisements."""
    log.addFilter(lambda record: not record.getMessage().startswith("\N{ELECTRIC LIGHT BULB} Tip"))
    root = logging.getLogger()
    for early in [handler for handler in root.handlers if isinstance(handler, Early)]:
        root.removeHandler(early)
        early.setTarget(log)
        early.close()  # which flushes
    root.addHandler(log)
