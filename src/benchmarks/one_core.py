"""A process on one core, as one data worker has it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch


@contextmanager
def one_core() -> Iterator[int | None]:
    """This thread on the last core that it may use, OpenCV and PyTorch without threads of their own.

    Yields the core's number; None where the system knows no affinity (macOS): there the scheduler may move
    the thread, but one core is all it uses. Everything is restored.
    """
    threads = cv2.getNumThreads(), torch.get_num_threads()
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    core = max(allowed, default=None)  # most systems give interrupts to the first
    try:
        if core is not None:
            os.sched_setaffinity(0, {core})
        cv2.setNumThreads(0)
        torch.set_num_threads(1)
        yield core
    finally:
        if allowed:
            os.sched_setaffinity(0, allowed)
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
