"""The C library's memory allocator, for networks on CPUs."""

import ctypes
import sys

# mallopt(3), malloc.h of glibc
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER, _STEP = 2**31 - 1, 2**26


def keep_freed_memory() -> bool:
    """From now on this process keeps the memory that it frees, for its next tensors. Returns whether it will.

    By default glibc gives large tensors back to the system as soon as they are freed, and the system clears
    every page of the next one: a fifth of the time of CGNet's inference on two cores. Without glibc nothing
    changes.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _STEP}
    return all(list(map(mallopt, settings.keys(), settings.values())))
