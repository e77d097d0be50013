"""The arena on CUDA devices: every rank maps the memory of all others and averages by one kernel.

One allocation for each rank, exported by one handle (CUDA IPC), which the others open: over NVLink
or PCIe where their device is another one, and on the same device where two ranks share it. The
averaging kernel reads and writes the others' memory directly, so there is no copy of it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from symgraph.backends.cuda.device import Device, Memory
from symgraph.errors import DeviceError, UnreachableError
from symgraph.graph.dtypes import itemsize, numpy_dtype
from symgraph.graph.leaves import Shared
from symgraph.graph.op import Array
from symgraph.parallel.arena import Arena, Segment
from symgraph.parallel.team import Team
from symgraph.runtime.resident import resident


@dataclass(frozen=True)
class Piece:
    """A part of memory, which stays as long as the part."""

    whole: Memory
    address: int


class PeerArena(Arena):
    """An arena in the memory of devices; otherwise as `Arena`.

    Raises `UnreachableError` on every rank if one of them cannot reach another's memory.
    """

    def __init__(self, team: Team, variables: Sequence[Shared], device: Device) -> None:
        self.device, self.resident = device, resident(device)
        self.backend = f"cuda:{device.number}"
        self.memories: list[Memory] = []
        super().__init__(team, variables)

    def _make(self) -> None:
        """Reserve, export, and open what the others exported."""
        own = self.device.reserve(self.size)
        self.device.settle()
        handle, problem, opened = b"", "", []
        try:
            handle = self.device.export(own)
        except DeviceError as reason:
            problem = reason.message
        for rank, other in enumerate(self.team.gather(handle)):
            try:
                if other:  # or its rank tells why not
                    opened.append(own if rank == self.team.rank else self.device.open(other))
            except DeviceError as reason:
                problem = reason.message
        problems = [one.decode() for one in self.team.gather(problem.encode())]
        if any(problems):
            raise UnreachableError(next(filter(None, problems)))
        self.memories = opened

    def _place(self) -> None:
        for one, start in zip(self.variables, self.places):
            self.resident.place(one, self._piece(self.team.rank, start))

    def _piece(self, rank: int, start: int) -> Piece:
        return Piece(self.memories[rank], self.memories[rank].address + start)

    def pieces(self, segment: Segment, part: slice) -> list[Shared]:
        """Give a part of a segment on every rank, as variables."""
        made = []
        kind, start = numpy_dtype(segment.dtype), part.start * itemsize(segment.dtype)
        for rank in range(self.team.size):
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

    def _copy_first(self) -> None:
        own, first = self.memories[self.team.rank], self.memories[0]
        with self.device.lock:
            self.device.copy(own.address, first.address, self.size)
        self.device.settle()

    def write(self, start: int, numbers: Array) -> None:
        """Put bytes into the own memory."""
        with self.device.lock:
            self.device.upload(self.memories[self.team.rank].address + start, numbers)

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
        own = self.memories[self.team.rank] if self.memories else None
        self.memories = []
        self.team.gather()
        del own
