"""Averaging over several nodes: within each, then between their leaders, then within each again.

With the shares s of all ranks and the sums S of the nodes' shares, ::

    m_n  = mean of node n's ranks, by s_r / S_n         in shared memory, see `average`
    mean = mean of the m_n, by S_n                      between leaders
    every rank of a node copies its leader's numbers

Each leader owns a part of the numbers: it receives that part from all others, averages it, and
sends it to all. That is what a reduce-scatter and an all-gather move, 2 (N - 1) / N of the numbers
each way, but the order of the sum is that of the nodes, whoever comes first, and one rank alone
computes each number: all ranks end with the same bits. It goes by chunks, in place: beside the
arena a leader holds one chunk for each node.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from symgraph.graph.dtypes import itemsize, numpy_dtype
from symgraph.graph.leaves import Shared
from symgraph.graph.op import Array
from symgraph.parallel.arena import Arena, Segment, shard
from symgraph.parallel.average import Averaging, averaging_function
from symgraph.parallel.nccl import AllReduce, NcclArena
from symgraph.parallel.team import Leaders

CHUNK = 1 << 20  # bytes


def averaging(arena: Arena) -> Averaging | TwoLevels | AllReduce:
    """Give what averages an arena: in shared memory, and between nodes where there are several."""
    if isinstance(arena, NcclArena):
        return AllReduce(arena)
    return Averaging(arena) if len(arena.team.nodes) == 1 else TwoLevels(arena)


class TwoLevels:
    """The averages of the arenas of several nodes, by shares of all ranks that sum to 1."""

    def __init__(self, arena: Arena) -> None:
        self.arena, self.team = arena, arena.team
        self._within = Averaging(arena)
        leaders = self.team.leaders
        self._between = None if leaders is None else Between(arena, leaders)

    def __call__(self, shares: Sequence[float]) -> None:
        """Average; every rank calls it after all have written, see `Team.gather`."""
        nodes = self.team.nodes
        sums = [sum(shares[rank] for rank in ranks) for ranks in nodes]
        own, whole = next((r, s) for r, s in zip(nodes, sums) if self.team.rank in r)
        # A node without a share does not count between nodes: any numbers will do.
        first = [float(number == 0) for number in range(len(own))]
        self._within([shares[rank] / whole for rank in own] if whole else first)
        if self._between is not None:
            self._between(sums)
        self.arena.follow()
        self.arena.written()

    def close(self) -> None:
        """Let go of the arena's memory."""
        self._within.close()
        if self._between is not None:
            self._between.close()


class Between:
    """The average of one leader's region with those of the others."""

    def __init__(self, arena: Arena, leaders: Leaders) -> None:
        self._parts = [_Numbers(arena, segment, leaders) for segment in arena.segments]

    def __call__(self, shares: Sequence[float]) -> None:
        """Average, by the shares of the nodes."""
        for one in self._parts:
            one.average(shares)

    def close(self) -> None:
        """Let go of the arena's memory."""
        for one in self._parts:
            one.close()
        self._parts.clear()


class _Numbers:
    """The numbers of one dtype."""

    def __init__(self, arena: Arena, segment: Segment, leaders: Leaders) -> None:
        self._leaders = leaders
        self._others = [rank for rank in range(leaders.size) if rank != leaders.rank]
        region = arena.regions[0][segment.start : segment.end]
        self._flat = region.view(numpy_dtype(segment.dtype))
        self._parts = [shard(segment, rank, leaders.size) for rank in range(leaders.size)]
        longest = max(part.stop - part.start for part in self._parts)
        self._step = min(CHUNK // itemsize(segment.dtype), longest)
        self._rounds = -(-longest // self._step) if longest else 0
        kind = numpy_dtype(segment.dtype)
        self._chunks = [np.zeros(self._step, kind) for _ in range(leaders.size)]
        self._variables = [Shared(one, f"node_{n}") for n, one in enumerate(self._chunks)]
        self._mean = None
        if self._rounds:
            self._mean = averaging_function(self._variables, segment.dtype, arena.backend)
        self._shares = "float64" if segment.dtype == "float64" else "float32"

    def _piece(self, rank: int, number: int) -> Array:
        """Give a chunk of the part that a rank owns: the last ones may be short, or empty."""
        part = self._parts[rank]
        start = min(part.start + number * self._step, part.stop)
        return self._flat[start : min(start + self._step, part.stop)]

    def average(self, shares: Sequence[float]) -> None:
        """Go over the chunks; what was averaged in a round is sent in the next one."""
        for number in range(self._rounds + 1):
            if self._mean is None:
                return
            outgoing, incoming = self._traffic(number)
            self._leaders.exchange(outgoing, incoming)
            if number == self._rounds:
                return
            piece = self._piece(self._leaders.rank, number)
            own = self._leaders.rank
            self._chunks[own][: piece.size] = piece
            for variable, chunk in zip(self._variables, self._chunks):
                variable.storage.array = chunk  # the interpreter makes new arrays
            self._mean(np.asarray(shares, self._shares))
            piece[...] = self._variables[own].storage.array[: piece.size]

    def close(self) -> None:
        """Let go of the arena's memory."""
        if self._mean is not None:
            self._mean.close()
        self._mean = None

    def _traffic(self, number: int) -> tuple[dict[int, list[Array]], dict[int, list[Array]]]:
        """Give what is sent and received in a round, by rank: means of the last, then numbers."""
        outgoing: dict[int, list[Array]] = {rank: [] for rank in self._others}
        incoming: dict[int, list[Array]] = {rank: [] for rank in self._others}
        own = self._leaders.rank
        for rank in self._others:
            if number:
                outgoing[rank].append(self._piece(own, number - 1))
                incoming[rank].append(self._piece(rank, number - 1))
            if number < self._rounds:
                outgoing[rank].append(self._piece(rank, number))
                size = self._piece(own, number).size
                incoming[rank].append(self._chunks[rank][:size])
        return outgoing, incoming
