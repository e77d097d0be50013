"""How many threads: the cores that this process may run on, or fewer for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from symgraph.backends.cpu.onednn import library


def usable_cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def library_threads(count: int) -> Iterator[None]:
    """Let oneDNN plan and run with so many threads when this thread calls it."""
    openmp = None if library.status().problem else library.load().openmp
    if openmp is None:
        yield
        return
    before = openmp.threads()
    openmp.set_threads(count)
    try:
        yield
    finally:
        openmp.set_threads(before)
