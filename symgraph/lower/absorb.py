"""Activations that a library computes with the product before them, in the same pass over memory.

What a library does to NaN is its own affair: NVIDIA's relu gives 0, ours NaN. So this is done for
those who allow rewrites that are only fast, and nobody else.
"""

from __future__ import annotations

from collections.abc import Callable

from symgraph.graph.graph import Graph
from symgraph.graph.leaves import cast_to
from symgraph.graph.node import Value, make
from symgraph.graph.registry import OPS, F
from symgraph.passes.precision import is_bias

NAMES = {"relu": "matmul_bias_relu"}


def absorb(graph: Graph, chosen: Callable[[Value], bool]) -> Graph:
    """Give the graph with activations in the products whose results nobody else reads.

    A half precision is rounded before the activation instead of after it, which is the same number.
    """
    roots, found = frozenset(graph.roots), dict[Value, Value]()
    halves: dict[Value, Value] = {}  # what an activation was before it was made wider

    def alone(value: Value) -> bool:
        return graph.out_degree(value.node) == 1 and value not in roots

    for node in graph.values:
        if node.op.name == "cast" and node.inputs[0] in halves:
            half = halves[node.inputs[0]]
            if half.tensor.dtype == node.tensor.dtype:  # there and back
                found[node] = half
        name = NAMES.get(node.op.name)
        product = _biased(node.inputs[0], alone) if name is not None else None
        if name is not None and product is not None:
            made = make(OPS[name](), *product)
            if chosen(made):
                halves[node] = made
                found[node] = cast_to(made, node.tensor.dtype)
    return graph.rewrite(found, "absorb")


def _biased(value: Value, alone: Callable[[Value], bool]) -> tuple[Value, ...] | None:
    """Give the factors and the bias of which a value is made, if nobody else reads it, or them."""
    if not alone(value):
        return None
    if value.op.name == "cast":
        value = value.inputs[0]
        if not alone(value):
            return None
    if value.op.name == "matmul_bias":
        return tuple(value.inputs)
    if value.op.name != "add":
        return None
    for product, bias in (value.inputs, value.inputs[::-1]):
        if alone(product) and product.op.name == "matmul" and product.ndim > 1:
            columns = product.inputs[1]
            if columns.ndim > 1 and is_bias(bias, product, -1):
                return (*product.inputs, F.reshape(bias, (product.shape[-1],)))
    return None
