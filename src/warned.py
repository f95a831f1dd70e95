"""What this program has warned of since it started, for the report."""

import logging


class Warned(logging.Handler):
    """Keeps the texts of our own warnings, each once; those of libraries are advice to programmers."""

    texts: list[str] = []  # noqa: RUF012  of the process: a report asks for them far from where they are kept

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts.clear()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.name.startswith("src.") and text not in self.texts:
            self.texts.append(text)
