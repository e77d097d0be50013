"""Conditions on numbers that compiled code checks before it writes, as bools of the graph."""

from __future__ import annotations

from collections.abc import Iterable

from symgraph.dims import Size
from symgraph.graph.leaves import Constant
from symgraph.graph.node import Value
from symgraph.graph.registry import Functions


def indices_exist(F: Functions, pairs: Iterable[tuple[Value, Size]]) -> Value | None:
    """Tell whether indices exist, counted from either end, in axes of these sizes.

    None where all are constants, which were checked when they were given.
    """
    found: Value | None = None
    for index, size in pairs:
        if isinstance(index.op, Constant):
            continue
        count = F.size_of(size)
        place = F.cast(index, "int64")
        inside = F.all((place >= -count) & (place < count))
        found = inside if found is None else found & inside
    return found


def labels_exist(F: Functions, labels: Value, classes: Size) -> Value:
    """Tell whether all labels are classes, numbered from 0."""
    place = F.cast(labels, "int64")
    return F.all((place >= 0) & (place < F.size_of(classes)))
