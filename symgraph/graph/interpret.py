"""The oracle: compute a graph node by node, in topological order, with each operation's `ref`.

Nothing is clever here on purpose; every other way of running a graph is held against this one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import numpy as np

from symgraph.dims import Dim
from symgraph.errors import GraphError
from symgraph.graph.leaves import Shared
from symgraph.graph.measured import measured_sizes, operands
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.graph.walk import postorder, topological

Watch = Callable[[Value, Array], None]
Bound = Callable[[Dim, int], None]


def interpret(
    outputs: Sequence[Value],
    feeds: Mapping[Value, Array],
    env: Mapping[Dim, int] | None = None,
    xp: ModuleType = np,
    *,
    watch: Watch | None = None,
    order: Sequence[Value] | None = None,
    measured: Mapping[Dim, Value] | None = None,
    bound: Bound | None = None,
) -> list[Array]:
    """Compute the outputs from arrays for the inputs and numbers for the sizes.

    Shared variables give their present numbers unless fed. `watch(node, array)` sees every result.
    A value is dropped as soon as nothing needs it any more. `order` is a topological order where
    one is known already. `measured` are the values that are numbers of sizes: a size has its
    number from when that is computed, and `bound(size, number)` is told.
    """
    sizes = dict(env or {})
    if measured is None and order is None:
        measured = measured_sizes(outputs, stop=feeds)
    decided: dict[Value, list[Dim]] = {}
    for size, value in (measured or {}).items():
        decided.setdefault(value, []).append(size)
    nodes = order if order is not None else _ordered(outputs, feeds, measured or {})
    uses = Counter(operand for node in nodes if node not in feeds for operand in node.inputs)
    uses.update(outputs)
    values: dict[Value, Array] = {}
    for node in nodes:
        if node in feeds:
            result = feeds[node]
        elif isinstance(node, Shared):
            result = xp.asarray(node.storage.array)
        elif node.op.leaf and not node.inputs and not hasattr(node.op, "array"):
            raise GraphError(
                f"interpret: there is no array for the input `{node.label}`.",
                details=[node.describe()],
            )
        else:
            operands = [values[operand] for operand in node.inputs]
            with np.errstate(all="ignore"):  # an infinity or a NaN is a result like others
                result = node.op.at(sizes).ref(xp, *operands)
        if watch is not None:
            watch(node, result)
        for size in decided.get(node, ()):
            sizes[size] = int(result)
            if bound is not None:
                bound(size, sizes[size])
        values[node] = result
        for operand in () if node in feeds else node.inputs:
            uses[operand] -= 1
            if not uses[operand]:
                del values[operand]
    return [values[output] for output in outputs]


def _ordered(
    outputs: Sequence[Value], feeds: Mapping[Value, Array], measured: Mapping[Dim, Value]
) -> list[Value]:
    if not measured:
        return topological(outputs, stop=feeds)
    return postorder(outputs, lambda node: () if node in feeds else operands(node, measured))
