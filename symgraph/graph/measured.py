"""Sizes that data decide: a fresh `Dim` for a number that the graph computes.

How many elements of a mask hold is a value like others, an integer scalar. `measured` gives a size
that will have this number; whatever is made with it is an ordinary operation with a size among its
attributes. Whoever runs a graph computes the number first (`lower/cuts.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from weakref import WeakValueDictionary

from symgraph.dims import Dim, Size, anonymous, free
from symgraph.dims.core import forget
from symgraph.graph.leaves import Constant, SizeOf
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.graph.walk import postorder, rebuild, topological

EACH = 8  # new sizes, after which what is remembered of formulas is let go: see `measured`
_made = itertools.count(1)

# by the identity of what is measured, which lives as long as its size: one value has one size
_known: WeakValueDictionary[int, Dim] = WeakValueDictionary()


def measured(count: Value, label: str, most: Size | None = None) -> Size:
    """Give the size whose number an integer scalar is: at least 0, at most `most`.

    The same value gives the same size; that of a constant is a number, that of a size this size.
    A size keeps its source, and with it the variables that it is computed from, but formulas that
    are remembered must not keep sizes for long.
    """
    if isinstance(count.op, Constant):
        return int(count.op.array)
    if isinstance(count.op, SizeOf):
        return count.op.dim
    found = _known.get(id(count))
    if found is None:
        if next(_made) % EACH == 0:
            forget()
        made = anonymous(label, most if isinstance(most, int) else None, count)
        found = _known.setdefault(id(count), made)
    return found


def measures(op: Op) -> tuple[Dim, ...]:
    """List the sizes in the attributes of an operation that data decide."""
    sizes = op.dims()
    if not sizes:
        return ()
    found = {one for size in sizes for one in free(size) if one.source is not None}
    return tuple(sorted(found, key=lambda one: one.order))


def measured_sizes(roots: Iterable[Value], stop: Iterable[Value] = ()) -> dict[Dim, Value]:
    """Give every size that the roots need and data decide, with what computes its number.

    Values in `stop` are looked at, but not what they are computed from.
    """
    found: dict[Dim, Value] = {}
    known = set(stop)
    waiting = list(roots)
    while waiting:
        order = topological(waiting, stop=known)
        known.update(order)
        new = {one: one.source for node in order for one in measures(node.op) if one not in found}
        found.update(new)
        waiting = [one for one in new.values() if one not in known]
    return found


def substituted(outputs: Iterable[Value], replace: Mapping[Value, Value]) -> dict[Value, Value]:
    """Rebuild values with some replaced, as `rebuild` does, and what decides their sizes, too.

    Where a replacement changes what a size is measured from, another size stands in its place.
    """
    roots = list(outputs)
    sizes = measured_sizes(roots)
    if not sizes:
        return rebuild(roots, replace)
    done: dict[Value, Value] = dict(replace)
    changed: dict[Dim, Size] = {}

    def change(op: Op) -> Op:
        return op.with_dims({one: changed[one] for one in measures(op) if one in changed})

    for size in _in_order(sizes):
        (new,) = _step([sizes[size]], done, change)
        if new is not sizes[size]:
            changed[size] = measured(new, size.name, (size.range or (0, None))[1])
    _step(roots, done, change)
    return done


def _step(roots: list[Value], done: dict[Value, Value], change: object) -> list[Value]:
    done.update(rebuild(roots, done, change))  # type: ignore[arg-type]
    return [done[one] for one in roots]


def _in_order(sizes: Mapping[Dim, Value]) -> list[Dim]:
    """Sort sizes so that one comes behind those that its own number depends on."""
    order = postorder(sizes.values(), lambda node: operands(node, sizes))
    places = {node: place for place, node in enumerate(order)}
    return sorted(sizes, key=lambda one: places[sizes[one]])


def operands(node: Value, sizes: Mapping[Dim, Value]) -> tuple[Value, ...]:
    """Give what must be known before a value: its operands, and the numbers of its sizes."""
    own = measures(node.op)
    if not own:
        return node.inputs
    return (*node.inputs, *(sizes[one] for one in own if one in sizes))
