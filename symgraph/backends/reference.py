"""The reference backend: the oracle interpreter over one cached order, with NumPy (or CuPy)."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

import numpy as np

from symgraph.dims import Dim
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import Bound, Watch, interpret
from symgraph.graph.node import Value
from symgraph.graph.op import Array


class ReferenceExecutor:
    """Runs one graph, node by node."""

    def __init__(self, graph: Graph, xp: ModuleType = np) -> None:
        self.graph = graph
        self.xp = xp

    def run(
        self,
        feeds: Mapping[Value, Array],
        env: Mapping[Dim, int],
        watch: Watch | None = None,
        bound: Bound | None = None,
    ) -> list[Array]:
        """Compute the outputs, the new values of shared variables, and the numbers of sizes."""
        graph = self.graph
        return interpret(
            graph.roots, feeds, env, self.xp,
            watch=watch, order=graph.values, measured=graph.sizes, bound=bound,
        )  # fmt: skip
