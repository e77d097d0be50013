"""`latex`: expressions, functions and modules as formulas; large parts get names of their own."""

from __future__ import annotations

from collections import Counter
from typing import Any

from symgraph.debug.formula import ATOM, Part, is_transparent, parts_of, shown, symbol
from symgraph.debug.lines import HasExample, graph_of
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Constant, Shared, SizeOf
from symgraph.graph.node import Value
from symgraph.graph.origin import assigned_name
from symgraph.graph.registry import function_of

LONGEST = 160  # characters; a longer part becomes a named line of its own
REPEATED = 24  # characters; so does a part longer than this that stands in several places

_PARAMETERS = {"weight": "W", "bias": "b"}  # as layers name their variables, and as one writes them


@function_of
def latex(what: Any) -> str:
    r"""Give a value, a list of values, a function, a graph or a module as a LaTeX formula.

    One value is its formula alone. Anything else is equations: outputs by their names, and the new
    values of shared variables behind arrows. Casts and changes of shape are left out, as are
    factors of 1. Raises `ArgumentTypeError` for anything else.

    >>> import symgraph as sg
    >>> x, alpha = sg.scalar("x"), sg.scalar("alpha")
    >>> sg.latex(sg.exp(x) * (x + alpha))
    'e^{x} \\cdot \\left(x + \\alpha\\right)'
    >>> sg.latex(sg.nn.Dense(4, 8))
    'y = x \\, W + b'
    """
    graph = graph_of(what, "latex")
    symbols = _symbols(graph)
    uses = _uses(graph)
    roots = {shown(value) for value in graph.roots}
    named: list[str] = []

    def name(value: Value, part: Part) -> Part:
        length = len(part.text)
        if value in roots or not (length > LONGEST or (length > REPEATED and uses[value] > 1)):
            return part
        mark = f"t_{{{len(named) + 1}}}"
        named.append(f"{mark} &= {part.text}")
        return Part(mark, ATOM)

    def leaf(value: Value) -> Part:
        return Part(symbols[value], ATOM)

    parts = parts_of(graph.values, leaf, name)
    if isinstance(what, Value):
        rows = [*named, f"&{parts[what].text}"]
    else:
        names = ["y"] if isinstance(what, HasExample) else _names(graph)
        rows = [*named, *_equations(graph, names, parts, symbols)]
    if len(rows) == 1:
        return rows[0].replace("&", "", 1)
    return r"\begin{aligned} " + r" \\ ".join(rows) + r" \end{aligned}"


def _names(graph: Graph) -> list[str]:
    """Name each output as the user does."""
    first = [assigned_name(value.origins) for value in graph.outputs]
    # gradients have the lines of what they differentiate first, and the line of sg.grad last
    last = [assigned_name(value.origins[-1:]) for value in graph.outputs]
    return [name or "y" for name in (first if len({*first}) == len(first) else last)]


def _equations(
    graph: Graph, names: list[str], parts: dict[Value, Part], symbols: dict[Value, str]
) -> list[str]:
    """Give a row for each output and each update."""
    several = _distinct([symbol(name) for name in names], set(symbols.values()))
    rows = [f"{name} &= {parts[value].text}" for name, value in zip(several, graph.outputs)]
    for target, value in graph.updates.items():
        rows.append(rf"{symbols[target]} &\leftarrow {parts[value].text}")
    return rows


def _symbols(graph: Graph) -> dict[Value, str]:
    """Give each input and shared variable a symbol of its own."""
    leaves = [v for v in graph.values if not v.inputs and not isinstance(v.op, Constant | SizeOf)]
    every = list(dict.fromkeys([*graph.inputs, *graph.shared, *leaves]))
    names = [
        symbol(_PARAMETERS.get(v.label, v.label) if isinstance(v, Shared) else v.label)
        for v in every
    ]
    return dict(zip(every, _distinct(names, set())))


def _distinct(names: list[str], taken: set[str]) -> list[str]:
    """Number the names that occur more than once; avoid those that are taken."""
    counts = Counter(names)
    given = set(taken) | {name for name, count in counts.items() if count == 1}
    result = []
    for name in names:
        if counts[name] == 1 and name not in taken:
            result.append(name)
            continue
        number = 1
        while _indexed(name, number) in given:
            number += 1
        given.add(_indexed(name, number))
        result.append(_indexed(name, number))
    return result


def _indexed(name: str, number: int) -> str:
    if name.endswith("}") and "_{" in name:
        return f"{name[:-1]},{number}}}"
    return f"{name}_{{{number}}}"


def _uses(graph: Graph) -> Counter[Value]:
    """Count in how many places of the formulas a value stands."""
    found = Counter(shown(value) for value in graph.roots)
    for value in graph.values:
        if not is_transparent(value):
            found.update(shown(operand) for operand in value.inputs)
    return found
