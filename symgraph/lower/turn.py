"""What is computed along one axis and stored along another is stored as it is computed, and copied.

The kernel of windows over images whose channels are innermost has vectors of channels. Where its
result is wanted in plain order, each lane of a vector would go to a line of memory of its own, far
from the others. A copy can turn tiles (`Schedule.turned`), so that all lines are written whole: it
moves the result twice more, and takes a fraction of what the scattered stores took.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from symgraph.dims import Dim
from symgraph.graph.scalar import scalar
from symgraph.lower.linear import Linear, linear
from symgraph.lower.nest import BINDING, Buffer, Element, Nest, Store, buffer, plain_strides
from symgraph.lower.program import nbytes, number
from symgraph.lower.schedule import TURNED, Schedule

LARGE = 1 << 17  # bytes, from which on a second kernel is worth it


def turned_apart(
    nest: Nest, schedule: Schedule, nominal: Mapping[Dim, int], kept: Container[Buffer]
) -> tuple[Nest, Nest] | None:
    """Give a flattened nest that stores along its vectors, and the copy into place, if that pays.

    Buffers that are `kept` lie where others do, and are written directly.
    """
    vector, (store, *others) = schedule.vector, nest.stores
    if vector is None or others or vector not in store.axes or store.buffer in kept:
        return None
    form = linear(store.index[0])
    along = [one for one in store.axes if form.neighbours(one)]
    if (
        not any(node.op in BINDING for node in nest.order())  # else the nest itself turns
        or form.neighbours(vector)
        or any(atom.op != "axis" for atom in form.terms)
        or not any(number(one.extent, nominal) >= TURNED for one in along)
        or number(vector.extent, nominal) < TURNED
        or number(nbytes(store.buffer), nominal) < LARGE
        or store.buffer in nest.reads()
    ):
        return None
    axes = (*(one for one in store.axes if one is not vector), vector)
    shape = tuple(one.extent for one in axes)
    between = buffer(store.buffer.name, store.buffer.dtype, shape)
    steps = zip(axes, plain_strides(shape), strict=True)
    place = Linear({one.scalar(): step for one, step in steps}, 0).scalar()
    computed = Nest(nest.name, nest.axes, (Store(between, store.axes, (place,), store.value),),
                    nest.limits)  # fmt: skip
    read = scalar("load", (place,), store.value.dtype, Element(between))
    copied = Nest(nest.name, store.axes, (Store(store.buffer, store.axes, store.index, read),))
    return computed, copied
