"""A graph as lines: one for each value that is computed, with names for all values.

Leaves go by their own names, made unique; computed values are numbered `%0, %1, ...`; literals and
sizes stand where they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from symgraph.errors import ArgumentTypeError
from symgraph.frozen import frozen
from symgraph.function import Function
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Constant, Input, Shared, SizeOf, short_text
from symgraph.graph.measured import measured_sizes
from symgraph.graph.node import Value
from symgraph.graph.walk import leaves


@frozen
class Line:
    """One computed value: its name, the operation with attributes, operands by name."""

    node: Value
    name: str
    operation: str
    operands: tuple[str, ...]

    @property
    def call(self) -> str:
        """The right-hand side: `sum(%3; axes=(0,))`."""
        inside = ", ".join(self.operands)
        attributes = self.operation
        return f"{self.node.op.name}({'; '.join(part for part in (inside, attributes) if part)})"


@runtime_checkable
class HasExample(Protocol):
    """What builds its graph on an input of its own: modules do, which stand further below."""

    def example(self) -> Value:
        """Build the graph."""
        ...


def graph_of(what: Any, asked: str = "show") -> Graph:
    """Give the graph of a function, a graph, a value, a sequence of values, or a module.

    Raises `ArgumentTypeError` in the name of the function that was `asked`.
    """
    if isinstance(what, Graph):
        return what
    if isinstance(what, Function):
        return what.graph
    if isinstance(what, HasExample) and not isinstance(what, type):
        what = what.example()
    values = [what] if isinstance(what, Value) else what
    if isinstance(values, Sequence) and values and all(isinstance(v, Value) for v in values):
        sizes = measured_sizes(values)
        found = leaves([*values, *sizes.values()])
        return Graph([leaf for leaf in found if isinstance(leaf.op, Input)], values, {}, sizes)
    raise ArgumentTypeError(
        f"{asked}: cannot show {type(what).__name__}.",
        fix="give a function, a graph, a value, a list of values or a module",
    )


def names_of(graph: Graph) -> dict[Value, str]:
    """Name every value of a graph."""
    names: dict[Value, str] = {}
    taken: dict[str, int] = {}
    number = 0
    for node in [*graph.inputs, *graph.shared, *graph.values]:
        if node in names:
            continue
        if isinstance(node.op, Constant):
            names[node] = short_text(node.op.array)
        elif isinstance(node.op, SizeOf):
            names[node] = f"size({node.op.dim})"
        elif isinstance(node.op, Input) or isinstance(node, Shared):
            count = taken[node.label] = taken.get(node.label, 0) + 1
            names[node] = node.label if count == 1 else f"{node.label}#{count}"
        else:
            names[node] = f"%{number}"
            number += 1
    return names


def attributes_text(node: Value) -> str:
    """Give the attributes of an operation as text, without its name and parentheses."""
    text = repr(node.op)
    return text[len(node.op.name) + 1 : -1] if text.startswith(node.op.name) else ""


def lines_of(graph: Graph, names: dict[Value, str]) -> list[Line]:
    """Give one line for each computed value, operands first."""
    return [
        Line(node, names[node], attributes_text(node), tuple(names[v] for v in node.inputs))
        for node in graph.values
        if node.inputs or names[node].startswith("%")
    ]
