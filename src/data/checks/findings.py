"""The findings of a check: a line of text each, with a level."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["remark", "error"]
"""error: training would not work. remark: it would work, but the reader should know about it."""


@dataclass(frozen=True)
class Finding:
    level: Level
    kind: str  # a few words that several findings share, such as "truncated or damaged file"
    text: str  # names the file or key, what was found, and the fix
