"""Conditions on numbers that compiled code checks before it writes, as bools of the graph, and the
check of the reference, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size, less_equal
from symgraph.errors import IndexRangeError
from symgraph.graph.leaves import Constant
from symgraph.graph.node import Value
from symgraph.graph.registry import Functions

_SAME = frozenset({"broadcast_to", "permute_dims", "reshape"})


def indices_exist(F: Functions, pairs: Iterable[tuple[Value, Size]]) -> Value | None:
    """Tell whether indices exist, counted from either end, in axes of these sizes.

    None where all are constants in axes of known sizes, which were checked when they were given, or
    numbers that count what is there.
    """
    found: Value | None = None
    for repeated, size in pairs:
        index = _each_once(repeated)
        below = index.op.below_size()
        if below is not None and less_equal(below, size) is True:
            continue
        if isinstance(index.op, Constant) and isinstance(size, int):
            continue
        count = F.size_of(size)
        place = F.cast(index, "int64")
        inside = F.all((place >= -count) & (place < count))
        found = inside if found is None else found & inside
    return found


def _each_once(index: Value) -> Value:
    """Give the array that others repeat or put in another order: the same numbers, fewer of them.

    What may be repeated no times stays: numbers that nobody asks for may be wrong.
    """
    while index.op.name in _SAME:
        if index.op.name == "broadcast_to" and not all(
            less_equal(1, size) is True for size in index.shape
        ):
            break
        (index,) = index.inputs
    return index


def labels_exist(F: Functions, labels: Value, classes: Size) -> Value:
    """Tell whether all labels are classes, numbered from 0."""
    place = F.cast(labels, "int64")
    return F.all((place >= 0) & (place < F.size_of(classes)))


def places_that_exist(
    xp: ModuleType, name: str, indices: Sequence[Any], shape: Any, axis: int
) -> list[Any]:
    """Give indices counted from the front, or raise `IndexRangeError` about the first wrong one."""
    found = []
    for d, index in enumerate(indices, start=axis):
        size = shape[d]
        wrong = (index < -size) | (index >= size)
        if bool(xp.any(wrong)):
            place = tuple(int(i) for i in xp.argwhere(wrong)[0])
            raise IndexRangeError(
                f"{name}: index {int(index[place])} at position {place} is out of range for "
                f"axis {d} of size {size}.",
                fix=f"indices must be {-size} to {size - 1}" if size else "the axis is empty",
            )
        plain = index.astype(np.int64)
        found.append(xp.where(plain < 0, plain + size, plain))
    return found
