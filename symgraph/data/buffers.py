"""Memory that batches are written to, used again as soon as nobody looks at it any more."""

from __future__ import annotations

import mmap
import weakref
from collections import deque

import numpy as np
import numpy.typing as npt


class BufferPool:
    """Hands out bytes of one size and takes their memory back when their arrays are dropped.

    A ring of buffers would overwrite a batch that its consumer still holds. Here an array, and
    any view of it, keeps its memory; after a few batches nothing is allocated any more.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # deque's append and pop need no lock, and the append may happen inside any deallocation.
        self._free: deque[mmap.mmap] = deque()
        self.allocated = 0

    def take(self) -> npt.NDArray[np.uint8]:
        """Return an array of `size` bytes with whatever they held last."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = mmap.mmap(-1, self._size)
            self.allocated += 1
        # NumPy lets views of this array refer to it, not to what lies below, because below is no
        # array: so it lives exactly as long as its last view.
        array = np.frombuffer(memory, dtype=np.uint8, count=self._size)
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array
