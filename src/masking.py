"""Secrets that a run's files must not keep: passwords, tokens and keys, wherever they come from.

They are recognised by the name of the key that has them, by the name of an environment variable with the same
value, or by their place in a URL.
"""

import os
import re
from typing import Any

SECRET_NAME = re.compile(
    r"(?:\w*_)?(?:token|secret|password|passwd|passphrase|credentials?|(?:api|access|secret|private)_?key)",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(
    r"(?:\w*_)?(?:token|secret|password|passwd|passphrase|pass|pat|credentials?|api_?key|key)(?:_\w+)?",
    re.IGNORECASE,
)
_SHORTEST = 6  # letters of a variable's value: a shorter one would also be found within ordinary words
_QUOTED = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_SECRET_VALUE = re.compile(
    rf"(\b{SECRET_NAME.pattern}['\"]?\s*[=:]\s*)(?!(?:true|false|null)(?:[\s,}}\]]|$))(?:{_QUOTED}|[^\s,}}]+)",
    re.IGNORECASE,
)
_IN_URL = re.compile(  # postgresql://user:password@host, https://token@host, https://host?token=...
    r"(\w://[^\s/:@]*:)[^\s/@]+(?=@)|(\w://)[^\s/:@]{12,}(?=@)"
    r"|([?&][\w.-]*(?:token|secret|password|signature|sig|credential|key)[\w.-]*=)[^\s&#]+",
    re.IGNORECASE,
)


def hide_secrets(text: str) -> str:
    """A text, such as an override, with *** for what is secret in it."""
    return _masked(_SECRET_VALUE.sub(r"\1***", text), "***")


def without_secrets(config: Any) -> Any:
    """A copy of a config with `???` for secrets: whoever repeats the run has to give them again."""
    if isinstance(config, list):
        return [without_secrets(entry) for entry in config]
    if isinstance(config, str):
        return _masked(config, "???")
    if not isinstance(config, dict):
        return config
    return {
        key: "???"
        if isinstance(value, str | int) and not isinstance(value, bool) and SECRET_NAME.fullmatch(str(key))
        else without_secrets(value)
        for key, value in config.items()
    }


def _masked(text: str, mask: str) -> str:
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and value in text and _SECRET_VARIABLE.fullmatch(name):
            text = text.replace(value, mask)
    return _IN_URL.sub(lambda found: "".join(filter(None, found.groups())) + mask, text)
