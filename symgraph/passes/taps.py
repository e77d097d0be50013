"""Taps in the order in which they were made: each waits for the one before it."""

from __future__ import annotations

from symgraph.graph.graph import Graph
from symgraph.graph.node import Value, make
from symgraph.graph.walk import depends_on
from symgraph.ops.tap import Tap
from symgraph.passes.manager import graph_pass


@graph_pass(stage="clean", after=["dead_code", "branches", "loops"])
def taps(graph: Graph) -> dict[Value, Value]:
    """Give each tap the one before it as an operand; after branches, which move what they alone
    need, since a tap in a branch is called only where the branch is taken.
    """
    found: dict[Value, Value] = {}
    last: Value | None = None
    place = {value: number for number, value in enumerate(graph.values)}
    for value in sorted(_taps(graph), key=lambda one: one.op.place):  # type: ignore[attr-defined]
        if last is not None and all(last is not one for one in value.inputs):
            below = place[value] < place[last]  # only then can it lead there
            if not below or last not in depends_on([last], [value]):
                found[value] = make(value.op, *value.inputs, last)
        last = value
    return found


def _taps(graph: Graph) -> list[Value]:
    return [value for value in graph.values if isinstance(value.op, Tap)]
