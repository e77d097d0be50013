"""Running passes: each is a function Graph -> {old: new} in a named stage.

Stages follow each other in the order of `STAGES`; inside a stage passes may say `before` and
`after`; `networkx.topological_sort` gives the order. A pass that fails raises; a pass that gives
a value of another type raises; with `config.verify` the whole graph is checked after each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import networkx as nx

from symgraph.config import config
from symgraph.errors import ArgumentError, ArgumentTypeError, PassError, SymgraphError
from symgraph.frozen import frozen
from symgraph.graph.body import Body, nested, with_bodies
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Item, item
from symgraph.graph.node import Value, make
from symgraph.graph.types import TupleType
from symgraph.passes.rules import Rule
from symgraph.passes.sweeper import Sweeper, allowed

Replacements = Mapping[Value, Value]

STAGES = (
    "clean", "canonical", "stabilise", "fold", "precision", "remat", "layout", "place", "fuse",
)  # fmt: skip


@frozen
class Pass:
    """A named function Graph -> {old: new} with its place in the order."""

    name: str
    run: Callable[[Graph], Replacements]
    stage: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def __call__(self, graph: Graph) -> Graph:
        """Run on a graph and give the rewritten one, with a step of history."""
        try:
            found = self.run(graph)
        except SymgraphError:
            raise
        except Exception as problem:
            raise PassError(
                f"{self.name}: the pass failed: {type(problem).__name__}: {problem}"
            ) from problem
        if not isinstance(found, Mapping) or not all(isinstance(old, Value) for old in found):
            raise PassError(
                f"{self.name}: the pass gives {type(found).__name__} {found!r:.60}.",
                fix="give replacements, {old value: new value}, or {} where there is nothing to do",
            )
        return _verified(graph.rewrite(found, self.name), graph)


@frozen
class RulePass(Pass):
    """A pass that applies rules in one bottom-up sweep until none fires any more.

    The first rule that fires wins, and earlier rules are tried first.
    """

    rules: tuple[Rule, ...] = ()

    def __call__(self, graph: Graph, limit: int | None = None) -> Graph:
        """Run on a graph; with `limit` stop after so many applications of rules."""
        sweeper = Sweeper(self.name, self.rules, len(graph.values), limit)
        try:
            swept = graph.sweep(sweeper.step, self.name, sweeper.changes, sweeper.settled)
            return _verified(swept, graph)
        except PassError as problem:
            raise sweeper.explained(problem) from problem.__cause__

    def chosen(self, more: Iterable[Rule] = ()) -> RulePass:
        """Give the pass with the rules that `config.rewrites` lets through, and more before them.

        Raises `PassError` when two rules have one name.
        """
        sound = allowed()
        rules = tuple(one for one in (*more, *self.rules) if one.sound in sound)
        return replace(self, rules=_distinct(self.name, rules))


def _distinct(name: str, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    names = Counter(one.name for one in rules)
    twice = [one for one, count in names.items() if count > 1]
    if twice:
        raise PassError(f"pass: `{name}` has two rules called `{twice[0]}`.", fix="rename one")
    return rules


def _verified(graph: Graph, before: Graph) -> Graph:
    """Verify what a pass made of a graph that was verified: what is new in it."""
    same = all(one is other for one, other in zip(graph.roots, before.roots))
    if config.verify and not same:
        graph.verify(before)
    return graph


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
    for word, names in (("before", before), ("after", after)):
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ArgumentTypeError(
                f"pass: {word} must be a list of names of passes, got {names!r:.60}.",
                fix=f'{word}=["canonical"]',
            )

    def register(run: Callable[[Graph], Replacements]) -> Pass:
        made = Pass(run.__name__, run, stage, tuple(before), tuple(after))
        if default:
            if made.name in PASSES:
                raise PassError(f"pass: `{made.name}` is registered twice.")
            PASSES[made.name] = made
        return made

    return register


def rule_pass(name: str, *, stage: str, rules: Iterable[Rule]) -> RulePass:
    """Make rules a standard pass; raises `PassError` when two rules of it have one name."""
    made = RulePass(name, lambda graph: {}, stage, rules=_distinct(name, tuple(rules)))
    PASSES[name] = made
    return made


def ordered(passes: Iterable[Pass]) -> list[Pass]:
    """Sort passes by stage and by what they say of each other.

    Raises `PassError` when the wishes contradict each other.
    """
    by_name: dict[str, Pass] = {}
    for one in passes:
        if not isinstance(one, Pass):
            raise ArgumentTypeError(
                f"passes: {one!r:.60} is neither a pass nor a rule.",
                fix="make it one with @sg.graph_pass(...) or sg.rule(...)",
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


def pipeline(extra: Iterable[Pass | Rule] = ()) -> list[Pass]:
    """List the registered passes and extra ones as they run; extra rules join the last of rules.

    Rules that `config.rewrites` does not let through are left out. Raises `ArgumentTypeError` for
    what is neither a pass nor a rule.
    """
    if isinstance(extra, Pass | Rule) or not isinstance(extra, Iterable):
        raise ArgumentTypeError(
            f"passes: must be a list of passes and rules, got {type(extra).__name__}.",
            fix="passes=[rule]",
        )
    given = list(extra)
    rules = [one for one in given if isinstance(one, Rule)]
    passes = ordered([*PASSES.values(), *(one for one in given if not isinstance(one, Rule))])
    last = max(place for place, one in enumerate(passes) if isinstance(one, RulePass))
    return [
        one.chosen(rules if place == last else ()) if isinstance(one, RulePass) else one
        for place, one in enumerate(passes)
    ]


def run_passes(graph: Graph, passes: Iterable[Pass] | None = None) -> Graph:
    """Run passes on a graph: those of a `pipeline`, by default the registered ones."""
    planned = list(pipeline() if passes is None else passes)
    if config.verify:
        graph.verify()
    for one in planned:
        graph = one(graph)
    return _inside(graph, planned)


def _inside(graph: Graph, passes: Sequence[Pass]) -> Graph:
    """Run passes on the graphs inside operations, which then are others."""
    passes = [one for one in passes if one.stage != "remat"]  # a budget is of the whole step
    new: dict[Body, Body] = {}
    for body in dict.fromkeys(body for node in graph.values for body in nested(node.op)):
        outputs = run_passes(Graph(body.inputs, body.outputs), passes).outputs
        if any(one is not other for one, other in zip(outputs, body.outputs)):
            new[body] = Body(body.inputs, outputs)
    found: dict[Value, Value] = {}
    for node in graph.values:
        whole = node.inputs[0] if isinstance(node.op, Item) else node
        if new.keys().isdisjoint(nested(whole.op)):
            continue
        made = make(with_bodies(whole.op, new), *whole.inputs)
        if isinstance(node.op, Item):
            found[node] = item(made, node.op.index)
        elif not isinstance(node.type, TupleType):
            found[node] = made
    return _verified(graph.rewrite(found, "bodies"), graph) if found else graph
