"""Batches in memory that two processes share: a few slots in a row, used again and again.

A slot is whole pages: images, then labels, then the places of the images in the data set. Nothing
but the number of a slot passes between the processes.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from symgraph.data.dataset import Labels
from symgraph.data.recipe import Places, image_bytes
from symgraph.frozen import frozen
from symgraph.runtime.process import mapped, shared_memory

Bytes = npt.NDArray[np.uint8]


def _pages(size: int) -> int:
    """Return a size rounded up to whole pages."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


@frozen
class Layout:
    """Where the parts of a slot lie: `slots` of them, of at most `images` images 3 x side x side.

    >>> Layout(slots=4, images=128, side=227).size // 2**20
    301
    """

    slots: int
    images: int
    side: int
    dtype: str = "float32"

    @property
    def _image(self) -> int:
        """The bytes of an image."""
        return image_bytes(self.side, self.dtype)

    @property
    def _labels_at(self) -> int:
        return _pages(self.images * self._image)

    @property
    def _places_at(self) -> int:
        return self._labels_at + _pages(self.images * 4)

    @property
    def slot_size(self) -> int:
        """The bytes of one slot."""
        return self._places_at + _pages(self.images * 8)

    @property
    def size(self) -> int:
        """The bytes of all slots."""
        return self.slots * self.slot_size

    def parts(self, slot: Bytes, count: int) -> tuple[npt.NDArray[Any], Labels, Places]:
        """Return images (count, 3, side, side), labels and places (count,) as views of a slot."""
        images = slot[: count * self._image].view(self.dtype)
        labels = slot[self._labels_at : self._labels_at + count * 4].view(np.int32)
        places = slot[self._places_at : self._places_at + count * 8].view(np.int64)
        return images.reshape(count, 3, self.side, self.side), labels, places


class Ring:
    """The slots as the process that uses the batches sees them: it says which one is filled next.

    A slot is free again when no array that lies in it is left, so a batch that is kept is never
    written over. `free` may be appended to inside any deallocation, which a deque allows.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.descriptor = shared_memory(layout.size)
        self._close = weakref.finalize(self, os.close, self.descriptor)
        self._memory = mapped(self.descriptor)
        self.free: deque[int] = deque(range(layout.slots))

    @property
    def place(self) -> tuple[int, int]:
        """Address and bytes of all slots together: whole pages, which a device can pin."""
        return int(self._memory.ctypes.data), self.layout.size

    def slot(self, number: int) -> Bytes:
        """Return a slot as bytes; whoever asks sees to it that nobody else uses it."""
        # An array of its own upon the memory, not a view: views of it refer to it and not to what
        # lies below, so it lives exactly as long as the last of them.
        start, size = number * self.layout.slot_size, self.layout.slot_size
        return np.frombuffer(self._memory.data, np.uint8, size, start)

    def lend(self, number: int, count: int) -> tuple[npt.NDArray[Any], Labels]:
        """Return the batch in a slot, which is free again when its arrays are dropped."""
        slot = self.slot(number)
        weakref.finalize(slot, self.free.append, number).atexit = False
        images, labels, _ = self.layout.parts(slot, count)
        return images, labels

    def copy(self, number: int, count: int) -> tuple[npt.NDArray[Any], Labels]:
        """Return a copy of the batch in a slot, which is free at once."""
        images, labels, _ = self.layout.parts(self.slot(number), count)
        copies = images.copy(), labels.copy()
        self.free.append(number)
        return copies

    def close(self) -> None:
        """Give the memory back, as far as no batch lies in it."""
        self._close()
        self._memory = np.empty(0, np.uint8)
