"""Calls of graphs with rules of their own become the graphs themselves: their rules are used up."""

from __future__ import annotations

from symgraph.autodiff.call import is_call
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Item
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.walk import rebuild, topological
from symgraph.passes.manager import graph_pass


@graph_pass(stage="clean", before=["dead_code"])
def inline(graph: Graph) -> dict[Value, Value]:
    """Put the graph of every call in its place, and of calls inside of it."""
    found: dict[Value, Value] = {}
    whole: dict[Value, list[Value]] = {}
    for node in graph.values:
        if isinstance(node.op, Item) and is_call(node.inputs[0].op):
            call = node.inputs[0]
            if call not in whole:
                whole[call] = plain(call)
            found[node] = whole[call][node.op.index]
    return found


def plain(call: Value) -> list[Value]:
    """Give the results of a call without any call on the way from its operands."""
    outputs = list(call.op.expand(F, *call.inputs))  # type: ignore[arg-type]
    while True:
        order = topological(outputs, stop=call.inputs)
        inner = next((v for v in order if is_call(v.op) and v not in call.inputs), None)
        if inner is None:
            return outputs
        parts = list(inner.op.expand(F, *inner.inputs))  # type: ignore[arg-type]
        of = {v: parts[v.op.index] for v in order if isinstance(v.op, Item) and inner in v.inputs}
        done = rebuild(outputs, of)
        outputs = [done[one] for one in outputs]
