"""The arena in the memory of devices: what all ways between devices have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from symgraph.backends.cuda.device import Device, Memory
from symgraph.frozen import frozen
from symgraph.graph.dtypes import itemsize, numpy_dtype
from symgraph.graph.leaves import Shared
from symgraph.graph.op import Array
from symgraph.parallel.arena import Arena, Segment
from symgraph.parallel.team import Team
from symgraph.runtime.resident import resident


@frozen
class Piece:
    """A part of memory, which stays as long as the part."""

    whole: Memory
    address: int


class DeviceArena(Arena):
    """An arena of which each rank of the node has a region in the memory of its device.

    `memories` are those that this rank reaches, by the rank in the node.
    """

    def __init__(self, team: Team, variables: Sequence[Shared], device: Device) -> None:
        self.device, self.resident = device, resident(device)
        self.backend = f"cuda:{device.number}"
        self.memories: list[Memory] = []
        super().__init__(team, variables)

    def _make(self) -> None:
        """Reserve memory."""
        self.memories = [self.device.reserve(self.size)]
        self.device.settle()

    def _place(self) -> None:
        for one, start in zip(self.variables, self.places):
            self.resident.place(one, self._piece(self.node.rank, start))

    def _piece(self, rank: int, start: int) -> Piece:
        return Piece(self.memories[rank], self.memories[rank].address + start)

    def pieces(self, segment: Segment, part: slice) -> list[Shared]:
        """Give a part of a segment on every rank, as variables."""
        made = []
        kind, start = numpy_dtype(segment.dtype), part.start * itemsize(segment.dtype)
        for rank in range(self.node.size):
            shape = np.broadcast_to(np.zeros((), kind), (part.stop - part.start,))
            one = Shared(shape, f"rank_{rank}")
            self.resident.claim(one, self._piece(rank, segment.start + start))
            made.append(one)
        return made

    def finish(self, pieces: Sequence[Shared], segment: Segment, part: slice) -> None:
        """Wait until a kernel that wrote pieces has done so."""
        self.device.settle()

    def collect(self) -> None:
        """Bring numbers here that were assigned on the host, and wait until all are there."""
        with self.device.lock:
            for one in self.variables:
                self.resident.address(one.storage)
        self.device.settle()

    def written(self) -> None:
        """Tell the variables that other numbers are on the device now."""
        for one in self.variables:
            self.resident.updated(one)

    def write(self, start: int, numbers: Array) -> None:
        """Put bytes into the own memory."""
        with self.device.lock:
            self.device.upload(self.memories[self.node.rank].address + start, numbers)

    def read(self, rank: int, start: int, stop: int) -> Array:
        """Give bytes of a rank's memory."""
        found = np.empty(stop - start, np.uint8)
        with self.device.lock:
            self.device.download(found, self.memories[rank].address + start)
        return found

    def close(self) -> None:
        """Give the variables memory of their own; a rank's goes when all have let go of it."""
        for one in self.variables:
            one.storage.replace(np.array(one.storage.array))
            self.resident.forget(one)
        own = self.memories[self.node.rank] if self.memories else None
        self.memories = []
        self.team.gather()
        del own
