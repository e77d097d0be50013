"""Momenta that exist once in a node: each number where the rank that updates it keeps it.

A slot of an optimiser stays a variable, whose array is put together when somebody asks for it, a
checkpoint for instance, and taken apart again after somebody has assigned another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from symgraph.frozen import frozen
from symgraph.graph.dtypes import itemsize, numpy_dtype
from symgraph.graph.leaves import Shared
from symgraph.graph.op import Array
from symgraph.parallel.arena import Arena, Segment, shard
from symgraph.parallel.cut import Family
from symgraph.parallel.team import Team

ArenaOf = Callable[[Team, Sequence[Shared]], Arena]


@frozen
class Piece:
    """Numbers of a family that one rank of the node owns."""

    rank: int
    family: Family
    segment: Segment  # of the arena of weights
    own: slice  # of the numbers of the parameter
    whole: slice  # of the numbers of the segment
    part: slice  # of the numbers of the segment that the rank owns


def divided(weights: Arena, families: Sequence[Family]) -> list[Piece]:
    """Divide the parameters that lie in an arena, in that order, evenly among a node's ranks."""
    segments = {segment.dtype: segment for segment in weights.segments}
    found = []
    for family, place in zip(families, weights.places, strict=True):
        segment = segments[family.parameter.dtype]
        first = (place - segment.start) // itemsize(segment.dtype)
        last = first + family.parameter.storage.array.size
        for rank in range(weights.node.size):
            part = shard(segment, rank, weights.node.size)
            low, high = max(first, part.start), min(last, part.stop)
            if low < high:
                own, whole = slice(low - first, high - first), slice(low, high)
                inside = slice(low - part.start, high - part.start)
                found.append(Piece(rank, family, segment, own, whole, inside))
    return found


class Momenta:
    """The slots of an optimiser, divided as the parameters are; all start from rank 0's."""

    def __init__(self, team: Team, weights: Arena, families: Sequence[Family], arena_of: ArenaOf):
        self.team, self.pieces = team, divided(weights, families)
        self.slots = [slot for family in families for slot in family.slots]
        self._homes = {
            slot: [one for one in self.pieces if one.family is family]
            for family in families
            for slot in family.slots
        }
        lines = _lines(weights, families)
        # An arena of the node: ranks of a node of another size keep other parts.
        self.arena = arena_of(team.node, [one for each in lines.values() for one in each])
        starts = dict(zip(self.arena.variables, self.arena.places, strict=True))
        self._starts = {
            slot: starts[lines[slot.dtype][number]]
            for family in families
            for number, slot in enumerate(family.slots)
        }
        self._versions: dict[Shared, int] = {}
        self.start()

    def place(self, slot: Shared, piece: Piece) -> tuple[Segment, slice]:
        """Give where the numbers of a piece of a slot are in its owner's memory."""
        segment = next(one for one in self.arena.segments if one.dtype == slot.dtype)
        start = (self._starts[slot] - segment.start) // itemsize(slot.dtype)
        return segment, slice(start + piece.part.start, start + piece.part.stop)

    def _bytes(self, slot: Shared, piece: Piece) -> tuple[int, int]:
        segment, part = self.place(slot, piece)
        size = itemsize(slot.dtype)
        return segment.start + part.start * size, segment.start + part.stop * size

    def start(self) -> None:
        """Give all ranks the momenta of rank 0."""
        for slot in self.slots:  # one by one: for a moment every rank has all of it
            Arena(self.team.whole, [slot]).close()
        self.collect()
        self.team.gather()

    def collect(self) -> None:
        """Take apart what somebody has assigned."""
        for slot in self.slots:
            if self._versions.get(slot) == slot.storage.version:
                continue
            numbers = np.ascontiguousarray(slot.storage.array).reshape(-1)
            for piece in self._homes[slot]:
                if piece.rank == self.team.node.rank:
                    start, _ = self._bytes(slot, piece)
                    self.arena.write(start, numbers[piece.own].view(np.uint8))
            self._postpone(slot)

    def written(self) -> None:
        """Say that all ranks have other momenta now."""
        for slot in self.slots:
            self._postpone(slot)

    def _postpone(self, slot: Shared) -> None:
        slot.storage.postpone(partial(self._put_together, slot))
        self._versions[slot] = slot.storage.version

    def _put_together(self, slot: Shared, put: Callable[[Array], None]) -> None:
        kind = numpy_dtype(slot.dtype)
        whole = np.zeros(slot.shape, kind)
        numbers = whole.reshape(-1)
        for piece in self._homes[slot]:
            found = self.arena.read(piece.rank, *self._bytes(slot, piece))
            numbers[piece.own] = found.view(kind)
        put(whole)

    def close(self) -> None:
        """Give every rank all momenta, in memory of its own."""
        for slot in self.slots:
            slot.storage.replace(slot.storage.array)
            slot.storage.settle()
        self.arena.close()


def _lines(weights: Arena, families: Sequence[Family]) -> dict[str, list[Shared]]:
    """Make what a rank keeps of each dtype: as many numbers as the longest part, for each slot."""
    found = {}
    for segment in weights.segments:
        parts = [shard(segment, rank, weights.node.size) for rank in range(weights.node.size)]
        longest = max(part.stop - part.start for part in parts)
        slots = max(len(one.slots) for one in families if one.parameter.dtype == segment.dtype)
        kind = numpy_dtype(segment.dtype)
        found[segment.dtype] = [
            Shared(np.zeros(longest, kind), f"momenta {number}") for number in range(slots)
        ]
    return found
