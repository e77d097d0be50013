"""Constant folding: what depends on literals only is computed once, by the oracle."""

from __future__ import annotations

from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import constant, is_constant
from symgraph.graph.node import Value
from symgraph.graph.types import TupleType, Type
from symgraph.passes.manager import graph_pass

LIMIT = 1 << 20  # bytes; larger results are cheaper to compute than to keep


@graph_pass(stage="fold")
def constant_folding(graph: Graph) -> dict[Value, Value]:
    """Replace values that depend on literals only, where something else needs them."""
    fixed: set[Value] = set()
    for node in graph.values:
        known = bool(node.inputs) and fixed.issuperset(node.inputs)
        # a result of no bytes, [0, B], may still need the number of B
        if is_constant(node) or (known and not node.op.dims() and _small(node.type)):
            fixed.add(node)
    roots = set(graph.roots)
    wanted = [
        node
        for node in graph.values
        if node in fixed
        and node.inputs
        and not isinstance(node.type, TupleType)
        and (node in roots or any(user not in fixed for user in graph.users(node)))
    ]
    arrays = interpret(wanted, {})
    return {node: constant(array, node.dtype) for node, array in zip(wanted, arrays)}


def _small(type: Type) -> bool:
    parts = type.types if isinstance(type, TupleType) else (type,)
    return all(isinstance(part.nbytes, int) and part.nbytes <= LIMIT for part in parts)
