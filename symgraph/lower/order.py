"""The order of a step: what frees memory runs first, otherwise what was built first.

Any topological order is right; this one keeps few buffers live. A gradient of weights is written
and used up by the update at once, instead of waiting until all others are there. What checks
depend on comes before everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx

from symgraph.dims import Dim
from symgraph.lower.nest import Buffer
from symgraph.lower.program import Program, nbytes, number


def in_order(order: nx.DiGraph, program: Program, nominal: Mapping[Dim, int]) -> list[Any]:
    """Give the items of a graph of dependences in the order in which they run."""
    return _Scheduler(order, program, nominal).run()


class _Scheduler:
    def __init__(self, order: nx.DiGraph, program: Program, nominal: Mapping[Dim, int]) -> None:
        self.order = order
        self.place = {item: number for number, item in enumerate(order.nodes)}
        outside = {*program.inputs.values(), *program.shared.values(), *program.constants}
        self.bytes: dict[Buffer, int] = {}
        self.left: dict[Buffer, int] = {}  # readers that have not run
        self.writes: dict[Any, Sequence[Buffer]] = {}
        self.reads: dict[Any, Sequence[Buffer]] = {}
        for item in order.nodes:
            self.writes[item] = tuple(item.writes)
            self.reads[item] = [one for one in item.reads() if one not in outside]
            for one in self.reads[item]:
                self.left[one] = self.left.get(one, 0) + 1
            for one in self.writes[item]:
                free = one in program.outputs or one in program.updates.values()
                self.bytes[one] = 0 if free else number(nbytes(one), nominal)
        checks = set(program.checks)
        first = [item for item in order.nodes if checks.intersection(self.writes[item])]
        self.first = set(first).union(*(nx.ancestors(order, item) for item in first))
        self.waits = {item: order.in_degree(item) for item in order.nodes}

    def run(self) -> list[Any]:
        """Take items one after another."""
        ready = [item for item, count in self.waits.items() if not count]
        found = []
        while ready:
            item = min(ready, key=self.rank)
            ready.remove(item)
            found.append(item)
            for one in self.reads[item]:
                self.left[one] -= 1
            for after in self.order.successors(item):
                self.waits[after] -= 1
                if not self.waits[after]:
                    ready.append(after)
        return found

    def rank(self, item: Any) -> tuple[bool, int, int]:
        """Rank by what has to be checked first, then by the memory that is gained, then by age."""
        growth = self.growth(item)
        followers = list(self.order.successors(item))
        if growth > 0 and len(followers) == 1 and self.waits[followers[0]] == 1:
            growth += self.growth(followers[0])
        return item not in self.first, min(growth, 0), self.place[item]

    def growth(self, item: Any) -> int:
        """Give the bytes that an item takes minus those that nobody needs afterwards."""
        total = sum(self.bytes[one] for one in self.writes[item])
        for one in self.reads[item]:
            if self.left[one] == 1:
                total -= self.bytes.get(one, 0)
        return total
