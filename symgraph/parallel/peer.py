"""The arena on CUDA devices: every rank maps the memory of all others and averages by one kernel.

One allocation for each rank, exported by one handle (CUDA IPC), which the others open: over NVLink
or PCIe where their device is another one, and on the same device where two ranks share it. The
averaging kernel reads and writes the others' memory directly, so there is no copy of it here.
"""

from __future__ import annotations

from symgraph.errors import DeviceError, UnreachableError
from symgraph.parallel.device import DeviceArena


class PeerArena(DeviceArena):
    """An arena in the memory of devices that reach each other; otherwise as `Arena`.

    Raises `UnreachableError` on every rank if one of them cannot reach another's memory.
    """

    def _make(self) -> None:
        """Reserve, export, and open what the others exported."""
        own = self.device.reserve(self.size)
        self.device.settle()
        handle, problem, opened = b"", "", []
        try:
            handle = self.device.export(own)
        except DeviceError as reason:
            problem = reason.message
        for rank, other in enumerate(self.node.gather(handle)):
            try:
                if other:  # or its rank tells why not
                    opened.append(own if rank == self.node.rank else self.device.open(other))
            except DeviceError as reason:
                problem = reason.message
        problems = [one.decode() for one in self.node.gather(problem.encode())]
        if any(problems):
            raise UnreachableError(next(filter(None, problems)))
        self.memories = opened

    def _copy_first(self) -> None:
        own, first = self.memories[self.node.rank], self.memories[0]
        with self.device.lock:
            self.device.copy(own.address, first.address, self.size)
        self.device.settle()
