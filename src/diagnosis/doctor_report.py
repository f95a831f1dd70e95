"""The report of what the doctor found, as text for people and as JSON for programs."""

import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from src.data.checks.findings import Finding
from src.diagnosis.dataset_statistics import Statistics
from src.diagnosis.notes import SECTIONS, Notes
from src.runs.atomic_files import write_json, write_text

_STYLES = {"error": "bold red", "remark": "yellow", "title": "bold", "": ""}
_SHOWN = 20  # findings of a kind on the terminal; report.txt has all
Line = tuple[str, str]
"""style, text"""


def verdict(notes: Notes) -> str:
    """The last sentence of the report, without the next command."""
    errors, remarks = notes.count("error"), notes.count("remark")
    if not errors:
        return f"Training would work: no error, {_number(remarks, 'remark')}."
    kinds = dict.fromkeys(
        finding.kind for name in SECTIONS for finding in notes.findings[name] if finding.level == "error"
    )
    return f"Training would not work: {_number(errors, 'error')} ({', '.join(kinds)})."


def lines(notes: Notes, statistics: Statistics, shown: int | None = None) -> Iterator[Line]:
    """The report, with at most `shown` findings of a kind."""
    for section in SECTIONS:
        yield "title", f"{section.capitalize()}"
        width = max((len(name) for name in notes.facts[section]), default=0)
        for name, value in notes.facts[section].items():
            yield "", f"  {name:<{width}}  {value}"
        for (level, kind), findings in _by_kind(notes.findings[section]).items():
            yield level, f"  {level.upper() if level == 'error' else level}: {kind} ({len(findings)})"
            for finding in findings[:shown]:
                for number, line in enumerate(finding.text.splitlines()):
                    yield "", f"    {'- ' if number == 0 else '  '}{line}"
            if shown and len(findings) > shown:
                yield "", f"    ... and {len(findings) - shown} more, all of them in report.txt"
        yield "", ""
    if statistics:
        yield "title", "Statistics of the files that could be read"
        yield from (("", line) for line in _statistics(statistics))
        yield "", ""


def write_report(notes: Notes, statistics: Statistics, directory: Path, command: str) -> None:
    text = [line for _, line in lines(notes, statistics)]
    write_text(directory / "report.txt", "\n".join([*text, verdict(notes), f"Next: {command}", ""]))
    content: dict[str, Any] = {"training_would_work": not notes.count("error"), "verdict": verdict(notes)}
    for section in SECTIONS:
        findings = [asdict(finding) for finding in notes.findings[section]]
        content[section] = {"facts": notes.facts[section], "findings": findings}
    write_json(directory / "doctor.json", content | {"statistics": statistics, "training_command": command})


def show(notes: Notes, statistics: Statistics) -> None:
    """Print the report: with colours on a terminal, otherwise as plain text."""
    from rich import get_console
    from rich.text import Text

    console = get_console()
    for style, line in lines(notes, statistics, _SHOWN):
        indent = " " * (len(line) - len(line.lstrip(" -")) + 2)
        width = console.width if console.is_terminal else 10**6  # paths in a log stay in one piece
        wrapped = textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        for part in wrapped or [""]:
            console.print(Text(part, style=_STYLES[style]), soft_wrap=True)


def _by_kind(findings: list[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """Errors first, otherwise in the order in which they were added."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: finding.level != "error"):
        groups.setdefault((finding.level, finding.kind), []).append(finding)
    return groups


def _statistics(statistics: Statistics) -> Iterator[str]:
    titles = {
        "mean": "mean of red, green, blue",
        "std": "standard deviation",
        "configured_mean": "mean in the config",
    }
    for key, title in titles.items():
        if key in statistics:
            yield f"  {title:<24}" + "".join(f"  {value:7.2f}" for value in statistics[key])
    if "classes" not in statistics:
        return
    width = max(len(name) for name in statistics["classes"])
    yield ""
    yield f"  {'class':<{width}}  {'train %':>8}  {'val %':>8}  {'weight':>7}  {'in the config':>13}"
    for name, entry in statistics["classes"].items():
        own = entry["configured_weight"]
        yield (
            f"  {name:<{width}}  {100 * entry['train_share']:8.3f}  {100 * entry['val_share']:8.3f}  "
            f"{entry['weight']:7.3f}  {'-' if own is None else f'{own:.3f}':>13}"
        )


def _number(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
