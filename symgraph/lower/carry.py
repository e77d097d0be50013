"""Carried copies: low-precision copies of weights that the update of the weights also writes.

A step that rounds its weights to bfloat16 would read them once more for it. Here the copy is a
variable of its own, which the update writes beside the weights; whoever runs the plan makes it
anew where the weights were changed by somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Shared, cast_to
from symgraph.graph.node import Value
from symgraph.graph.walk import rebuild


def carry(graph: Graph) -> tuple[Graph, Mapping[Shared, Shared]]:
    """Give the graph with carried copies, and which variable each is a copy of."""
    copies: dict[Value, Shared] = {}
    sources: dict[Shared, Shared] = {}
    for node in graph.values:
        if node.op.name != "cast" or not isinstance(node.inputs[0], Shared):
            continue
        source = node.inputs[0]
        if source in graph.updates and all(isinstance(size, int) for size in node.shape):
            shape = tuple(int(size) for size in node.shape if isinstance(size, int))
            copy = Shared(np.empty(shape, numpy_dtype(node.dtype)), f"{source.label} {node.dtype}")
            copies[node], sources[copy] = copy, source
    if not copies:
        return graph, {}
    done = rebuild(graph.roots, dict(copies))
    count = len(graph.outputs)
    roots = [done[root] for root in graph.roots]
    updates = dict(zip(graph.updates, roots[count:]))
    for copy, source in sources.items():
        updates[copy] = cast_to(updates[source], copy.dtype)
    return Graph(graph.inputs, roots[:count], updates), sources
