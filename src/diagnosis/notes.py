"""What the doctor has found so far, by section."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from src.config import USER_ERRORS, for_the_user
from src.data.checks.findings import Finding, Level
from src.errors import printable

MACHINE, CONFIG, DATASET = SECTIONS = ("machine", "config", "dataset")


@dataclass
class Notes:
    """Facts and findings of the sections, in the order in which they came."""

    facts: dict[str, dict[str, Any]] = field(default_factory=lambda: {name: {} for name in SECTIONS})
    findings: dict[str, list[Finding]] = field(default_factory=lambda: {name: [] for name in SECTIONS})
    _said: set[str] = field(default_factory=set, repr=False)

    def fact(self, section: str, name: str, value: Any) -> None:
        self.facts[section][name] = printable(value) if isinstance(value, str) else value

    def add(self, section: str, level: Level, kind: str, text: str) -> None:
        """Once: several checks may meet the same problem."""
        text = printable(text)  # it may name any file
        if text not in self._said:
            self._said.add(text)
            self.findings[section].append(Finding(level, kind, text))

    def count(self, level: Level, section: str | None = None) -> int:
        sections = [section] if section else SECTIONS
        return sum(finding.level == level for name in sections for finding in self.findings[name])

    @contextmanager
    def trying(self, section: str, kind: str) -> Iterator[None]:
        """What the user has to mend becomes an error of the section, and the examination continues."""
        try:
            yield
        except USER_ERRORS as problem:
            self.add(section, "error", kind, for_the_user(problem, "doctor").text)
