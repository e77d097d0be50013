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
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.graph.walk import topological

Watch = Callable[[Value, Array], None]


def interpret(
    outputs: Sequence[Value],
    feeds: Mapping[Value, Array],
    env: Mapping[Dim, int] | None = None,
    xp: ModuleType = np,
    *,
    watch: Watch | None = None,
    order: Sequence[Value] | None = None,
) -> list[Array]:
    """Compute the outputs from arrays for the inputs and numbers for the sizes.

    Shared variables give their present numbers unless fed. `watch(node, array)` sees every result.
    A value is dropped as soon as nothing needs it any more. `order` is a topological order where
    one is known already.
    """
    sizes = env or {}
    nodes = order if order is not None else topological(outputs, stop=feeds)
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
        values[node] = result
        for operand in () if node in feeds else node.inputs:
            uses[operand] -= 1
            if not uses[operand]:
                del values[operand]
    return [values[output] for output in outputs]
