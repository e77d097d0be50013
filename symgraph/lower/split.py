"""Cutting long reductions into parts, where few tasks would otherwise share the work.

How many parts there are depends on sizes and not on threads, so that results do not depend on the
machine's load.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from symgraph.dims import Dim, ceil_div, product
from symgraph.frozen import frozen
from symgraph.graph.index import Axis, Reduction, axis, m, position, take
from symgraph.graph.scalar import Scalar, scalar, scalar_order
from symgraph.lower.linear import replaced
from symgraph.lower.nest import Buffer, Element, Nest, Store, buffer, free_axes, place
from symgraph.lower.program import number

SHORT = 64  # elements of a reduction that is never cut
LONG = 32768  # of all reductions of a nest, from which on a CPU cuts them


@frozen
class Grain:
    """From where on a machine wants a reduction cut, and how finely.

    It is cut where fewer than `rows` results of rows, or `columns` groups of `lanes` columns, share
    `long` elements or more: into `rows` parts, or, if `shared`, into as many as make `rows` tasks
    of all groups together. Each part has `least` elements or more. With `spreads`, the few taps of
    a gradient of filters share a loop.
    """

    rows: int = 64  # more than threads, so that none waits for the last
    columns: int = 16
    lanes: int = 16
    long: int = LONG
    least: int = LONG // 2
    shared: bool = False
    spreads: bool = False


CPU = Grain(spreads=True)


def split(
    nest: Nest, nominal: Mapping[Dim, int], grain: Grain = CPU
) -> tuple[list[Nest], list[Buffer]]:
    """Cut long reductions that few tasks would share into parts, and a nest that joins them.

    Reductions over the same axes are cut together. Gives the nests in order and the buffers between
    them.
    """
    groups: dict[tuple[Axis, ...], list[Scalar]] = {}
    for node in nest.order():
        if node.op == "reduce":
            groups.setdefault(node.attr.axes, []).append(node)
    if not groups or nest.limits or not _are_independent(nest, groups.values()):
        return [nest], []
    firsts: list[Nest] = []
    between: list[Buffer] = []
    joined: dict[Scalar, Scalar] = {}
    for axes, reduces in groups.items():
        parts, outer = _cut(nest, reduces, axes, nominal, grain)
        if parts > 1:
            first, held = _partial(nest, reduces, parts, outer, len(between), joined)
            firsts.append(first)
            between += held
    if not firsts:
        return [nest], []
    return [*firsts, nest.changed(replaced(nest.roots, joined))], between


def _partial(
    nest: Nest, reduces: Sequence[Scalar], parts: int, outer: Axis, known: int,
    joined: dict[Scalar, Scalar],
) -> tuple[Nest, list[Buffer]]:  # fmt: skip
    """Give the nest of the parts of reductions, and note in `joined` how they are put together."""
    chunk = ceil_div(outer.extent, parts)
    part, inner = axis(parts, "part"), axis(chunk, f"{outer.name}_")
    start = m.mul(part.scalar(), position(chunk))
    moved = {outer.scalar(): m.add(start, inner.scalar())}
    limit = m.sub(position(outer.extent), start)
    stores: list[Store] = []
    between: list[Buffer] = []
    for node in reduces:
        own = tuple(inner if one is outer else one for one in node.attr.axes)
        done = replaced(node.args, moved)
        attr = Reduction(node.attr.monoid, own)
        partial = scalar("reduce", [done[a] for a in node.args], node.dtype, attr)
        over = axis(parts, "part")
        pieces = []
        for part_of, argument in enumerate(node.args):
            value = partial if len(node.args) == 1 else take(partial, part_of, argument.dtype)
            shape = (parts, *(one.extent for one in nest.axes))
            held = buffer(f"parts{known + len(between)}", argument.dtype, shape)
            between.append(held)
            index = (part.scalar(), *(one.scalar() for one in nest.axes))
            stores.append(Store(held, (part, *nest.axes), index, value))
            index = (over.scalar(), *(one.scalar() for one in nest.axes))
            pieces.append(scalar("load", index, argument.dtype, Element(held)))
        joined[node] = scalar("reduce", pieces, node.dtype, Reduction(node.attr.monoid, (over,)))
    name = f"{nest.name}_parts"
    return Nest(name, (part, *nest.axes), tuple(stores), {inner: limit}), between


def _are_independent(nest: Nest, groups: Iterable[Sequence[Scalar]]) -> bool:
    """Tell whether every reduction is one for each place, and none is made of another."""
    if any(len(store.axes) != len(nest.axes) for store in nest.stores):
        return False
    free, own = nest.free(), frozenset(nest.axes)
    every = [node for group in groups for node in group]
    below = scalar_order([argument for node in every for argument in node.args])
    return all(free[node] == own for node in every) and all(n.op != "reduce" for n in below)


def _cut(
    nest: Nest, reduces: Sequence[Scalar], axes: Sequence[Axis], nominal: Mapping[Dim, int],
    grain: Grain,
) -> tuple[int, Axis]:  # fmt: skip
    """Give the number of parts, and the axis that is cut."""
    kept = number(product([one.extent for one in nest.axes]), nominal)
    over = number(product([one.extent for one in axes]), nominal)
    loads = [place(n) for n in scalar_order(reduces) if n.op == "load"]
    rows = any(form.neighbours(one) for form in loads for one in axes)
    groups = kept if rows else kept // grain.lanes  # lanes go to the reduced axes, or to the others
    few = groups < (grain.rows if rows else grain.columns)
    inside = free_axes(scalar_order(reduces))
    along = [  # which every reduction walks: what is the same at all places is not made in parts
        one for one in axes if all(any(one in inside[a] for a in node.args) for node in reduces)
    ]
    rows_of = [inside[n.args[1]] for n in scalar_order(reduces) if n.op == "row"]
    along = [one for one in along if not any(one in each for each in rows_of)]  # rows stay whole
    if not along:
        return 0, axes[0]
    longest = max(along, key=lambda one: number(one.extent, nominal))
    outer = along[0] if number(along[0].extent, nominal) >= grain.rows else longest
    if not few or kept * over < grain.long or over < SHORT:
        return 0, outer
    wanted = grain.rows // max(groups, 1) if grain.shared else grain.rows
    return max(2, min(wanted, over // grain.least, number(outer.extent, nominal))), outer
