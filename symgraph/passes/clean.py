"""Dead code: identities that only meant something while the graph was built.

What only gradients see, unary plus and attached updates give their first operand; whatever nobody
needs afterwards is gone, because a graph consists of what its outputs and updates depend on.
"""

from __future__ import annotations

from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Attach
from symgraph.graph.node import Value
from symgraph.passes.manager import graph_pass

IDENTITIES = frozenset({"stop_gradient", "positive", "clip_gradient", "scale_gradient"})


@graph_pass(stage="clean")
def dead_code(graph: Graph) -> dict[Value, Value]:
    """Remove identities and what only they kept alive."""
    return {
        node: node.inputs[0]
        for node in graph.values
        if node.op.name in IDENTITIES or isinstance(node.op, Attach)
    }
