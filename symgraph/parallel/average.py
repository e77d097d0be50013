"""Averaging in place: every rank averages its part of everybody's numbers and writes it to all.

What is computed is a graph like any other, ::

    mean = x_f + sum over r of share_r * (x_r - x_f)        f: the first rank with a share

whose variables x_r are pieces of the ranks' arenas: lowered, it is one loop that reads each number
once and writes it once on every rank. Numbers that agree on all ranks stay as they are, bit by
bit, and the order of the sum is that of the ranks, so that all ranks end with the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from symgraph.function import Function, function
from symgraph.graph.dtypes import DType, numpy_dtype
from symgraph.graph.leaves import Shared, cast_to, tensor
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.parallel.arena import Arena, Segment, shard


class Averaging:
    """The averages of an arena in a node, by shares that sum to 1; rank 0's must not be 0."""

    def __init__(self, arena: Arena) -> None:
        self.arena, self.team = arena, arena.node
        self._parts: list[tuple[Function, list[Shared], Segment, slice]] = []
        for segment in arena.segments:
            part = shard(segment, self.team.rank, self.team.size)
            if self.team.size > 1 and part.start < part.stop:
                pieces = arena.pieces(segment, part)
                averaged = averaging_function(pieces, segment.dtype, arena.backend)
                self._parts.append((averaged, pieces, segment, part))

    def __call__(self, shares: Sequence[float]) -> None:
        """Average; every rank calls it after all have written, see `Team.gather`."""
        for averaged, pieces, segment, part in self._parts:
            averaged(np.asarray(shares, numpy_dtype(computed(segment.dtype))))
            self.arena.finish(pieces, segment, part)
        if self.team.size > 1:
            self.team.gather()
            self.arena.written()

    def close(self) -> None:
        """Let go of the arena's memory."""
        for averaged, *_ in self._parts:
            averaged.close()
        self._parts.clear()


def mean(variables: Sequence[Value], shares: Value) -> Value:
    """Give the weighted mean of values of one type; what has no share does not count, NaN or not.

    The first that has a share is what the others are compared with.

    Computed in float32 at least, and rounded to the dtype of the values at the end.
    """
    wide = [cast_to(one, computed(one.dtype)) for one in variables]
    first = wide[-1]
    for rank in reversed(range(len(wide) - 1)):
        first = F.where(shares[rank] > 0, wide[rank], first)
    total = first
    for rank, one in enumerate(wide):
        moved = shares[rank] * (one - first)
        total = total + F.where(shares[rank] > 0, moved, F.zeros_like(moved))
    return cast_to(total, variables[0].dtype)


def averaging_function(variables: Sequence[Shared], dtype: DType, backend: str) -> Function:
    """Compile: shares -> every variable becomes their weighted mean."""
    shares = tensor("shares", (len(variables),), computed(dtype))
    result = mean(variables, shares)
    return function(
        [shares], None, updates=dict.fromkeys(variables, result), name="average",
        precision="fp32", backend=backend,
    )  # fmt: skip


def computed(dtype: DType) -> DType:
    """Give the dtype in which means of a dtype are computed."""
    return "float64" if dtype == "float64" else "float32"
