"""The table that `print(cost)` shows: the sums, then the nodes that cost the most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from symgraph.cost.units import largest_text, number_text, size_text
from symgraph.dims import evaluate_all, total
from symgraph.graph.node import Value
from symgraph.graph.origin import describe, place

if TYPE_CHECKING:
    from symgraph.cost.report import Cost, NodeCost

MOST_ROWS = 12
NOMINAL = 64  # the number of every size for which nodes are sorted, if nothing is known
WIDEST = 30  # characters of a type


def cost_table(cost: Cost) -> str:
    """Lay a cost out for people; coefficients are rounded to three digits."""
    lines = [f"cost of {len(cost.nodes)} values, {_sizes(cost)}"]
    sums = (
        ("FLOPs", size_text(cost.flops)),
        ("bytes read", size_text(cost.read, "B")),
        ("bytes written", size_text(cost.written, "B")),
        ("parameters", f"{cost.parameters:,}"),
        ("peak memory", f"at least {largest_text(cost.peaks, 'B')}"),
    )
    lines += [f"  {name:<13}  {text}" for name, text in sums]
    rows = _dearest(cost)
    if rows:
        lines += [
            "",
            *aligned([("operation", "result", "FLOPs", "bytes moved", "made at"), *rows]),
        ]
    return "\n".join(lines)


def _sizes(cost: Cost) -> str:
    names = ", ".join(map(str, cost.sizes))
    return f"for the size{'s' * (len(cost.sizes) > 1)} {names}" if names else "all sizes known"


def _dearest(cost: Cost) -> list[tuple[str, ...]]:
    """Give the rows of the nodes with the most FLOPs (then bytes), and one for all others."""
    env = {size: max((size.range or (0, None))[0] or 0, NOMINAL) for size in cost.sizes}
    working = [row for row in cost.nodes if not (row.node.op.leaf or row.node.op.view)]
    flops = evaluate_all([row.flops for row in working], env)
    moved = evaluate_all([total((row.read, row.written)) for row in working], env)
    ranked = sorted(range(len(working)), key=lambda i: (-flops[i], -moved[i]))
    shown = [_row(working[i]) for i in ranked[:MOST_ROWS]]
    rest = [working[i] for i in ranked[MOST_ROWS:]]
    if rest:
        shown.append((f"{number_text(len(rest))} others", "", *_amounts(rest), ""))
    return shown


def _row(row: NodeCost) -> tuple[str, ...]:
    node = row.node
    kind = str(node.type)
    if len(kind) > WIDEST:
        kind = kind[: WIDEST - 3] + "..."
    return node.op.name, kind, *_amounts([row]), made_at(node)


def made_at(node: Value) -> str:
    """Say where a node comes from: inside modules their names say more than the line's text."""
    if not node.origins:
        return ""
    first = node.origins[0]
    return place(first) if first.module else describe(first)


def _amounts(rows: list[NodeCost]) -> tuple[str, str]:
    moved = total(size for row in rows for size in (row.read, row.written))
    return size_text(total(row.flops for row in rows)), size_text(moved, "B")


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lay rows of equally many cells out as lines with columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    ]
