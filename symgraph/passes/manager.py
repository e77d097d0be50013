"""Running passes: each is a function Graph -> {old: new} in a named stage.

Stages follow each other in the order of `STAGES`; inside a stage passes may say `before` and
`after`; `networkx.topological_sort` gives the order. A pass that fails raises; a pass that gives
a value of another type raises; with `config.verify` the whole graph is checked after each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from symgraph.config import config
from symgraph.errors import ArgumentError, ArgumentTypeError, PassError
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value

Replacements = Mapping[Value, Value]

STAGES = (
    "clean", "canonical", "stabilise", "fold", "precision", "remat", "layout", "place", "fuse",
)  # fmt: skip


@dataclass(frozen=True)
class Pass:
    """A named function Graph -> {old: new} with its place in the order."""

    name: str
    run: Callable[[Graph], Replacements]
    stage: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def __call__(self, graph: Graph) -> Graph:
        """Run on a graph and give the rewritten one, with a step of history."""
        result = graph.rewrite(self.run(graph), self.name)
        if config.verify:
            result.verify()
        return result


PASSES: dict[str, Pass] = {}


def graph_pass(
    *, stage: str, before: Sequence[str] = (), after: Sequence[str] = (), default: bool = True
) -> Callable[[Callable[[Graph], Replacements]], Pass]:
    """Make a function a pass; unless `default=False` every `function` runs it.

    Raises `ArgumentError` for an unknown stage, `PassError` for a name taken twice.
    """
    if stage not in STAGES:
        raise ArgumentError(
            f"pass: there is no stage {stage!r}.", fix=f"one of {', '.join(STAGES)}"
        )

    def register(run: Callable[[Graph], Replacements]) -> Pass:
        made = Pass(run.__name__, run, stage, tuple(before), tuple(after))
        if default:
            if made.name in PASSES:
                raise PassError(f"pass: `{made.name}` is registered twice.")
            PASSES[made.name] = made
        return made

    return register


def ordered(passes: Iterable[Pass]) -> list[Pass]:
    """Sort passes by stage and by what they say of each other.

    Raises `PassError` when the wishes contradict each other.
    """
    by_name: dict[str, Pass] = {}
    for one in passes:
        if not isinstance(one, Pass):
            raise ArgumentTypeError(
                f"passes: {one!r:.60} is not a pass.", fix="make it one with @sg.graph_pass(...)"
            )
        if by_name.setdefault(one.name, one) is not one:
            raise PassError(
                f"passes: two are called `{one.name}`.", fix="rename one, or default=False"
            )
    order = nx.DiGraph()
    order.add_nodes_from(by_name)
    for one in by_name.values():
        for other in by_name.values():
            if STAGES.index(one.stage) < STAGES.index(other.stage):
                order.add_edge(one.name, other.name)
        order.add_edges_from((one.name, name) for name in one.before if name in by_name)
        order.add_edges_from((name, one.name) for name in one.after if name in by_name)
    try:
        return [by_name[name] for name in nx.lexicographical_topological_sort(order)]
    except nx.NetworkXUnfeasible:
        circle = " -> ".join(edge[0] for edge in nx.find_cycle(order))
        raise PassError(
            f"passes: their order contradicts itself: {circle}.", fix="remove a before= or after="
        ) from None


def run_passes(graph: Graph, extra: Iterable[Pass] = ()) -> Graph:
    """Run the registered passes and extra ones on a graph."""
    for one in ordered([*PASSES.values(), *extra]):
        graph = one(graph)
    return graph
