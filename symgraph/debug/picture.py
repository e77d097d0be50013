"""What a page about a graph shows, as plain data: values, graphs, the steps between them.

Values have numbers that hold in every graph of a history, so that a page can follow them. The page
itself, which draws this, lies in the folder viewer/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from symgraph.cost.flops import node_flops
from symgraph.cost.formulas import Arguments
from symgraph.cost.liveness import tensor_types
from symgraph.cost.units import size_text
from symgraph.debug.formula import ATOM, Part, parts_of
from symgraph.debug.lines import attributes_text, graph_of, names_of
from symgraph.debug.memory import live_bytes
from symgraph.debug.scopes import Group, boxes, outline
from symgraph.dims import Dim, Size, collect_guards, evaluate, total
from symgraph.errors import PassError
from symgraph.function import Function
from symgraph.graph.graph import Graph, Step
from symgraph.graph.leaves import Constant, Input, Shared, SizeOf, short_text
from symgraph.graph.node import Value
from symgraph.graph.origin import module_of, place, source_line
from symgraph.graph.walk import topological

NOMINAL = 32  # for sizes that nobody gave a number
LONGEST = 60  # characters of an operand inside a formula; a longer one is called by its name
MOST_CHANGES = 400  # of one step that are listed

# the file that defines an operation -> the family that colours its box
FAMILIES = {
    **dict.fromkeys(
        ("arithmetic", "activation", "transcendental", "comparison", "floating"), "elementwise"
    ),
    **dict.fromkeys(("linalg", "conv"), "product"),
    **dict.fromkeys(
        ("reduce", "softmax", "norm", "losses", "pool", "avg_pool", "argreduce", "statistics",
         "prod_others", "lrn", "topk", "cumulative", "sorting"), "reduction",
    ),
    **dict.fromkeys(
        ("shape", "join", "pad", "slicing", "specify", "create", "index", "gather", "along_axis",
         "images", "manipulation", "diagonals", "scatter"),
        "shape",
    ),
    "random": "random",
}  # fmt: skip


def picture_of(what: Any, sizes: Mapping[Any, int] | None = None) -> dict[str, Any]:
    """Give the data of a page about a function, a graph, a value, a list of values or a module."""
    graph = graph_of(what, "draw")
    title = what.name if isinstance(what, Function) else "graph"
    graphs, steps = _distinct(graph)
    env = _numbers(graphs, sizes)
    picture = _Picture(graphs, env)
    first = {"reason": "as built", "graph": 0, "changes": [], "more": 0}
    return {
        "title": title,
        "sizes": {str(symbol): number for symbol, number in env.items()},
        "nodes": picture.nodes,
        "graphs": [picture.described(each) for each in graphs],
        "frames": [first, *(picture.step(step, number) for step, number in steps)],
    }


def _distinct(graph: Graph) -> tuple[list[Graph], list[tuple[Step, int]]]:
    """List the graphs of a history, and the steps with the number of the graph after each."""
    history = graph.history
    graphs = [history[0].before if history else graph]
    steps = []
    for step in history:
        before, after = graphs[-1].roots, step.after.roots
        if len(before) != len(after) or any(a is not b for a, b in zip(before, after)):
            graphs.append(step.after)
        steps.append((step, len(graphs) - 1))
    return graphs, steps


def _numbers(graphs: list[Graph], sizes: Mapping[Any, int] | None) -> dict[Dim, int]:
    """Give a number for each symbolic size: as told, else 32 or the least it can be."""
    every: list[Size] = []
    for graph in graphs:
        for value in graph.values:
            every.extend(size for type in tensor_types(value.type) for size in type.shape)
            every.extend(value.op.dims())
    arguments = Arguments([size for size in every if isinstance(size, Dim)])
    given = arguments.known("draw", sizes, {})
    return {
        symbol: given.get(symbol, max(NOMINAL, least))
        for symbol, least in zip(arguments.symbols, arguments.least)
    }


class _Picture:
    """Numbers values and describes each once."""

    def __init__(self, graphs: list[Graph], env: Mapping[Dim, int]) -> None:
        self.env = env
        every = topological(root for graph in graphs for root in (*graph.inputs, *graph.roots))
        leaves = [leaf for graph in graphs for leaf in graph.shared]
        drawn = {value for graph in graphs for value in (*boxes(graph), *graph.inputs)}
        kept = [v for v in dict.fromkeys([*every, *leaves]) if v in drawn or v in set(leaves)]
        self.number = {value: number for number, value in enumerate(kept)}
        formulas = self._formulas(every)
        self.nodes = [self._node(value, formulas.get(value, "")) for value in kept]

    def _formulas(self, values: list[Value]) -> dict[Value, str]:
        """Give each value in terms of short operands, and of names such as `\\node{12}`."""
        found: dict[Value, str] = {}

        def named(value: Value, part: Part) -> Part:
            found[value] = part.text
            return part if len(part.text) <= LONGEST else self._mark(value)

        parts = parts_of(values, self._mark, named)
        return {value: found.get(value, parts[value].text) for value in values}

    def _mark(self, value: Value) -> Part:
        return Part(rf"\node{{{self.number[value]}}}", ATOM)

    def _node(self, value: Value, formula: str) -> dict[str, Any]:
        types = tensor_types(value.type)
        written = total(type.nbytes for type in types)
        read = total(type.nbytes for v in set(value.inputs) for type in tensor_types(v.type))
        if value.op.view or not value.inputs:
            read = 0
        if value.op.view:
            written = 0
        return {
            "op": value.op.name,
            "label": value.label,
            "type": str(value.type),
            "family": family(value),
            "attributes": attributes_text(value) if value.inputs else "",
            "module": module_of(value.origins),
            "lines": [[place(origin), source_line(origin)] for origin in value.origins],
            "inputs": [self._operand(operand) for operand in value.inputs],
            "formula": formula,
            "flops": self._amount(_flops(value)),
            "read": self._amount(read, "B"),
            "written": self._amount(written, "B"),
            "view": value.op.view,
        }

    def _operand(self, value: Value) -> int | str:
        if value in self.number:
            return self.number[value]
        return short_text(value.op.array) if isinstance(value.op, Constant) else _size(value)

    def _amount(self, amount: Size | None, unit: str = "") -> list[Any] | None:
        """Give a formula as text, and its number for the nominal sizes."""
        if amount is None:
            return None
        return [size_text(amount, unit), evaluate(amount, self.env)]

    def described(self, graph: Graph) -> dict[str, Any]:
        """Describe one graph: its values in order, their names, groups, results and memory."""
        names = names_of(graph)
        held, live = live_bytes(graph, self.env)
        steps = [
            [self.number[value], bytes]
            for value, bytes in zip(graph.values, live)
            if value in self.number and not value.op.leaf
        ]
        return {
            "tree": self._tree(outline(graph))["parts"],
            "names": {self.number[v]: name for v, name in names.items() if v in self.number},
            "inputs": [self.number[value] for value in graph.inputs],
            "outputs": [self.number[value] for value in graph.outputs],
            "updates": [
                [self.number[value], self.number[target]] for target, value in graph.updates.items()
            ],
            "held": held,
            "memory": steps,
        }

    def _tree(self, root: Group) -> dict[str, Any]:
        made: dict[str, dict[str, Any]] = {}
        for group in reversed(_groups(root)):
            made[group.key] = {
                "key": group.key,
                "label": group.label,
                "parts": [
                    made[part.key] if isinstance(part, Group) else self.number[part]
                    for part in group.parts
                ],
            }
        return made[root.key]

    def step(self, step: Step, graph: int) -> dict[str, Any]:
        """Describe a step of history; only values that are in a graph have numbers."""
        changes = [
            [change.reason, self._about(change.old), self._about(change.new)]
            for change in step.changes[:MOST_CHANGES]
        ]
        more = len(step.changes) - len(changes)
        return {"reason": step.reason, "graph": graph, "changes": changes, "more": more}

    def _about(self, value: Value) -> list[Any]:
        if isinstance(value.op, Constant | SizeOf):
            return [str(self._operand(value)), self.number.get(value)]
        text = repr(value.op).removesuffix("()") if value.inputs else value.label
        return [text, self.number.get(value)]


def _groups(root: Group) -> list[Group]:
    """List a group and all groups inside, outer ones first."""
    found = [root]
    for group in found:
        found.extend(part for part in group.parts if isinstance(part, Group))
    return found


def family(value: Value) -> str:
    """Name the kind of operation, by the file that defines it."""
    if isinstance(value, Shared):
        return "shared"
    if isinstance(value.op, Input):
        return "input"
    if not value.inputs and value.op.leaf:
        return "literal"
    package, _, file = type(value.op).__module__.rpartition(".")
    if package == "symgraph.graph":  # an item of several results, updates attached to a value
        return "shape"
    return FAMILIES.get(file, "other") if package == "symgraph.ops" else "other"


def _flops(value: Value) -> Size | None:
    """Count FLOPs, where the operation says what it does."""
    try:
        with collect_guards():  # undecided sizes have been checked where the value was made
            return node_flops(value)
    except PassError:  # an operation of the user's own without `expand`
        return None


def _size(value: Value) -> str:
    return f"size({value.op.dim})" if isinstance(value.op, SizeOf) else value.label
