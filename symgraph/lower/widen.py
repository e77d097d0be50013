"""Products of half precisions that a library does not have: computed as others that it has.

As float32 they give the same but for the order of sums: a product of two halves is exact in
float32, and a library adds up in float32. What is asked of memory differs, so that it is done only
where the library has nothing for the one and something for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from symgraph.dims import Size
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import cast_to
from symgraph.graph.node import Value, make
from symgraph.graph.registry import OPS, F
from symgraph.passes.precision import PRODUCTS, WITH_BIAS

HALVES = ("bfloat16", "float16")
WITHOUT_BIAS = {name: (product, axis) for product, (axis, name) in WITH_BIAS.items()}


def widen(graph: Graph, chosen: Callable[[Value], bool]) -> Graph:
    """Give the graph without products of halves that a library only has otherwise.

    It may have them with a bias of its own dtype only; in float32; without a bias, which is added
    to what was rounded; or in float32 without a bias, which is added before the rounding.
    """
    found = {}
    for node in graph.values:
        if _is_narrow(node) and not chosen(node):
            for product, finish in _others(node):
                if chosen(product):
                    found[node] = cast_to(finish(product), node.tensor.dtype)
                    break
    return graph.rewrite(found, "widen")


def _others(node: Value) -> Iterator[tuple[Value, Callable[[Value], Value]]]:
    """Give what a product may be computed as, the best first, and what is left to do."""
    x, y, *bias = node.inputs
    if bias:
        narrow = make(node.op, x, y, cast_to(bias[0], node.tensor.dtype))
        yield narrow, lambda value: value
    wide = [cast_to(one, "float32") for one in node.inputs]
    if not bias:
        yield make(node.op, *wide), lambda value: value
        return
    name, axis = WITHOUT_BIAS[node.op.name]
    shape: list[Size] = [1] * node.ndim
    shape[axis] = node.shape[axis]
    added = F.reshape(wide[2], shape)
    product = OPS[name](**node.op.attributes())

    def finish(value: Value) -> Value:
        return cast_to(value, "float32") + added

    yield make(node.op, *wide), lambda value: value
    yield make(product, x, y), finish
    yield make(product, *wide[:2]), finish


def _is_narrow(node: Value) -> bool:
    return node.op.name in PRODUCTS and all(x.tensor.dtype in HALVES for x in node.inputs[:2])
