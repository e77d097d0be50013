"""Variables of every worker in memory that all workers reach: all weights, then all momenta.

A variable stays a variable: only the array that holds its numbers is now a piece of the arena, so
that compiled steps update it there, in place, and nothing is copied to be averaged.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from symgraph.cost.limit import memory_limit, too_large
from symgraph.errors import ArgumentError, UnreachableError, WorkerError
from symgraph.frozen import frozen
from symgraph.graph.dtypes import DType, is_float, itemsize, numpy_dtype
from symgraph.graph.leaves import Shared
from symgraph.graph.op import Array
from symgraph.lower.memory import ALIGN
from symgraph.parallel.team import Leaders, Team

CHUNK = 1 << 24  # bytes that leaders broadcast at a time
PATTERN = 251  # a prime: a region that is shifted by a power of two shows


@frozen
class Segment:
    """The numbers of one dtype, side by side: bytes [start, end) of the arena."""

    dtype: DType
    start: int
    end: int


class Arena:
    """One region for each rank of the node, with the same variables at the same places.

    All ranks make it at the same time, of the same variables in the same order. The numbers that
    the variables then have are those of rank 0. This one lies in memory of the host, which the
    ranks of one machine share; `peer.py` has one in the memory of devices.

    Raises:
        ArgumentError: a variable is listed twice or holds no floats.
        WorkerError: the variables of another rank are others.
        UnreachableError: the memory of another rank is out of reach.
        MemoryLimitError: there is not as much memory.
    """

    backend = "auto"  # of the functions that average

    def __init__(self, team: Team, variables: Sequence[Shared]) -> None:
        self.team, self.node = team, team.node
        self.variables = _checked(variables)
        self.places, self.segments = _layout(self.variables)
        self.size = self.segments[-1].end if self.segments else 0
        self._agree()
        self._make()
        self._check_reach()
        self._place()
        self.broadcast()

    # -- what depends on the kind of memory --------------------------------------------------------

    def _make(self) -> None:
        limit = memory_limit()
        if self.size * self.node.size > limit:
            subject = f"arena of {self.node.size} workers"
            raise too_large(subject, self.size * self.node.size, limit)
        self.regions: list[Array] = self.node.share(self.size)

    def _place(self) -> None:
        self._views: list[Array] = []
        own = self.regions[self.node.rank]
        for one, start in zip(self.variables, self.places):
            kind, shape = numpy_dtype(one.dtype), one.storage.array.shape
            end = start + math.prod(shape) * kind.itemsize
            view = own[start:end].view(kind).reshape(shape)
            view[...] = one.storage.array
            self._views.append(view)
            one.storage.replace(view)

    def write(self, start: int, numbers: Array) -> None:
        """Put bytes into the own region."""
        self.regions[self.node.rank][start : start + numbers.size] = numbers

    def read(self, rank: int, start: int, stop: int) -> Array:
        """Give bytes of a region; they may change when its rank writes others."""
        return self.regions[rank][start:stop]

    def _copy_first(self) -> None:
        self.regions[self.node.rank][...] = self.regions[0]

    def pieces(self, segment: Segment, part: slice) -> list[Shared]:
        """Give a part of a segment on every rank, as variables."""
        kind = numpy_dtype(segment.dtype)
        whole = [one[segment.start : segment.end].view(kind) for one in self.regions]
        return [Shared(one[part], f"rank_{rank}") for rank, one in enumerate(whole)]

    def finish(self, pieces: Sequence[Shared], segment: Segment, part: slice) -> None:
        """See that numbers written to pieces are in the arena: the interpreter makes new arrays."""
        kind = numpy_dtype(segment.dtype)
        for one, region in zip(pieces, self.regions):
            view = region[segment.start : segment.end].view(kind)[part]
            if not np.may_share_memory(one.storage.array, view):
                view[...] = one.storage.array
                one.storage.array = view

    def collect(self) -> None:
        """Bring numbers here that were put elsewhere: by an assignment, or by the interpreter."""
        for one, view in zip(self.variables, self._views):
            if one.storage.array is not view:
                view[...] = one.storage.array
                one.storage.array = view

    def written(self) -> None:
        """Tell the variables that other numbers are in the arena now."""
        for one in self.variables:
            one.storage.written()

    def close(self) -> None:
        """Give the variables memory of their own, and let go of the regions."""
        self.collect()
        for one in self.variables:
            one.storage.replace(np.array(one.storage.array))
        self._views.clear()
        self.regions.clear()

    # -- what does not -----------------------------------------------------------------------------

    def broadcast(self) -> None:
        """Give every rank the numbers of rank 0."""
        self.collect()
        self.team.gather()
        if self.team.leaders is not None:
            broadcast(self.team.leaders, self.regions[0])
        self.follow()
        self.written()

    def follow(self) -> None:
        """Take the numbers of the node's first rank, once all of the node are here."""
        self.node.gather()
        if self.node.rank:
            self._copy_first()
        self.node.gather()

    def _agree(self) -> None:
        """Compare the variables of all ranks: a shifted one would meet another in the average."""
        kinds = [(one.dtype, one.tensor.shape) for one in self.variables]
        own = hashlib.sha256(repr((kinds, self.places)).encode()).digest()
        for rank, other in enumerate(self.team.gather(own)):
            if other != own:
                raise WorkerError(
                    f"workers {self.team.rank} and {rank} have different variables.",
                    fix="run the same program with the same arguments on every worker",
                )

    def _check_reach(self) -> None:
        """Write a pattern, and read everybody's: memory that is not shared must not go unnoticed.

        Raises `UnreachableError` on every rank if one of them did not see another's.
        """
        count = min(1 << 20, self.size)
        steps = np.arange(count, dtype=np.int64)

        def pattern(rank: int) -> Array:
            return ((steps + rank) % PATTERN).astype(np.uint8)

        self.write(0, pattern(self.node.rank))
        self.node.gather()
        ranks = range(self.node.size)
        seen = all(np.array_equal(self.read(rank, 0, count), pattern(rank)) for rank in ranks)
        answers = self.node.gather(bytes([seen]))
        blind = [rank for rank, answer in enumerate(answers) if answer != b"\1"]
        if blind:
            raise UnreachableError(f"workers {blind} do not see the memory of the others.")


