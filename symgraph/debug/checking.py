"""`check`: the oracle beside an optimised function; the first value that differs has a name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import networkx as nx

from symgraph.debug.compare import difference, require_function, require_tolerance, tolerance
from symgraph.debug.kernels import KernelDifference, check_kernels
from symgraph.frozen import frozen
from symgraph.function import Function
from symgraph.graph.graph import Graph, Step
from symgraph.graph.interpret import interpret
from symgraph.graph.node import Value, operand_lines
from symgraph.passes.precision import bf16


@frozen
class Difference:
    """The first value of an optimised function that is not what the oracle computes.

    `written` is the value as the user wrote it, `value` what stands for it now, `error` how far
    apart they are, relative to the largest element. `blamed` is the value that every wrong output
    depends on, the nearest one to them, where several are wrong.
    """

    value: Value
    written: Value
    error: float
    blamed: Value | None = None

    def __str__(self) -> str:
        lines = [
            f"`{self.written.label}` differs by {self.error:.1e} of its largest element.",
            *(f"  {line}" for line in operand_lines([self.written])),
            f"  now computed as {self.value.op!r}",
        ]
        if self.blamed is not None:
            lines.append(f"  every wrong output comes through `{self.blamed.label}`")
        return "\n".join(lines)


def check(
    f: Function, *args: Any, rtol: float | None = None, **named: Any
) -> Difference | KernelDifference | None:
    """Run the graph as written beside the optimised one; give the first difference, or None.

    Arguments are those of a call; nothing is updated. `rtol` is what counts as rounding, relative
    to the largest element (by default by dtype: 1e-4 for float32). Values are compared in the
    order in which they are computed, wherever a value of the graph as written still has one that
    stands for it. Where these agree and the function is compiled, each of its kernels is run
    beside the oracle, on what the kernels before it computed: a `KernelDifference` names the first
    one that is wrong. What `precision="bf16"` rounds on purpose is no difference.

    >>> import symgraph as sg
    >>> x = sg.vector("x")
    >>> f = sg.function([x], sg.log(1 + sg.exp(x)))
    >>> sg.check(f, [0.0, 1.0]) is None
    True
    """
    require_function("check", f)
    require_tolerance("check", rtol)
    feeds, env = f.given(*args, **named)
    graph, steps = exact_part(f)
    stands = counterparts(f.built, graph, steps)
    expected: dict[Value, Any] = {}
    wrong: list[tuple[Value, Value, float]] = []
    right: set[Value] = set()

    def remember(written: Value, array: Any) -> None:
        if written in stands:
            expected.setdefault(stands[written], (written, array))

    def compare(value: Value, array: Any) -> None:
        written, oracle = expected.pop(value, (None, None))
        if written is None:
            return
        error = difference(oracle, array)
        if error > tolerance(oracle, rtol):
            wrong.append((value, written, error))
        else:
            right.add(value)

    interpret(
        f.built.roots, feeds, env, watch=remember, order=f.built.values, measured=f.built.sizes
    )
    interpret(graph.roots, feeds, env, watch=compare, order=graph.values, measured=graph.sizes)
    if not wrong:
        return f.with_executor(lambda executor: check_kernels(executor, feeds, env, rtol))
    value, written, error = wrong[0]
    return Difference(value, written, error, _blamed(graph, [one for one, _, _ in wrong], right))


def exact_part(f: Function) -> tuple[Graph, Sequence[Step]]:
    """Give the optimised graph and the steps to it, up to a pass that rounds on purpose."""
    if bf16 not in f.passes:
        return f.graph, f.history
    number = f.passes.index(bf16)
    return f.history[number].before, f.history[:number]


def counterparts(built: Graph, graph: Graph, steps: Sequence[Step]) -> dict[Value, Value]:
    """Give, for each value as written, the one of the optimised graph that stands for it."""
    final = set(graph.values)
    stands: dict[Value, Value] = {}
    for written in built.values:
        value: Value | None = written
        for step in steps:
            value = None if value is None else step.became.get(value)
        if value is not None and value in final:
            stands[written] = value
    return stands


def _blamed(graph: Graph, wrong: Sequence[Value], right: Collection[Value]) -> Value | None:
    """Find the nearest value through which every error comes that reaches a root.

    It is the lowest common dominator of the wrong roots among the values that an error can have
    reached: those computed from a wrong one, without those that were found to be right.
    """
    roots = [root for root in dict.fromkeys(graph.roots) if root in set(wrong)]
    if len(roots) < 2:
        return None
    flow = nx.DiGraph(graph.edges())
    flow.add_edges_from(("start", value.node) for value in wrong)
    flow.remove_nodes_from([value.node for value in right])
    reached = nx.descendants(flow, "start")
    flow = nx.DiGraph(flow.subgraph(reached).edges())
    flow.add_nodes_from(reached)
    flow.add_edges_from([("start", node) for node in flow if not flow.in_degree(node)])
    above: Mapping[Any, Any] = nx.immediate_dominators(flow, "start")
    chains = [_chain(above, root.node) for root in roots]
    common = [node for node in chains[0] if all(node in chain for chain in chains[1:])]
    found = next((node for node in common if node != "start"), None)
    return None if found is None else found.value


def _chain(above: Mapping[Any, Any], node: Any) -> list[Any]:
    """List what dominates a node, nearest first, itself included."""
    chain = [node]
    while above.get(node, node) is not node and above.get(node) is not None:
        node = above[node]
        chain.append(node)
    return chain
