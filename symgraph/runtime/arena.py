"""One region of memory for all buffers of a bound plan: aligned, in huge pages, given back at once.

A region of its own, and not of the allocator, because the allocator keeps what is freed, and
because Linux gives pages of 2 MiB (fewer misses of the address cache, fewer faults) only to aligned
regions that ask for them.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from symgraph.cost.limit import memory_limit, too_large
from symgraph.cost.units import number_text
from symgraph.errors import ArgumentError, MemoryLimitError

HUGE = 2 << 20  # bytes of a huge page on x86-64, and the alignment of every arena

LINE = 64  # bytes: a line of the cache
_NOTHING = np.empty(0, np.uint8)


class Arena:
    """A growing region of zeroed memory; arrays in it keep it alive.

    Pages are taken from the system when they are first written to. An arena belongs to one bound
    plan, whose lock protects it.
    """

    def __init__(self) -> None:
        self._bytes: NDArray[np.uint8] = _NOTHING

    @property
    def size(self) -> int:
        """The bytes that views may use: at least as many as were reserved."""
        return self._bytes.size

    @property
    def address(self) -> int:
        """Where the first byte is, a multiple of `HUGE`; 0 without memory."""
        return int(self._bytes.ctypes.data) if self.size else 0

    def reserve(self, size: int) -> bool:
        """Make room for `size` bytes; true if the arena moved, which loses what it held.

        The old region goes back to the system before the new one is made, unless a view of it is
        still there. Raises `ArgumentError` for a negative size and `MemoryLimitError` for one above
        the limit, where nothing changes, or that the system refuses: the arena is then empty.
        """
        if size < 0:
            raise ArgumentError(f"arena: cannot reserve {size} bytes.", fix="size >= 0")
        if size <= self.size:
            return False
        limit = memory_limit()
        if size > limit:
            raise too_large("arena", size, limit)
        self.close()
        try:
            self._bytes = _map(size)
        except (OSError, OverflowError) as problem:
            raise MemoryLimitError(
                f"arena: the system gives no memory: {problem}.",
                details=_numbers(size, limit),
                fix="close other programs, or compute less",
            ) from problem
        return True

    def view(
        self,
        offset: int,
        shape: Sequence[int],
        dtype: DTypeLike,
        strides: Sequence[int] | None = None,
    ) -> NDArray[np.generic]:
        """Give the array that starts at byte `offset`; strides are in bytes, by default plain.

        Raises `ArgumentError` if it does not lie within the arena, or holds Python objects.
        """
        kind = np.dtype(dtype)
        if kind.hasobject:  # NumPy would take zeros for pointers
            raise ArgumentError(
                "arena: Python objects are not kept here.", fix="a dtype of numbers"
            )
        if 0 <= offset <= self.size and min(shape, default=0) >= 0:
            steps = None if strides is None else tuple(strides)
            try:
                return np.ndarray(tuple(shape), kind, self._bytes, offset, steps)
            except (TypeError, ValueError):  # NumPy's words for out of bounds
                pass
        raise ArgumentError(
            f"arena: {kind}{list(shape)} at byte {offset}"
            + (f" with strides {list(strides)}" if strides is not None else "")
            + f" does not lie within its {self.size} bytes.",
            fix="reserve as many bytes as the plan has",
        )

    def close(self) -> None:
        """Give the memory back, at once or with the last view of it; the arena may grow again."""
        self._bytes = _NOTHING

    def resident_bytes(self) -> int:
        """Count the bytes of pages that are in memory, because something was written to them.

        Raises `OSError` where the system does not tell.
        """
        if not self.size:
            return 0
        if sys.platform == "win32":
            raise OSError("arena: this system does not tell which pages are in memory")
        page = mmap.PAGESIZE
        states = np.zeros(_round(self.size, page) // page, np.uint8)
        mincore = ctypes.CDLL(None, use_errno=True).mincore
        mincore.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p
        if mincore(self.address, self.size, states.ctypes.data) != 0:
            raise OSError(ctypes.get_errno(), "arena: mincore failed")
        return page * int((states & 1).sum())


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """Copy an array to where vectors do not cross lines of the cache; a large one to huge pages.

    NumPy's own large arrays begin 16 bytes after a line, so that every wide load and store would
    touch two lines.
    """
    made = room(array.nbytes).view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


def room(size: int) -> NDArray[np.uint8]:
    """Give memory of its own: aligned to lines of the cache, much of it in huge pages."""
    if size >= HUGE:
        arena = Arena()
        arena.reserve(size)
        return np.asarray(arena.view(0, (size,), np.uint8), np.uint8)
    held = np.empty(size + LINE, np.uint8)
    start = -held.ctypes.data % LINE
    return held[start : start + size]


def unfilled(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Make an array, as `np.empty` does, that begins with a line of the cache."""
    size = math.prod(shape) * dtype.itemsize
    held = np.empty(size + LINE, np.uint8)
    start = -held.ctypes.data % LINE
    return held[start : start + size].view(dtype).reshape(shape)


def trim() -> None:
    """Have the allocator give back what it keeps of freed arrays, where it can be asked to."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if give_back is not None:
        give_back(ctypes.c_size_t(0))


def _map(size: int) -> NDArray[np.uint8]:
    """Map at least `size` bytes of zeros at a multiple of `HUGE`; unmapped with the last array.

    What does not fill a huge page lies in small ones, so that no more memory is taken than asked.
    """
    size = _round(size, mmap.PAGESIZE)
    wanted = size + HUGE  # to align; what is never touched takes no memory
    if sys.platform == "win32":
        region = mmap.mmap(-1, wanted)
    else:  # not shared with children, as Python's default would be
        region = mmap.mmap(-1, wanted, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    whole = np.frombuffer(region, np.uint8)
    start = -int(whole.ctypes.data) % HUGE
    if sys.platform == "linux" and size >= HUGE:
        with suppress(OSError):  # a kernel without huge pages refuses; small ones do as well
            region.madvise(mmap.MADV_HUGEPAGE, start, size // HUGE * HUGE)
    return whole[start : start + size]


def _round(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _numbers(size: int, limit: int) -> list[str]:
    return [f"needed : {number_text(size, 'B')}", f"limit  : {number_text(limit, 'B')}"]
