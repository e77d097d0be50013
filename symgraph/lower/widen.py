"""Products of bfloat16 where a machine has none: computed as float32, rounded to bfloat16.

Both give the same but for the order of sums: a product of two bfloat16 is exact in float32, and a
library adds up in float32. What is asked of memory differs, so that it is done only where the
library has nothing for the one and something for the other.
"""

from __future__ import annotations

from collections.abc import Callable

from symgraph.dims import Size
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import cast_to
from symgraph.graph.node import Value, make
from symgraph.graph.registry import OPS, F
from symgraph.passes.precision import PRODUCTS, WITH_BIAS

WITHOUT_BIAS = {name: (product, axis) for product, (axis, name) in WITH_BIAS.items()}


def widen(graph: Graph, chosen: Callable[[Value], bool]) -> Graph:
    """Give the graph without products of bfloat16 that a library only has of float32.

    A bias that no library adds is added afterwards, before the rounding.
    """
    found = {}
    for node in graph.values:
        if not _is_narrow(node) or chosen(node):
            continue
        operands = [cast_to(x, "float32") for x in node.inputs]
        whole = make(node.op, *operands)
        if chosen(whole):
            found[node] = cast_to(whole, node.tensor.dtype)
        elif node.op.name in WITHOUT_BIAS:
            name, axis = WITHOUT_BIAS[node.op.name]
            product = make(OPS[name](**node.op.attributes()), *operands[:2])
            if chosen(product):
                shape: list[Size] = [1] * product.ndim
                shape[axis] = product.shape[axis]
                found[node] = cast_to(product + F.reshape(operands[2], shape), node.tensor.dtype)
    return graph.rewrite(found, "widen")


def _is_narrow(node: Value) -> bool:
    return node.op.name in PRODUCTS and all(x.tensor.dtype == "bfloat16" for x in node.inputs[:2])
