"""How many threads: the setting `threads`, else one for each core that this process may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from symgraph.backends.cpu.onednn import library
from symgraph.config import config, usable_cores


def thread_count(wanted: int | None = None) -> int:
    """Give how many threads a step may have: those wanted, else the setting, else the cores."""
    chosen: int | None = config.pick("threads", wanted)
    return usable_cores() if chosen is None else chosen


def library_default() -> int:
    """Tell how many threads oneDNN plans and runs with when this thread calls it; 0 without it."""
    openmp = None if library.status().problem else library.load().openmp
    return 0 if openmp is None else openmp.threads()


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
