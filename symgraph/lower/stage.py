"""Staging: what a reduction has computed for each element is kept for those who ask again.

A softmax needs the exponentials of a row twice: for their sum, and for the result. They are the
same scalars but for the axis along which they run. Where they are dear and a row is short, the loop
of the reduction keeps them in memory of the kernel's own, and later loops read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from symgraph.frozen import frozen
from symgraph.graph.dtypes import is_float
from symgraph.graph.index import Axis
from symgraph.graph.scalar import Scalar, scalar_order
from symgraph.graph.types import same_size
from symgraph.lower.linear import substitute
from symgraph.lower.nest import Nest, free_axes

DEAR = 8  # operations that cost a CPU more than to keep a value and to read it
ROOM = 1 << 16  # bytes of a kernel's stack
WIDEST = 8  # bytes of an element, at most


@frozen(eq=False)
class Staged:
    """`made` along the axis of a reduction is `used` along another axis of as many positions."""

    made: Scalar
    used: Scalar
    over: Axis
    along: Axis


def staged(
    nest: Nest,
    loops: Sequence[Axis],
    room: int = ROOM,
    dear: int = DEAR,
    vector: Axis | None = None,
    lanes: int = 1,
) -> tuple[Staged, ...]:
    """Find what is worth keeping in a nest; `loops` are the axes that open one after another.

    The loop that asks must open after all that the reduction depends on, and so after it. Where
    `lanes` positions of another axis, `vector`, are computed at once, each has room of its own.
    """
    order = nest.order()
    known, free = set(order), free_axes(order)
    found: dict[Scalar, Staged] = {}
    for node in order:
        if node.op != "reduce" or len(node.attr.axes) != 1 or nest.limits:
            continue
        (over,) = node.attr.axes
        for place, along in enumerate(loops):
            later = free[node].isdisjoint(loops[place:])
            if not isinstance(over.extent, int) or not same_size(over.extent, along.extent):
                continue
            if not later:
                continue
            twins = _along(along, over, node.args, free)
            for made in _outermost(node.args, twins, known):
                size = WIDEST * over.extent * (lanes if vector is not along else 1)
                fits = is_float(made.dtype) and size <= room and free[made] - {over} == free[node]
                if twins[made] not in found and fits and _cost(made, over, free) >= dear:
                    found[twins[made]] = Staged(made, twins[made], over, along)
                    room -= size
    return tuple(found.values())


def _along(
    along: Axis, over: Axis, roots: Iterable[Scalar], free: Mapping[Scalar, frozenset[Axis]]
) -> dict[Scalar, Scalar]:
    """Rebuild scalars along another axis; inner reductions over the same one keep their own."""

    def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
        if node is over.scalar():
            return along.scalar()
        return None if over in free[node] else node

    return substitute(roots, change)


def _outermost(
    roots: Iterable[Scalar], twins: Mapping[Scalar, Scalar], known: set[Scalar]
) -> Iterator[Scalar]:
    """Give the largest parts of scalars whose twins the nest asks for."""
    seen: set[Scalar] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if twins[node] is not node and twins[node] in known and node.op not in ("axis", "load"):
            yield node
        elif node.op != "reduce":
            stack.extend(node.args)


def _cost(node: Scalar, over: Axis, free: Mapping[Scalar, frozenset[Axis]]) -> int:
    """Count the operations that must be done again at every position along an axis."""
    return sum(
        over in free[one] and one.op not in ("axis", "load", "const")
        for one in scalar_order([node])
        if one.dtype != "int64"
    )
