"""How large a process is, and how large it becomes at the peak of a call; on Linux alone."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def resident() -> int | None:
    """Bytes of memory that the process has now; None where the system does not tell."""
    return _bytes("VmRSS")


def peak_of(call: Callable[[], object]) -> int | None:
    """Bytes of memory that the process has at the peak of the call; None where the system does not tell."""
    with suppress(OSError):
        _RESET.write_text("5")  # the peak becomes the present size (man 5 proc)
        call()
        return _bytes("VmHWM")
    return None


def _bytes(name: str) -> int | None:
    with suppress(OSError):
        if match := re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.M):
            return 1024 * int(match[1])
    return None