def _checked(variables: Sequence[Shared]) -> list[Shared]:
    found: dict[Shared, None] = {}
    for one in variables:
        if not is_float(one.dtype):
            raise ArgumentError(
                f"arena: `{one.label}` is {one.type}; only floats are averaged.",
                details=[one.describe()],
            )
        if one in found:
            raise ArgumentError(f"arena: `{one.label}` is listed twice.", details=[one.describe()])
        found[one] = None
    return list(found)


def _layout(variables: Sequence[Shared]) -> tuple[list[int], list[Segment]]:
    """Place variables in their order, those of one dtype together; each begins a line of memory."""
    places: dict[int, int] = {}
    segments, end = [], 0
    for dtype in dict.fromkeys(one.dtype for one in variables):
        start = end
        for number, one in enumerate(variables):
            if one.dtype == dtype:
                places[number] = end
                end += -(-one.storage.array.nbytes // ALIGN) * ALIGN
        segments.append(Segment(dtype, start, end))
    return [places[number] for number in range(len(variables))], segments


def broadcast(leaders: Leaders, region: Array) -> None:
    """Give all leaders the bytes of the first one."""
    for start in range(0, region.size, CHUNK):
        piece = region[start : start + CHUNK]
        if leaders.rank:
            leaders.exchange({}, {0: [piece]})
        else:
            leaders.exchange({other: [piece] for other in range(1, leaders.size)}, {})


def shard(segment: Segment, rank: int, size: int) -> slice:
    """Give the part of a segment that a rank computes, in numbers; parts begin lines of memory."""
    step = ALIGN // itemsize(segment.dtype)
    lines = (segment.end - segment.start) // ALIGN
    return slice(lines * rank // size * step, lines * (rank + 1) // size * step)
