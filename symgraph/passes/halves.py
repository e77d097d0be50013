"""A graph as two halves: what is computed first, and what later needs much of it again.

The first half of a training step is about its forward part, found by when most bytes wait for a
later use. The second half is split into chunks that follow each other, about in the order that lets
go of memory earliest. `remat.py` decides what of the first half waits and what is computed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from symgraph.cost.liveness import tensor_types
from symgraph.dims import Dim, Size, evaluate_all, total
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Input
from symgraph.graph.node import Value
from symgraph.graph.types import Type
from symgraph.graph.walk import postorder

CHUNKS = 64  # parts of the second half that follow each other
NEAR = 2.0**-20  # of a step: just before


class Halves:
    """A graph as a first half and a second one in chunks, with what goes from one to the other.

    Views have no memory, so that what is kept or computed again are the values behind them, called
    bases here.
    """

    def __init__(self, graph: Graph, env: Mapping[Dim, int]) -> None:
        self.graph = graph
        self.env = env
        self.place = {value: number for number, value in enumerate(graph.values)}
        self.users: dict[Value, list[Value]] = {value: [] for value in graph.values}
        self.base: dict[Value, Value] = {}
        for value in graph.values:
            self.base[value] = self.base[value.inputs[0]] if value.op.view else value
            for operand in dict.fromkeys(value.inputs):
                self.users[operand].append(value)
        self.nbytes = self._bytes()
        self.stays = {self.base[root] for root in graph.roots}
        self.depth: dict[Value, int] = {}
        level = self._levels()
        made = [value for value in graph.values if not is_source(value)]
        order = sorted(made, key=lambda value: (level[value], self.place[value]))
        first = order[: self._turn(order)]
        self.first = self._firm(first)
        for value in sorted(first, key=self.place.__getitem__, reverse=True):
            if value not in self.first:
                level[value] = min(level[user] for user in self.users[value]) - NEAR
        rest = [value for value in made if value not in self.first]
        self.second = sorted(rest, key=lambda value: (level[value], self.place[value]))
        self.chunk = self._chunks()
        self.chunks = 1 + max(self.chunk.values(), default=0)
        self.uses = self._uses()
        self.begin = self._begin()  # by base: the chunk in which it is needed first

    def _bytes(self) -> dict[Value, int]:
        own = [value for value in self.graph.values if not (value.op.view or is_source(value))]
        sizes: list[Size] = [total(t.nbytes for t in tensor_types(value.type)) for value in own]
        return dict.fromkeys(self.graph.values, 0) | dict(zip(own, evaluate_all(sizes, self.env)))

    def bases(self, values: Iterable[Value]) -> list[Value]:
        """Give what has the memory of values, sources left out."""
        found = dict.fromkeys(self.base[value] for value in values)
        return [value for value in found if not is_source(value)]

    def _levels(self) -> dict[Value, float]:
        """Give each value its step, were everything done as early as possible; what only grows
        memory waits for its first use.
        """
        early = self.depth
        fed: set[Value] = set()
        for value in self.graph.values:
            early[value] = 1 + max((early[operand] for operand in value.inputs), default=-1)
            if isinstance(value.op, Input) or any(operand in fed for operand in value.inputs):
                fed.add(value)
        end = max(early.values(), default=0)
        level: dict[Value, float] = {}
        for value in reversed(self.graph.values):
            # what is made of weights alone can be made at any time, so it is no reason to hurry
            freed = self.bases(operand for operand in value.inputs if operand in fed)
            if self.nbytes[value] >= sum(self.nbytes[operand] for operand in freed):
                level[value] = min((level[user] - 1 for user in self.users[value]), default=end)
            else:
                level[value] = early[value]
        return level

    def _turn(self, order: Sequence[Value]) -> int:
        """Give the number of values in the first half: when most bytes wait for a later use.

        Gradients also wait, for the end; they are known by having the type of a result.
        """
        step = {value: number for number, value in enumerate(order)}
        results = {root.type for root in self.graph.roots}
        reads: dict[Value, list[int]] = {}
        for value in order:
            if not value.op.view:
                for operand in self.bases(value.inputs):
                    reads.setdefault(operand, []).append(step[value])
        nothing: set[Type] = set()
        for left_out in (results, nothing):
            change = [0] * (len(order) + 1)
            for value, places in reads.items():
                if value in self.stays or value.type in left_out:
                    continue
                times = [step[value], *places]
                start, stop = max(pairwise(times), key=lambda pair: pair[1] - pair[0])
                change[start] += self.nbytes[value]
                change[stop] -= self.nbytes[value]
            waiting = most = turn = 0
            for number, more in enumerate(change):
                waiting += more
                if waiting > most:
                    most, turn = waiting, number + 1
            if turn:
                return turn
        return 0

    def _firm(self, first: Sequence[Value]) -> set[Value]:
        """Give what of a first half is computed there: what results need, and what comes last.

        The rest is computed when the second half asks for it, so it belongs there.
        """
        inside = set(first)
        ends = [root for root in self.graph.roots if root in inside]
        ends += sorted(first, key=self.depth.__getitem__)[-1:]
        firm = postorder(ends, lambda value: value.inputs)
        return {value for value in firm if not is_source(value)}

    def _chunks(self) -> dict[Value, int]:
        """Split the second half where about equal numbers of bytes were made or first used."""
        weights: list[int] = []
        seen: set[Value] = set()
        for value in self.second:
            new = [o for o in self.bases(value.inputs) if o in self.first and o not in seen]
            seen.update(new)
            weights.append(self.nbytes[value] + sum(self.nbytes[operand] for operand in new))
        whole = max(sum(weights), 1)
        found: dict[Value, int] = {}
        done = 0
        for value, weight in zip(self.second, weights):
            found[value] = done * CHUNKS // whole
            done += weight
        numbers = {old: new for new, old in enumerate(dict.fromkeys(found.values()))}
        return {value: numbers[old] for value, old in found.items()}

    def _uses(self) -> dict[Value, list[int]]:
        """Give for each base of the first half the chunks that read it."""
        found: dict[Value, set[int]] = {}
        for value in self.second:
            for operand in value.inputs:
                if operand in self.first and not is_source(self.base[operand]):
                    found.setdefault(self.base[operand], set()).add(self.chunk[value])
        return {base: sorted(chunks) for base, chunks in found.items()}

    def _begin(self) -> dict[Value, int]:
        """Give the chunk in which each base is needed first: itself, or else for another one."""
        found: dict[Value, int] = {}
        for value in reversed(self.graph.values):
            if value not in self.first or value.op.view:
                continue
            if value in self.uses:
                found[value] = self.uses[value][0]
            if value in found:
                for operand in self.bases(value.inputs):
                    if operand not in self.uses:
                        earlier = found.get(operand, found[value])
                        found[operand] = min(earlier, found[value])
        return found


def is_source(value: Value) -> bool:
    """Tell whether a value is there without computing: a leaf, or a size as a number."""
    return value.op.leaf or not value.inputs
