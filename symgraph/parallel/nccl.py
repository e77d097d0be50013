"""Averages by NCCL: the way between devices that do not map each other's memory.

Each rank scales its numbers by its share, and NCCL adds them up on all devices, in place, over
NVLink, PCIe or a network. Every rank is a node of its own then (`Apart`): it has all gradients,
all weights and all momenta, and makes the whole update.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.backends.cuda.device import Device
from symgraph.errors import ArgumentError, DeviceError, UnreachableError
from symgraph.function import Function, function
from symgraph.graph.dtypes import DType, itemsize, numpy_dtype
from symgraph.graph.leaves import Shared, cast_to, tensor
from symgraph.graph.op import Array
from symgraph.graph.registry import F
from symgraph.parallel.average import computed
from symgraph.parallel.device import DeviceArena
from symgraph.parallel.team import PART, Alone, Team
from symgraph.runtime.process import machine

TYPES = {
    "float16": "NCCL_FLOAT16", "bfloat16": "NCCL_BFLOAT16", "float32": "NCCL_FLOAT32",
    "float64": "NCCL_FLOAT64", "uint8": "NCCL_UINT8",
}  # fmt: skip
PATTERN = 251  # a prime: numbers that are shifted by a power of two show
COUNT = 1 << 18  # numbers of the pattern
CONNECTED = "connected"
LOOKING = 0.25  # seconds of waiting for NCCL after which it is looked whether others are there


class Apart(Team):
    """A team whose ranks share no memory, not even on one machine: each is a node of its own."""

    def __init__(self, team: Team) -> None:
        self._team, self._own = team, Alone()
        self.rank, self.size = team.rank, team.size

    @property
    def whole(self) -> Team:
        """The team as it was."""
        return self._team

    @property
    def node(self) -> Team:
        """This rank."""
        return self._own

    @property
    def nodes(self) -> Sequence[Sequence[int]]:
        """The ranks, one by one."""
        return [[rank] for rank in range(self.size)]

    def gather(self, message: bytes = b"") -> list[bytes]:
        """Gather as ever."""
        return self._team.gather(message)

    def share(self, size: int) -> list[Array]:
        """Make memory of this rank."""
        return self._own.share(size)

    def look(self) -> None:
        """Look whether all are there."""
        self._team.look()


class Communicator:
    """NCCL between the devices of a team; all ranks make it at the same time.

    Raises, on all ranks:
        DeviceError: NCCL is not installed.
        ArgumentError: two ranks are on one card.
        UnreachableError: NCCL does not reach all devices, or adds up wrongly.
    """

    def __init__(self, team: Team, device: Device) -> None:
        self.team, self.device = team, device
        self._held: Any = None
        self._problem = ""
        self._agree()
        self._join()
        self._check()

    def _agree(self) -> None:
        """See that all have NCCL, and cards of their own, or what NCCL says would be a riddle."""
        problem, fix = "", ""
        try:
            self._nccl = self.device.nccl
        except DeviceError as reason:
            problem, fix = reason.message, reason.fix
        for text in self.team.gather(json.dumps([problem[:200], fix[:200]]).encode()):
            problem, fix = json.loads(text)
            if problem:
                raise DeviceError(f"transport nccl: {problem}", fix=fix)
        places = self.team.gather(f"{machine()} {self.device.card}".encode())
        for rank, place in enumerate(places):
            if (other := places.index(place)) < rank:
                card = place.decode().partition(" ")[2]
                raise ArgumentError(
                    f"transport nccl: workers {other} and {rank} are on one card, {card}, which "
                    "NCCL refuses.",
                    fix="a card for each, --device-map 0,1; or transport peer, which allows it",
                )

    def _join(self) -> None:
        identifier = b""
        if not self.team.rank:
            identifier = _packed(self._nccl.get_unique_id())
        identifier = self.team.gather(identifier)[0]
        # In a thread: NCCL waits for all ranks, without end where one of them has a problem.
        joining = threading.Thread(target=self._connect, args=(identifier,), daemon=True)
        joining.start()
        while True:
            joining.join(LOOKING)
            words = b"" if joining.is_alive() else (self._problem or CONNECTED).encode()[:PART]
            heard = [one.decode() for one in self.team.gather(words)]
            if problem := next((one for one in heard if one not in ("", CONNECTED)), ""):
                raise UnreachableError(problem)
            if all(heard):
                return

    def _connect(self, identifier: bytes) -> None:
        rank = self.team.rank
        self._problem = f"NCCL does not connect worker {rank}"
        try:
            with self.device.active():
                self._held = self._nccl.NcclCommunicator(
                    self.team.size, _unpacked(identifier), rank
                )
        except self._nccl.NcclError as reason:
            self._problem += f": {reason}"
        else:
            self._problem = ""

    def _check(self) -> None:
        """Add up a pattern of each rank."""
        steps = np.arange(COUNT)
        patterns = [(steps + rank) % PATTERN for rank in range(self.team.size)]
        memory = self.device.reserve(4 * COUNT)
        found = patterns[self.team.rank].astype(np.float32)
        with self.device.lock:
            self.device.upload(memory.address, found)
        self.add_up(memory.address, COUNT, "float32")
        with self.device.lock:
            self.device.download(found, memory.address)
        right = np.array_equal(found, np.sum(patterns, axis=0))
        self._raise_first("" if right else f"NCCL adds up wrongly for worker {self.team.rank}")

    def _raise_first(self, problem: str) -> None:
        """Raise `UnreachableError` on all ranks if one has a problem."""
        heard = [one.decode() for one in self.team.gather(problem.encode()[:PART])]
        if any(heard):
            self.close()
            raise UnreachableError(next(filter(None, heard)))

    def add_up(self, address: int, count: int, dtype: str) -> None:
        """Replace numbers at an address by their sums over all ranks, and wait for all.

        Raises `PeerLostError` where a rank dies meanwhile; then this is no use any more.
        """
        kind = getattr(self._nccl, TYPES[dtype])
        with self.device.lock, self.device.active():
            self._held.allReduce(
                address, address, count, kind, self._nccl.NCCL_SUM, self.device.stream
            )
        began = time.monotonic()
        try:
            while not self.device.idle():
                if time.monotonic() - began > LOOKING:
                    self.team.look()
                    time.sleep(1e-3)
        except BaseException:  # Ctrl-C as well: what is queued would never end
            self.abort()
            raise
        self.team.gather()

    def abort(self) -> None:
        """End what others will not take part in any more."""
        if self._held is not None:
            self._held.abort()
            self._held = None

    def close(self) -> None:
        """Leave."""
        self._held = None


class NcclArena(DeviceArena):
    """An arena in the memory of the own device alone; `communicator` adds up those of all."""

    def __init__(
        self, team: Team, variables: Sequence[Shared], device: Device, communicator: Communicator
    ) -> None:
        self.communicator = communicator
        super().__init__(team, variables, device)

    def _check_reach(self) -> None:
        """There is nobody else's memory; the communicator has had its pattern."""

    def broadcast(self) -> None:
        """Give every rank the numbers of rank 0: as bytes, to which the others add zeros."""
        self.collect()
        if self.team.size > 1 and self.size:
            address = self.memories[0].address
            if self.team.rank:
                with self.device.lock:
                    self.device.clear(address, self.size)
            self.communicator.add_up(address, self.size, "uint8")
        self.written()


