"""`cost(x)`: what a graph costs, as formulas in its sizes, in sum and for each node."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Protocol

import networkx as nx

from symgraph.config import parse_bytes
from symgraph.cost.fit import largest_fit
from symgraph.cost.flops import node_flops
from symgraph.cost.formulas import Arguments, Sizes, compiled
from symgraph.cost.liveness import liveness, tensor_types
from symgraph.cost.table import cost_table
from symgraph.cost.units import exact_text, number_text
from symgraph.dims import Dim, Size, evaluate, free, maximum, total
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.frozen import frozen
from symgraph.graph.graph import Graph, collect_effects
from symgraph.graph.leaves import Input, Shared
from symgraph.graph.measured import measured_sizes
from symgraph.graph.node import Node, Value
from symgraph.graph.types import TensorType
from symgraph.graph.walk import leaves


class HasGraph(Protocol):
    """What has been compiled from a graph, and still has it."""

    @property
    def graph(self) -> Graph:
        """The graph that runs."""


@frozen
class NodeCost:
    """One node: its FLOPs, and the bytes of its operands and of its result.

    A view (`Op.view`) reads and writes nothing. An operand that stands in two slots is read once.
    """

    node: Value
    flops: Size
    read: Size
    written: Size


@frozen
class Numbers:
    """A cost for sizes that have numbers; `peak` is the least memory it can run in, in bytes."""

    flops: int
    read: int
    written: int
    parameters: int
    peak: int

    @property
    def moved(self) -> int:
        """The bytes read and written."""
        return self.read + self.written

    @property
    def intensity(self) -> float:
        """FLOPs for each byte read or written."""
        return self.flops / self.moved if self.moved else 0.0


@frozen
class CriticalPath:
    """The chain of values that need each other with the most FLOPs, and their sum."""

    values: tuple[Value, ...]
    flops: int


@frozen(eq=False)
class Cost:
    """What a graph costs. Every number is exact and a formula in the sizes, but for `peak`.

    `flops` counts as the table in cost/flops.py says, `read` and `written` the bytes of operands
    and results, `parameters` the numbers in all shared variables that are read. The peak memory is
    at least the largest of `peaks`: that much is alive at once when the values are computed in
    their order. Workspace inside operations comes on top.

    >>> import symgraph as sg
    >>> B = sg.dim("B")
    >>> c = sg.cost(sg.matmul(sg.tensor("x", (B, 10)), sg.shared([[1.0]] * 10)))
    >>> print(c.flops, c.parameters, c.peak, c.max_dim(B, "1 kB"))
    20*B 10 44*B + 40 21
    """

    graph: Graph
    nodes: tuple[NodeCost, ...]
    flops: Size
    read: Size
    written: Size
    parameters: int
    peaks: tuple[Size, ...]

    @property
    def peak(self) -> Size:
        """The bytes of memory that are needed at least, as one formula."""
        return maximum(*self.peaks)

    @property
    def sizes(self) -> tuple[Dim, ...]:
        """The sizes that the formulas depend on."""
        return self._arguments.symbols

    def evaluate(self, sizes: Sizes | None = None, /, **named: int) -> Numbers:
        """Give the cost in numbers: `evaluate(B=128)`, or by size, `evaluate({B: 128})`.

        Raises `ArgumentError` for a size that is missing, unknown or too small.

        >>> import symgraph as sg
        >>> sg.cost(sg.exp(sg.tensor("x", (sg.dim("B"), 3)))).evaluate(B=2).flops
        6
        """
        values = self._arguments.take("evaluate", sizes, named)
        flops, read, written, peak = self._compute(*values)
        return Numbers(flops, read, written, self.parameters, peak)

    def max_dim(
        self, size: Dim | str, memory: int | str, sizes: Sizes | None = None, /, **named: int
    ) -> int:
        """Give the largest `size` whose peak memory fits into `memory` bytes, e.g. `"80 GB"`.

        Other sizes are given as for `evaluate`. The answer is exact for the formula, which is a
        lower bound; whether the graph admits that size (its guards) is not asked. Raises
        `ArgumentError` when nothing fits, when everything does, and when the peak does not depend
        on the size.
        """
        arguments = self._arguments
        symbol = arguments.find("max_dim", size)
        limit = bytes_argument("max_dim", memory)
        needed = frozenset().union(*map(free, self.peaks))
        if symbol not in needed:
            raise ArgumentError(
                f"max_dim: the peak memory does not depend on {symbol}.",
                details=[f"it is at least {exact_text(self.peaks)} bytes"],
            )
        others = arguments.known("max_dim", sizes, named)
        given = others.pop(symbol, None)
        needed -= {symbol, *others}
        missing = [str(other) for other in arguments.symbols if other in needed]
        if missing or given is not None:
            raise ArgumentError(
                f"max_dim: {symbol} is what is asked for, it has no number."
                if given is not None
                else f"max_dim: the other sizes need numbers: {', '.join(missing)}.",
                fix=f'max_dim("{symbol}", {memory!r}'
                + "".join(f", {name}=128" for name in missing) + ")",
            )  # fmt: skip
        found = largest_fit(self.peaks, symbol, others, limit)
        if found is None:
            raise ArgumentError(
                f"max_dim: no {symbol} fits into {number_text(limit, 'B')}.",
                details=[f"needed are at least {exact_text(self.peaks)} bytes"],
            )
        return found

    def critical_path(self, sizes: Sizes | None = None, /, **named: int) -> CriticalPath:
        """Give the longest chain of values by FLOPs, for sizes given as for `evaluate`.

        The values on it need each other one by one, however many others run beside them.
        """
        values = self._arguments.take("critical_path", sizes, named)
        env = dict(zip(self._arguments.symbols, values))
        weighted = nx.DiGraph()
        start = "start"  # before everything, so that the cost of any value stands on an edge
        costs: dict[Node, int] = {}
        for each in self.nodes:
            node = each.node.node
            costs[node] = evaluate(each.flops, env)
            for before in node.inputs or (start,):
                weighted.add_edge(before, node, weight=costs[node])
        path: list[Node] = nx.dag_longest_path(weighted, weight="weight")[1:]
        return CriticalPath(tuple(n.value for n in path), sum(costs[n] for n in path))

    def __str__(self) -> str:
        return cost_table(self)

    def __repr__(self) -> str:
        return f"<cost of {len(self.nodes)} values: {self.flops} FLOPs>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    @cached_property
    def _arguments(self) -> Arguments:
        return Arguments((self.flops, self.read, self.written, *self.peaks))

    @cached_property
    def _compute(self) -> Callable[..., tuple[int, ...]]:
        return compiled(self._arguments.symbols, (self.flops, self.read, self.written), self.peaks)


def cost(what: Value | Sequence[Value] | Graph | HasGraph) -> Cost:
    """Give what a value, several values, a graph or a compiled function costs, as formulas.

    Nothing is run. Updates attached to values are counted as `function` would run them. Raises
    `PassError` for an operation without `expand`, whose FLOPs nobody knows.

    >>> import symgraph as sg
    >>> x = sg.tensor("x", (sg.dim("B"), 3))
    >>> print(sg.cost((x * x).sum()).flops)
    6*B
    """
    graph = _graph_of(what)
    rows = tuple(_node_costs(graph.values))
    live = liveness(graph)
    read = (value.tensor.size for value in graph.values if isinstance(value, Shared))
    return Cost(
        graph,
        rows,
        flops=total(row.flops for row in rows),
        read=total(row.read for row in rows),
        written=total(row.written for row in rows),
        parameters=int(total(read)),
        peaks=live.peaks(),
    )


def _node_costs(values: Iterable[Value]) -> Iterable[NodeCost]:
    bytes_of: dict[tuple[TensorType, ...], Size] = {}

    def nbytes(types: tuple[TensorType, ...]) -> Size:
        found = bytes_of.get(types)
        if found is None:
            found = bytes_of[types] = total(type.nbytes for type in types)
        return found

    for value in values:
        if value.op.leaf or value.op.view:
            yield NodeCost(value, 0, 0, 0)
            continue
        operands = tuple(operand.tensor for operand in dict.fromkeys(value.inputs))
        written = nbytes(tensor_types(value.type))
        yield NodeCost(value, node_flops(value), nbytes(operands), written)


def _graph_of(what: Value | Sequence[Value] | Graph | HasGraph) -> Graph:
    if isinstance(what, Graph):
        return what
    if isinstance(what, Value):
        return _graph_between([what])
    graph = getattr(what, "graph", None)
    if isinstance(graph, Graph):
        return graph
    values = list(what) if isinstance(what, Sequence) and not isinstance(what, str) else [what]
    for value in values:
        if not isinstance(value, Value):
            raise ArgumentTypeError(
                f"cost: takes values, a graph or a compiled function, got {type(value).__name__}.",
                fix="sg.cost(loss), sg.cost([y, z]) or sg.cost(sg.function(...))",
            )
    return _graph_between(values)  # type: ignore[arg-type]


def _graph_between(values: Sequence[Value]) -> Graph:
    """Give the graph of values with the updates attached to them, as `function` would."""
    updates, _ = collect_effects(values)
    sizes = measured_sizes([*values, *updates.values()])
    found = leaves([*values, *updates.values(), *sizes.values()])
    return Graph([leaf for leaf in found if isinstance(leaf.op, Input)], values, updates, sizes)


def bytes_argument(what: str, memory: int | str) -> int:
    """Give a number of bytes from an int or a text such as "80 GB"; raises `ArgumentError`."""
    try:
        return parse_bytes(memory)
    except ValueError as problem:
        raise ArgumentError(f"{what}: the memory must be {problem}, got {memory!r}.") from None
