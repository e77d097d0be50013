"""Variables that stay on a device.

One that was updated there comes back when somebody asks for its numbers, and goes there again only
when somebody else has changed them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from symgraph.backends.cuda.device import Device, Memory
from symgraph.backends.cuda.exchange import DeviceArray, on_device, place
from symgraph.graph.dtypes import DType, numpy_dtype
from symgraph.graph.leaves import Shared, Storage
from symgraph.graph.op import Array
from symgraph.runtime.checks import Mark
from symgraph.runtime.foreign import bring, release
from symgraph.runtime.room import Rooms


class Resident:
    """Copies of variables on one device, by their storage, and what functions share besides."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.marks: set[Mark] = set()  # of checks that nobody has waited for
        self.rooms = Rooms(device)
        self._held: WeakKeyDictionary[Storage, tuple[Memory, int]] = WeakKeyDictionary()

    def address(self, storage: Storage) -> int:
        """Give where the newest numbers of a variable lie; they are copied there if need be."""
        memory, version = self._held.get(storage, (None, -1))
        if memory is None or version != storage.version:
            array = np.ascontiguousarray(storage.array)
            memory = memory or self.device.reserve(array.nbytes)
            self.device.upload(memory.address, array)
            self._held[storage] = memory, storage.version
            storage.home = self
        return memory.address

    def read(self, subject: str, given: Any) -> DeviceArray | None:
        """Look at an array of this device; None for any other."""
        if on_device(given) and place(given, self.device) in (None, self.device.number):
            return self.device.read(subject, given)
        return None

    def keep(self, variable: Shared, array: DeviceArray) -> None:
        """Make an array of this device the numbers of a variable that was here before."""
        with self.device.lock:
            memory, _ = self._held[variable.storage]
            bring(self.device, memory.address, array, variable.dtype)
            self.updated(variable)
            release(self.device, [array])

    def place(self, shared: Shared, memory: Memory) -> None:
        """Have a variable lie in memory that somebody else gives, and keep its numbers."""
        array = np.ascontiguousarray(shared.storage.array)
        with self.device.lock:
            self.device.upload(memory.address, array)
        self.claim(shared, memory)

    def claim(self, shared: Shared, memory: Memory) -> None:
        """Make what lies in somebody else's memory the numbers of a variable."""
        self._held[shared.storage] = memory, shared.storage.version
        shared.storage.home = self
        self.updated(shared)

    def forget(self, shared: Shared) -> None:
        """Hold no memory for a variable any more, whose numbers are elsewhere."""
        self._held.pop(shared.storage, None)
        shared.storage.settle()

    def updated(self, shared: Shared) -> None:
        """Say that the newest numbers of a variable are those on the device."""
        memory, _ = self._held[shared.storage]
        shape: tuple[int, ...] = shared.op.shape  # type: ignore[attr-defined]
        shared.storage.postpone(partial(self._fetched, memory, shape, shared.dtype))
        self._held[shared.storage] = memory, shared.storage.version

    def _fetched(
        self, memory: Memory, shape: tuple[int, ...], dtype: DType, put: Callable[[Array], None]
    ) -> None:
        array = np.empty(shape, numpy_dtype(dtype))
        with self.device.lock:  # or a step in between would be missed
            self.device.download(array, memory.address)
            for mark in list(self.marks):
                if mark.forgotten():
                    self.marks.discard(mark)
                mark.report()
            put(array)


_residents: dict[str, Resident] = {}
_lock = threading.Lock()


def resident(device: Device) -> Resident:
    """Give the variables of a device, which all functions share."""
    with _lock:
        return _residents.setdefault(device.name, Resident(device))
