"""What this program has said: its warnings, for the report; all of it, for a log that is opened later."""

import logging
from logging.handlers import MemoryHandler


class KeptWarnings(logging.Handler):
    """Keeps the texts of our own warnings, each once; those of libraries are advice to programmers."""

    texts: list[str] = []  # noqa: RUF012  of the process: a report asks for them far from where they are kept

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts.clear()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.name.startswith("src.") and text not in self.texts:
            self.texts.append(text)


class Early(MemoryHandler):
    """Keeps what is said until `hand_over`: by then every check has passed, and there is a log for it."""

    def __init__(self) -> None:
        super().__init__(capacity=10_000, flushLevel=logging.CRITICAL + 1)


def hand_over(log: logging.Handler) -> None:
    """Give a new log what was said before, and all that will be; but none of Lightning's advertisements."""
    log.addFilter(lambda record: not record.getMessage().startswith("\N{ELECTRIC LIGHT BULB} Tip"))
    root = logging.getLogger()
    for early in [handler for handler in root.handlers if isinstance(handler, Early)]:
        root.removeHandler(early)
        early.setTarget(log)
        early.close()  # which flushes
    root.addHandler(log)
