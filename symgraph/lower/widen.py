"""Products of bfloat16 where a machine has none: computed as float32, rounded to bfloat16.

Both give the same but for the order of sums: a product of two bfloat16 is exact in float32, and a
library adds up in float32. What is asked of memory differs, so that it is done only where the
library has nothing for the one and something for the other.
"""

from __future__ import annotations

from collections.abc import Callable

from symgraph.graph.graph import Graph
from symgraph.graph.leaves import cast_to
from symgraph.graph.node import Value, make
from symgraph.passes.precision import PRODUCTS


def widen(graph: Graph, chosen: Callable[[Value], bool]) -> Graph:
    """Give the graph without products of bfloat16 that a library only has of float32."""
    found = {}
    for node in graph.values:
        if _is_narrow(node) and not chosen(node):
            wide = make(node.op, *(cast_to(x, "float32") for x in node.inputs))
            if chosen(wide):
                found[node] = cast_to(wide, node.tensor.dtype)
    return graph.rewrite(found, "widen")


def _is_narrow(node: Value) -> bool:
    return node.op.name in PRODUCTS and all(x.tensor.dtype == "bfloat16" for x in node.inputs)
