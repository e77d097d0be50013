"""`Graph`: everything between inputs and outputs, as a NetworkX graph that passes rewrite.

Nodes are `Node`s, one for each value, and the key of an edge is the operand's slot, so every
algorithm of NetworkX works on it unwrapped. A graph is not edited node by node: `rewrite` and
`sweep` give a new one with one more step of history.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

import networkx as nx

from symgraph.dims import Dim, Guard, collect_guards
from symgraph.errors import GraphError, PassError
from symgraph.frozen import frozen
from symgraph.graph.leaves import Attach, Input, Shared, check_update
from symgraph.graph.measured import operands
from symgraph.graph.node import Value
from symgraph.graph.walk import postorder, rewrite, sweep, topological


@frozen
class Change:
    """One replacement: the value, what came in its place, and the rule or pass that said so."""

    reason: str
    old: Value
    new: Value

    def __str__(self) -> str:
        return f"{self.reason}: {self.old.op!r} -> {self.new.op!r}"


@frozen
class Step:
    """One pass over a graph: the graphs before and after, and every change in order.

    `became` tells for each value of the graph before that was met on the way from the outputs what
    stands for it afterwards, whether or not anything still needs it.
    """

    reason: str
    before: Graph = field(repr=False)
    after: Graph = field(repr=False)
    changes: tuple[Change, ...] = field(repr=False)
    became: Mapping[Value, Value] = field(repr=False)

    def __str__(self) -> str:
        counts: dict[str, int] = {}
        for change in self.changes:
            counts[change.reason] = counts.get(change.reason, 0) + 1
        parts = [f"{name} x{count}" if count > 1 else name for name, count in counts.items()]
        why = f": {', '.join(parts)}" if parts and parts != [self.reason] else ""
        return f"{self.reason}{why} ({len(self.before.values)} -> {len(self.after.values)} nodes)"


@frozen
class _Past:
    """A step as a graph remembers it: without the graph after, which would be a cycle of
    references and keep every value until the garbage collector comes.
    """

    reason: str
    before: Graph
    changes: tuple[Change, ...]
    became: Mapping[Value, Value]


class Graph(nx.MultiDiGraph):  # type: ignore[misc]
    """The graph between `inputs` and `outputs` with the `updates` of shared variables.

    `sizes` are those that its data decide, each with the value that is its number.

    >>> import symgraph as sg
    >>> x = sg.vector("x")
    >>> g = Graph([x], [(x * x).sum()])
    >>> [node.op.name for node in g.values]
    ['input', 'multiply', 'sum']
    """

    def __init__(
        self,
        inputs: Sequence[Value] = (),
        outputs: Sequence[Value] = (),
        updates: Mapping[Shared, Value] | None = None,
        sizes: Mapping[Dim, Value] | None = None,
    ) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.updates = dict(updates or {})
        self.sizes = dict(sizes or {})
        self._past: tuple[_Past, ...] = ()
        self.values = tuple(self._ordered())
        self.add_nodes_from([value.node for value in self.values])
        self.add_edges_from(
            (operand.node, value.node, slot)
            for value in self.values
            for slot, operand in enumerate(value.inputs)
        )

    @property
    def roots(self) -> tuple[Value, ...]:
        """The outputs, the new values of updated shared variables, then the numbers of sizes."""
        return (*self.outputs, *self.updates.values(), *self.sizes.values())

    def _ordered(self) -> list[Value]:
        """List all values, operands first, and the number of a size before what has that size."""
        if not self.sizes:
            return topological(self.roots)
        return postorder(self.roots, lambda node: operands(node, self.sizes))

    @property
    def shared(self) -> tuple[Shared, ...]:
        """All shared variables that are read or updated, in a stable order."""
        read = [node for node in self.values if isinstance(node, Shared)]
        return tuple(dict.fromkeys([*read, *self.updates]))

    @property
    def history(self) -> tuple[Step, ...]:
        """How this graph came about: a step for each pass, first to last."""
        after = [*(past.before for past in self._past[1:]), self]
        return tuple(
            Step(past.reason, past.before, graph, past.changes, past.became)
            for past, graph in zip(self._past, after)
        )

    def guards(self) -> tuple[Guard, ...]:
        """Everything about sizes that could not be decided while building."""
        return tuple(dict.fromkeys(guard for node in self.values for guard in node.guards))

    def rewrite(self, replace: Mapping[Value, Value], reason: str) -> Graph:
        """Give the graph with values replaced simultaneously, and a step of history.

        Raises `PassError` when a replacement has another type than what it replaces.
        """
        known = {old: new for old, new in replace.items() if old is not new and old in self}
        for old, new in known.items():
            _check_replacement(old, new, reason)
        became = rewrite(self.roots, known) if known else dict(zip(self.values, self.values))
        changes = [
            Change(reason, old, became.get(old, known[old])) for old in self.values if old in known
        ]
        return self._after(reason, changes, became)

    def sweep(
        self,
        step: Callable[[Value], Value | None],
        reason: str,
        changes: Sequence[Change],
        settled: Callable[[], None] = lambda: None,
    ) -> Graph:
        """Give the graph swept bottom-up until `step` gives nothing new, and a step of history.

        `changes` is read after the sweep: the list in which `step` notes what it did. `settled` is
        called whenever a value of this graph has its final form.
        """
        became = sweep(self.roots, step, settled)
        return self._after(reason, changes, became)

    def _after(
        self, reason: str, changes: Sequence[Change], became: Mapping[Value, Value]
    ) -> Graph:
        """Give the graph of what the roots became; the same graph when nothing changed."""
        if all(became[root] is root for root in self.roots):
            made = copy.copy(self)  # shares its edges: graphs are not edited
        else:
            updates = {target: became[value] for target, value in self.updates.items()}
            sizes = {size: became[value] for size, value in self.sizes.items()}
            made = Graph(self.inputs, [became[value] for value in self.outputs], updates, sizes)
        made._past = (*self._past, _Past(reason, self, tuple(changes), became))
        return made

    def verify(self, verified: Graph | None = None) -> None:
        """Check every invariant of a graph; a broken one is a bug of a pass (`PassError`).

        Values of a graph that was `verified` before keep their types: they are immutable.
        """
        given = set(self.inputs)
        known = set(verified.values) if verified is not None else set()
        for node in self.values:
            if isinstance(node.op, Input) and node not in given:
                raise PassError(f"graph: `{node.label}` is needed but is not an input.")
            if node in known:
                continue
            with collect_guards():
                again = node.op.infer(*(operand.type for operand in node.inputs))
            if again != node.type:
                raise PassError(
                    f"graph: `{node.label}` is {node.type}, its operation now infers {again}.",
                    details=[node.describe()],
                )
        for target, value in self.updates.items():
            check_update(target, value)
        if not nx.is_directed_acyclic_graph(self):
            raise PassError("graph: there is a cycle.")

    def users(self, value: Value) -> list[Value]:
        """Give the values of this graph that have `value` as an operand."""
        return [node.value for node in self.successors(value.node)]

    def __contains__(self, item: object) -> bool:
        return bool(super().__contains__(item.node if isinstance(item, Value) else item))

    def copy(self, as_view: bool = False) -> nx.MultiDiGraph:
        """Give a plain NetworkX copy, free to be edited."""
        plain = nx.MultiDiGraph()
        plain.add_nodes_from(self.nodes(data=True))
        plain.add_edges_from(self.edges(keys=True))
        return plain


def _check_replacement(old: Value, new: Any, reason: str) -> None:
    if not isinstance(new, Value):
        raise PassError(f"{reason}: the replacement of `{old.label}` is no value: {new!r:.60}.")
    if old.type != new.type:
        raise PassError(
            f"{reason}: replaces {old.type} by {new.type}; a pass must keep types.",
            details=[old.describe(), new.describe()],
        )


def collect_effects(roots: Sequence[Value]) -> tuple[dict[Shared, Value], dict[Value, Value]]:
    """Find the updates attached to values (see `with_updates`) and how to strip them.

    Raises `GraphError` when two attached updates of one variable differ.
    """
    updates: dict[Shared, Value] = {}
    strip: dict[Value, Value] = {}
    for node in topological(roots):
        if not isinstance(node.op, Attach):
            continue
        strip[node] = node.inputs[0]
        for target, new in zip(node.op.targets, node.inputs[1:]):
            if not isinstance(target, Shared):
                raise GraphError(f"updates: `{target.label}` is not a shared variable.")
            if updates.setdefault(target, new) is not new:
                raise GraphError(
                    f"updates: `{target.label}` would be updated to two different values.",
                    details=[updates[target].describe(), new.describe()],
                    fix="use the layer once per function, or give the update yourself",
                )
    return updates, strip


def missing_inputs(inputs: Iterable[Value], roots: Sequence[Value]) -> list[Value]:
    """List the inputs that the roots need beyond the given ones."""
    given = set(inputs)
    return [node for node in topological(roots) if isinstance(node.op, Input) and node not in given]
