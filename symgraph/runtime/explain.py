"""Why a step ended before it wrote anything: the reference says it."""

from __future__ import annotations

from collections.abc import Mapping

from symgraph.backends.reference import ReferenceExecutor
from symgraph.dims import Dim
from symgraph.errors import BackendError
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.runtime.guard import NanGuard
from symgraph.runtime.interpreted import InterpretedExecutor


def explained(
    graph: Graph, feeds: Mapping[Value, Array], env: Mapping[Dim, int], guard: str
) -> list[Array]:
    """Raise what the reference raises where a check has failed: nothing was written yet.

    Infinities that were there on purpose are no reason to raise: then its results are given.
    """
    if guard:
        return InterpretedExecutor(graph).run(feeds, env, NanGuard(guard))
    ReferenceExecutor(graph).run(feeds, env)
    raise BackendError("step: a check failed that the reference accepts.")
