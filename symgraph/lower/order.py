"""The order of a step: what frees memory runs first, otherwise what was built first.

Any topological order is right; this one keeps few buffers live. A gradient of weights is written
and used up by the update at once, instead of waiting until all others are there; but one that is
larger than what it is made of waits while so much else is live that it would set the peak. What
checks depend on comes before everything else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx

from symgraph.dims import Dim
from symgraph.lower.nest import Buffer
from symgraph.lower.program import Program, nbytes, number

MOST_ORDERS = 8
MOST_TRIED = 4096  # items, counted again for every order that is tried


def in_order(order: nx.DiGraph, program: Program, nominal: Mapping[Dim, int]) -> list[Any]:
    """Give the items of a graph of dependences in the order in which they run."""
    scheduler = _Scheduler(order, program, nominal)
    found, peak = scheduler.run()
    # below the peak, as long as that lowers it
    for _ in range(min(MOST_ORDERS, MOST_TRIED // (len(found) + 1))):
        other, lower = scheduler.run(peak - 1)
        if lower >= peak:
            break
        found, peak = other, lower
    return found


class _Scheduler:
    def __init__(self, order: nx.DiGraph, program: Program, nominal: Mapping[Dim, int]) -> None:
        self.order = order
        self.place = {item: number for number, item in enumerate(order.nodes)}
        outside = {*program.inputs.values(), *program.shared.values(), *program.constants}
        self.bytes: dict[Buffer, int] = {}
        self.readers: dict[Buffer, int] = {}
        self.writes: dict[Any, Sequence[Buffer]] = {}
        self.reads: dict[Any, Sequence[Buffer]] = {}
        for item in order.nodes:
            self.writes[item] = tuple(item.writes)
            self.reads[item] = [one for one in item.reads() if one not in outside]
            for one in self.reads[item]:
                self.readers[one] = self.readers.get(one, 0) + 1
            for one in self.writes[item]:
                free = one in program.outputs or one in program.updates.values()
                self.bytes[one] = 0 if free else number(nbytes(one), nominal)
        self.taken = {
            item: sum(self.bytes[one] for one in written) for item, written in self.writes.items()
        }
        checks = {*program.checks, *program.risky}
        first = [item for item in order.nodes if checks.intersection(self.writes[item])]
        self.first = set(first).union(*(nx.ancestors(order, item) for item in first))

    def run(self, limit: float = math.inf) -> tuple[list[Any], int]:
        """Take items one after another; what needs more than `limit` waits if something else can.

        Also gives the most bytes that were live.
        """
        self.waits = {item: self.order.in_degree(item) for item in self.order.nodes}
        self.left = dict(self.readers)  # readers that have not run
        ready = [item for item, count in self.waits.items() if not count]
        found: list[Any] = []
        live = peak = 0
        while ready:
            room = limit - live
            item = min(ready, key=lambda one: self.rank(one, room))
            ready.remove(item)
            found.append(item)
            peak = max(peak, live + self.taken[item])
            live += self.growth(item)
            for one in self.reads[item]:
                self.left[one] -= 1
            for after in self.order.successors(item):
                self.waits[after] -= 1
                if not self.waits[after]:
                    ready.append(after)
        return found, peak

    def rank(self, item: Any, room: float) -> tuple[bool, bool, int, int]:
        """Rank by what is to be checked first, by what fits, by the memory gained, then by age."""
        growth = self.growth(item)
        followers = list(self.order.successors(item))
        if growth > 0 and len(followers) == 1 and self.waits[followers[0]] == 1:
            growth += self.growth(followers[0])
        wide = self.taken[item] > room
        return item not in self.first, wide, min(growth, 0), self.place[item]

    def growth(self, item: Any) -> int:
        """Give the bytes that an item takes minus those that nobody needs afterwards."""
        total = self.taken[item]
        for one in self.reads[item]:
            if self.left[one] == 1:
                total -= self.bytes.get(one, 0)
        return total
