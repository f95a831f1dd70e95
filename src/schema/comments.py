"""What the comments of conf/ say about each key; its meaning is written nowhere else."""

import re
from functools import cache
from pathlib import Path

from src.config import CONF_DIR

_VALUE = r"(?:\s+(?:'[^']*'|\"[^\"]*\"|[^#'\"]|(?<=\S)#)*)?"  # a # within a word begins no comment
_LINE = re.compile(rf"(?P<indent> *)(?P<key>[\w-]+):(?P<value>{_VALUE})(?P<comment>#.*)?$")
_COMMENT = re.compile(r"(?P<indent> *)#(?P<text>.*)$")


def meaning(key: str, task: str = "") -> str:
    """The first sentence of the comment beside a key, or above it; empty if there is none.

    Args:
        task: whose config is looked at before those of the others.
    """
    group, _, inner = key.partition(".")
    places = [(path, inner) for path in sorted((CONF_DIR / group).glob("*.yaml"))] if inner else []
    tasks = sorted(CONF_DIR.glob("*.yaml"), key=lambda path: (path.stem != task, path))
    places += [(path, key) for path in tasks]
    found = next((text for path, name in places if (text := comments(path).get(name))), "")
    return found.partition(". ")[0].removesuffix(".")


@cache
def comments(path: Path) -> dict[str, str]:
    """The comments of a file by key, "" for the file itself: the comment above a key, then the one beside it,
    which may continue on the lines below in the same column."""
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    above: list[str] = []
    last, column = "", -1
    for line in path.read_text(encoding="utf-8").splitlines():
        if alone := _COMMENT.fullmatch(line):
            if last and len(alone["indent"]) == column:
                found[last] += " " + alone["text"].strip()
            elif not alone["text"].strip().startswith("@package"):
                above.append(alone["text"].strip())
            continue
        match = _LINE.fullmatch(line)
        if not match:
            continue
        if not parents:
            found[""], above = " ".join(above), []
        indent = len(match["indent"])
        parents = [(at, name) for at, name in parents if at < indent]
        key = ".".join([*(name for _, name in parents), match["key"]])
        parents.append((indent, match["key"]))
        beside = (match["comment"] or "").lstrip("# ").strip()
        last, column = (key, match.start("comment")) if beside else ("", -1)
        if above or beside:
            found[key] = " ".join(filter(None, [*above, beside]))
        above = []
    return found
