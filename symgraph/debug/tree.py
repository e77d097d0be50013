"""`debugprint`: an expression as an indented tree, in Theano's manner; shared parts print once."""

from __future__ import annotations

from typing import Any

from symgraph.debug.lines import attributes_text, graph_of, names_of
from symgraph.graph.arguments import plain_int
from symgraph.graph.node import Value

DEEPEST = 40  # levels that are indented: the text of a long chain stays linear in its length


def debugprint(what: Any, *, depth: int | None = None) -> str:
    """Give the tree of each output; a value met again is referred to by its name.

    `depth` cuts the tree below so many levels. Levels beyond 40 are numbered, not indented further.

    >>> import symgraph as sg
    >>> x = sg.vector("x")
    >>> print(sg.debugprint((x + 1) * (x + 1)))
    multiply float32[x.shape[0]] %1
      add float32[x.shape[0]] %0
        x float32[x.shape[0]]
        1 float32
      %0
    """
    if depth is not None:
        depth = plain_int("debugprint", "depth", depth)
    graph = graph_of(what)
    names = names_of(graph)
    lines: list[str] = []
    printed: set[Value] = set()
    titles: list[tuple[Value, str]] = [(value, "") for value in graph.outputs]
    titles += [(value, f"update {names[target]} <- ") for target, value in graph.updates.items()]
    for root, title in titles:
        stack: list[tuple[Value, int, str]] = [(root, 0, title)]
        while stack:
            node, level, before = stack.pop()
            pad = _pad(level) + before
            if node in printed and node.inputs:
                lines.append(f"{pad}{names[node]}")
                continue
            printed.add(node)
            if not node.inputs and not names[node].startswith("%"):
                lines.append(f"{pad}{names[node]} {node.type}")
                continue
            attributes = attributes_text(node)
            inside = f"({attributes})" if attributes else ""
            lines.append(f"{pad}{node.op.name}{inside} {node.type} {names[node]}")
            if depth is not None and level + 1 >= depth and node.inputs:
                lines.append(_pad(level + 1) + "...")
                printed.discard(node)
                continue
            stack.extend((operand, level + 1, "") for operand in reversed(node.inputs))
    return "\n".join(lines)


def _pad(level: int) -> str:
    return "  " * min(level, DEEPEST) + (f"[{level}] " if level > DEEPEST else "")
