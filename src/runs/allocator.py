"""The C library's memory allocator, for networks on CPUs."""

import ctypes
import sys
from typing import Any

# mallopt(3), malloc.h of glibc
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER, _STEP = 2**31 - 1, 2**26


def keep_freed_memory() -> bool:
    """From now on this process keeps the memory that it frees, for its next tensors. Returns whether it will.

    By default glibc gives large tensors back to the system as soon as they are freed, and the system clears
    every page of the next one: a fifth of the time of CGNet's inference on two cores. Without glibc nothing
    changes.
    """
    mallopt = _function("mallopt")
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _STEP}
    return mallopt is not None and all(list(map(mallopt, settings.keys(), settings.values())))


def give_back_freed_memory() -> None:
    """What this process has kept so far goes back to the system."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Any:
    """Of glibc; None with another C library."""
    if sys.platform != "linux":
        return None
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
