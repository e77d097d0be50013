"""Graphs for other tools: Graphviz text, and GraphML, which NetworkX, Gephi and yEd read."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from typing import Any

import networkx as nx

from symgraph.debug.lines import attributes_text, graph_of, names_of
from symgraph.debug.page import write_text
from symgraph.debug.picture import family
from symgraph.debug.scopes import Group, boxes, modules_of, outline
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.graph.origin import place

_COLOURS = {
    "elementwise": "#dff2e1", "product": "#dbe8fd", "reduction": "#fdeacb", "shape": "#eceef0",
    "random": "#eee2fb", "input": "#cdeff0", "shared": "#fbf0b8", "literal": "#f4f4f2",
    "other": "#fbdfea",
}  # fmt: skip
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # in XML


def to_dot(what: Any, path: str | os.PathLike[str] | None = None) -> str:
    """Give a function, graph, value, list of values or module as Graphviz text, and write it to a
    file if there is a `path`.

    Each module is a cluster. Raises `ArgumentTypeError` for anything that is no graph and
    `ArgumentError` for a path that cannot be written.

    >>> import symgraph as sg
    >>> print(sg.to_dot(sg.exp(sg.scalar("x"))).splitlines()[4])
      v0 [label="x\\nfloat32", fillcolor="#cdeff0"];
    """
    graph = graph_of(what, "to_dot")
    names = names_of(graph)
    number = {value: f"v{i}" for i, value in enumerate(boxes(graph))}
    lines = [
        "digraph symgraph {",
        "  rankdir=TB;",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];',
        '  graph [style=rounded, color="#cdd3d9", fontname="Helvetica", fontsize=11];',
    ]
    # depth first, with the closing brackets among what is still to do
    stack: list[Group | Value | str] = list(reversed(outline(graph).parts))
    depth, clusters = 1, 0
    while stack:
        part = stack.pop()
        if isinstance(part, str):
            depth -= 1
            lines.append("  " * depth + part)
        elif isinstance(part, Group):
            lines.append("  " * depth + f"subgraph cluster_{clusters} {{")
            depth, clusters = depth + 1, clusters + 1
            lines.append("  " * depth + f"label={_quoted(part.label)};")
            stack.extend(["}", *reversed(part.parts)])
        else:
            text = f"{_title(part, names, number)}\n{part.type}"
            colour = _COLOURS[family(part)]
            line = f'{number[part]} [label={_quoted(text)}, fillcolor="{colour}"];'
            lines.append("  " * depth + line)
    for value in number:
        lines.extend(
            f"  {number[operand]} -> {number[value]};"
            for operand in value.inputs
            if operand in number
        )
    for target, value in graph.updates.items():
        if target in number:
            lines.append(f"  {number[value]} -> {number[target]} [style=dashed, constraint=false];")
    text = "\n".join([*lines, "}"]) + "\n"
    if path is not None:
        write_text("to_dot", path, text)
    return text


def _title(value: Value, names: dict[Value, str], drawn: Mapping[Value, str]) -> str:
    """Give a leaf's name, or an operation with the literals among its operands."""
    if not value.inputs:
        return names[value]
    literals = [names[operand] for operand in value.inputs if operand not in drawn]
    return " ".join([value.op.name, ", ".join(literals)]).strip()


def _quoted(text: str) -> str:
    r"""Quote for Graphviz: only the quote and the backslash mean something inside quotes.

    >>> print(_quoted('a "b" \\N'))
    "a \"b\" \\N"
    """
    kept = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "")
    return '"' + kept.replace("\n", "\\n").replace("\x00", "") + '"'


def to_graphml(what: Any, path: str | os.PathLike[str] | None = None) -> str:
    """Give a function, graph, value, list of values or module as GraphML, and write it to a file if
    there is a `path`.

    Nodes have `op`, `label`, `attributes`, `type`, `module`, `line` and `role` (input, output,
    update), edges the `slot` of the operand; `nx.read_graphml` reads it back. Characters that XML
    has no way to write become `?`. Raises as `to_dot`.
    """
    text = _graphml(_plain(graph_of(what, "to_graphml")))
    if path is not None:
        write_text("to_graphml", path, text)
    return text


def _plain(graph: Graph) -> nx.MultiDiGraph:
    """Give the graph with strings and numbers only."""
    names = names_of(graph)
    modules = modules_of(graph)
    roles = dict.fromkeys(graph.inputs, "input")
    for target, value in graph.updates.items():
        roles[value] = f"update of {names[target]}"
    roles.update((value, "output") for value in graph.outputs)
    every = list(dict.fromkeys([*graph.inputs, *graph.values]))
    number = {value: f"v{i}" for i, value in enumerate(every)}
    plain = nx.MultiDiGraph()
    for value in every:
        about = {
            "op": value.op.name,
            "label": names[value],
            "attributes": attributes_text(value) if value.inputs else "",
            "type": str(value.type),
            "module": modules.get(value, ""),
            "line": place(value.origins[0]._replace(module="")) if value.origins else "",
            "role": roles.get(value, ""),
        }
        clean = {key: _FORBIDDEN.sub("?", text) for key, text in about.items()}
        plain.add_node(number[value], **clean)
    for value in every:
        for slot, operand in enumerate(value.inputs):
            plain.add_edge(number[operand], number[value], key=slot, slot=slot)
    return plain


def _graphml(plain: nx.MultiDiGraph) -> str:
    file = io.BytesIO()
    nx.write_graphml_xml(plain, file)
    return file.getvalue().decode("utf-8")
