"""`show`: a graph as typed text, one value a line, each operand defined above its use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.debug.lines import Line, graph_of, lines_of, names_of
from symgraph.function import Function
from symgraph.graph.origin import place

WIDTH = 100


def show(what: Any, *, origins: bool = True) -> str:
    """Give a function, graph or value as typed text with the user's lines, at most 100 columns.

    >>> import symgraph as sg
    >>> x = sg.tensor("x", (sg.dim("B"), 3))
    >>> print(sg.show(sg.exp(x).sum(axis=1), origins=False))
    graph(x: float32[B, 3])
      %0 = exp(x)                             : float32[B, 3]
      %1 = sum(%0; axis=(1,), keepdims=False) : float32[B]
      return %1
    """
    graph = graph_of(what)
    names = names_of(graph)
    lines = lines_of(graph, names)
    name = what.name if isinstance(what, Function) else "graph"
    inputs = ", ".join(f"{names[value]}: {value.type}" for value in graph.inputs)
    result = _wrapped(f"{name}({inputs})")
    for variable in graph.shared:
        result.extend(_wrapped(f"  shared {names[variable]}: {variable.type}"))
    result.extend(_computed(lines, origins))
    for size, value in graph.sizes.items():
        result.extend(_wrapped(f"  size {size} = {names[value]}"))
    for guard in _guards(graph):
        result.extend(_wrapped(f"  require {guard}"))
    for target, value in graph.updates.items():
        result.extend(_wrapped(f"  update {names[target]} <- {names[value]}"))
    if graph.outputs:
        result.extend(_wrapped(f"  return {', '.join(names[value] for value in graph.outputs)}"))
    return "\n".join(result)


def _computed(lines: Sequence[Line], origins: bool) -> list[str]:
    """Give the lines of computed values; places start in one column, modules where they fit."""
    calls = [f"{line.name} = {line.call}" for line in lines]
    width = min(max((len(call) for call in calls), default=0), 44)
    texts = [
        _cut(f"  {_cut(call, 60):<{width}} : {line.node.type}", WIDTH)
        for line, call in zip(lines, calls)
    ]
    if not origins:
        return texts
    known = [line.node.origins[0] if line.node.origins else None for line in lines]
    short = [_cut(place(where._replace(module="")), 40) if where else "" for where in known]
    longest = max((len(text) for text in texts), default=0)
    column = min(longest + 2, WIDTH - 2 - max((len(text) for text in short), default=0))
    result = []
    for text, where, brief in zip(texts, known, short):
        if where and len(text) < column:
            whole = place(where)
            fits = column + 2 + len(whole) <= WIDTH
            text = f"{text:<{column}}# {whole if fits else brief}"
        result.append(text)
    return result


def _guards(graph: Any) -> list[str]:
    signs = {"equal": "==", "less_equal": "<=", "divides": "divides"}
    return [f"{g.left} {signs[g.relation]} {g.right}" for g in graph.guards()]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _wrapped(text: str) -> list[str]:
    """Break a long line at commas, or at spaces where there are none; cut what has neither."""
    lines: list[str] = []
    start = 0
    while len(text) - start > WIDTH - 4 * bool(lines):
        stop = start + WIDTH - 4 * bool(lines)
        cut = max(text.rfind(", ", start + 4, stop) + 1, text.rfind(" ", start + 4, stop - 40))
        if cut <= 0:
            break
        lines.append(text[start:cut])
        start = cut + 1
    lines.append(text[start:])
    return [_cut("    " * bool(number) + line, WIDTH) for number, line in enumerate(lines)]
