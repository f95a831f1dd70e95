"""Root passes over every permission; for a while it does not."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from src.data import parallel

_VERSION = 0x20080522  # of the system calls' structures; see capget(2)
_PASS_OVER = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextmanager
def permissions_count(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Also for root, in this thread and in those that it starts."""
    if os.geteuid() != 0:
        yield
        return
    libc, sets = ctypes.CDLL(None, use_errno=True), (_Sets * 2)()
    header = _Header(_VERSION, 0)
    if libc.capget(ctypes.byref(header), sets):
        pytest.skip("this system has no capabilities")
    before = sets[0].effective
    with monkeypatch.context() as changed:
        changed.setattr(parallel, "_pools", {})  # those that run already keep what they had
        sets[0].effective = before & ~_PASS_OVER
        if libc.capset(ctypes.byref(header), sets):
            pytest.skip("this system does not let root give up a capability")
        try:
            yield
        finally:
            sets[0].effective = before
            assert libc.capset(ctypes.byref(header), sets) == 0
