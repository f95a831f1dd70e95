"""What an examination finds: a line each, with how much it matters."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["remark", "error"]
"""error: training would not work. remark: it would; the reader should know all the same."""


@dataclass(frozen=True)
class Finding:
    level: Level
    kind: str  # a few words that several findings share, such as "truncated or damaged file"
    text: str  # names the file or key, what was found, and the fix
