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
    """Facts and findings of the sections, in the order in which they were added."""

    facts: dict[str, dict[str, Any]] = field(default_factory=lambda: {name: {} for name in SECTIONS})
    findings: dict[str, list[Finding]] = field(default_factory=lambda: {name: [] for name in SECTIONS})
    _said: set[str] = field(default_factory=set, repr=False)

    def fact(self, section: str, name: str, value: Any) -> None:
        self.facts[section][name] = printable(value) if isinstance(value, str) else value

    def add(self, section: str, level: Level, kind: str, text: str) -> None:
        """Add a finding, but the same text only once: several checks may find the same problem."""
        text = printable(text)  # it may contain any file name
        if text not in self._said:
            self._said.add(text)
            self.findings[section].append(Finding(level, kind, text))

    def count(self, level: Level, section: str | None = None) -> int:
        sections = [section] if section else SECTIONS
        return sum(finding.level == level for name in sections for finding in self.findings[name])

    @contextmanager
    def trying(self, section: str, kind: str) -> Iterator[None]:
        """Note an error that the user can fix as an error of the section, and continue the examination."""
        try:
            yield
        except USER_ERRORS as problem:
            self.add(section, "error", kind, for_the_user(problem, "doctor").text)
