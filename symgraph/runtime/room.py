"""Memory in which the functions of a device compute, one after the other.

Between two calls nothing of it is needed, so it is as large as what the largest function needs, not
as all of them together. One that finds too little reserves more; the others move there when they
are called next, and what they had goes with the last of them.
"""

from __future__ import annotations

from weakref import WeakSet

from symgraph.backends.cuda.device import Device


class Room:
    """Some memory, given back with its last reference."""

    def __init__(self, device: Device, size: int) -> None:
        self.size = size
        self._memory = device.reserve(size)
        self.address = self._memory.address


class Rooms:
    """What there is of it on one device; whoever asks holds the device's lock."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.made = 0  # how many there have been
        self._alive: WeakSet[Room] = WeakSet()

    def largest(self) -> Room | None:
        """Give the largest there is, which all should use."""
        return max(self._alive, key=lambda room: room.size, default=None)

    def at_least(self, size: int) -> Room:
        """Give the largest there is if that is large enough, else a new one."""
        found = self.largest()
        if found is None or found.size < size:
            found = Room(self.device, size)
            self._alive.add(found)
            self.made += 1
        return found