class AllReduce:
    """The averages of the numbers of an arena, by shares of all ranks that sum to 1."""

    def __init__(self, arena: NcclArena) -> None:
        self.arena = arena
        self._scaled: list[tuple[Function, DType, int, int]] = []
        for segment in arena.segments:
            count = (segment.end - segment.start) // itemsize(segment.dtype)
            (own,) = arena.pieces(segment, slice(0, count))
            made = _scaling(own, segment.dtype, arena.backend)
            address = arena.memories[0].address + segment.start
            self._scaled.append((made, segment.dtype, address, count))

    def __call__(self, shares: Sequence[float]) -> None:
        """Average; every rank calls it after all have written."""
        own = shares[self.arena.team.rank]
        for scaled, dtype, address, count in self._scaled:
            scaled(np.asarray(own, numpy_dtype(computed(dtype))))
            self.arena.communicator.add_up(address, count, dtype)
        self.arena.written()

    def close(self) -> None:
        """Let go of the arena's memory."""
        for scaled, *_ in self._scaled:
            scaled.close()
        self._scaled.clear()


def _scaling(own: Shared, dtype: DType, backend: str) -> Function:
    """Compile: share -> numbers times the share; what has no share does not count, NaN or not."""
    share = tensor("share", (), computed(dtype))
    wide = cast_to(own, computed(dtype))
    scaled = F.where(share > 0, wide * share, F.zeros_like(wide))
    return function(
        [share], None, updates={own: cast_to(scaled, dtype)}, name="scale", precision="fp32",
        backend=backend,
    )  # fmt: skip


def _packed(identifier: Any) -> bytes:
    """Give an identifier as bytes: CuPy has it as such, or as a tuple of signed ones."""
    if isinstance(identifier, bytes):
        return b"b" + identifier
    return b"t" + np.array(identifier, np.int8).tobytes()


def _unpacked(words: bytes) -> Any:
    if words[:1] == b"b":
        return words[1:]
    return tuple(np.frombuffer(words[1:], np.int8).tolist())
