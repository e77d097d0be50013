"""What a notebook shows for a value: its type, its user line, and the graph below it."""

from __future__ import annotations

from html import escape

from symgraph.debug.show import show
from symgraph.errors import ArgumentTypeError
from symgraph.graph.node import Value
from symgraph.graph.origin import describe
from symgraph.graph.registry import function_of
from symgraph.graph.walk import topological

LIMIT = 60  # lines of graph shown


@function_of
def to_html(value: Value) -> str:
    """Give a small HTML block: name, type, user lines, and the graph folded below."""
    if not isinstance(value, Value):
        raise ArgumentTypeError(
            f"to_html: takes a value, got {type(value).__name__}.", fix="sg.show gives text of more"
        )
    text = show(value).splitlines()
    if len(text) > LIMIT:
        text = [*text[: LIMIT - 1], f"  ... {len(text) - LIMIT + 1} more lines"]
    made = "<br>".join(escape(describe(origin)) for origin in value.origins)
    count = len(topological([value]))
    return (
        f"<div><b>{escape(value.label)}</b>: <code>{escape(str(value.type))}</code>"
        f"<div style='color:gray'><small>{made}</small></div>"
        f"<details><summary>{count} nodes</summary>"
        f"<pre>{escape(chr(10).join(text))}</pre></details></div>"
    )
