"""Runs a graph with the reference, and writes its updates."""

from __future__ import annotations

from collections.abc import Mapping

from symgraph.backends.reference import ReferenceExecutor
from symgraph.dims import Dim
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import Bound, Watch
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.runtime.commit import Owner, commit


class InterpretedExecutor:
    """A graph that is computed node by node."""

    name = "reference"

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._executor = ReferenceExecutor(graph)

    def run(
        self,
        feeds: Mapping[Value, Array],
        env: Mapping[Dim, int],
        watch: Watch | None = None,
        bound: Bound | None = None,
    ) -> list[Array]:
        """Compute the outputs, fresh arrays, and write the updates: all of them, or none.

        `bound(size, number)` hears of sizes that data decide, and may raise.
        """
        results = self._executor.run(feeds, env, watch, bound)
        count = len(self.graph.outputs)
        held = [shared.storage.array for shared in self.graph.shared]
        owner = Owner([*feeds.values(), *held])
        new = [owner.own(one) for one in results[count : count + len(self.graph.updates)]]
        outputs = [owner.own(array) for array in results[:count]]
        commit(tuple(self.graph.updates), new)
        return outputs

    def close(self) -> None:
        """Nothing is kept here: memory between steps is the program's."""
