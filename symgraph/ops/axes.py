"""Axes joined, inserted, removed, exchanged and moved: all of it reshaping and permuting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.dims import Size, equal, product
from symgraph.errors import ArgumentError, ShapeError
from symgraph.graph.arguments import distinct_axes, normal_axis
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample


def _is_one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


@composite(
    samples=[
        sample(lambda x: F.flatten(x), arg(("B", 3)), label="all"),
        sample(lambda x: F.flatten(x, 1), arg(("B", 3, 4)), label="tail"),
        sample(lambda x: F.flatten(x, 0, -2), arg((2, "B", 3)), label="head"),
        sample(lambda x: F.flatten(x), arg(()), label="scalar"),
    ],
    bad=[
        bad(lambda x: F.flatten(x, 3), arg((2, 3)), error=ArgumentError, match="flatten: axis 3"),
        bad(lambda x: F.flatten(x, 1, 0), arg((2, 3)), error=ArgumentError, match="before"),
    ],
)
def flatten(x: Any, start: int = 0, stop: int = -1) -> Value:
    """Join the axes from `start` to `stop` (both included) into one; a scalar gets one axis.

    Raises `ArgumentError` for a wrong axis, or when `stop` comes before `start`.
    """
    value = as_value(x)
    if not value.ndim:
        return F.reshape(value, (1,))
    first = normal_axis("flatten", start, value.ndim)
    last = normal_axis("flatten", stop, value.ndim)
    if last < first:
        raise ArgumentError(
            f"flatten: the last axis {last} comes before the first axis {first}.",
            fix="give start <= stop",
        )
    joined = product(value.shape[first : last + 1])
    return F.reshape(value, (*value.shape[:first], joined, *value.shape[last + 1 :]))


@composite(
    samples=[
        sample(lambda x: F.expand_dims(x, 0), arg(("B", 3)), label="front"),
        sample(lambda x: F.expand_dims(x, -1), arg(("B", 3)), label="back"),
        sample(lambda x: F.expand_dims(x, (0, 2)), arg(("B", 3)), label="several"),
        sample(lambda x: F.expand_dims(x, 0), arg(()), label="scalar"),
    ],
    bad=[
        bad(lambda x: F.expand_dims(x, 3), arg((2, 3)), error=ArgumentError, match="axis 3"),
        bad(lambda x: F.expand_dims(x, (0, 0)), arg((2,)), error=ArgumentError, match="twice"),
    ],
)
def expand_dims(x: Any, axis: int | Sequence[int] = 0) -> Value:
    """Insert axes of size 1 so that they stand at the positions `axis` of the result.

    Raises `ArgumentError` for a position that the result does not have.
    """
    value = as_value(x)
    count = len(axis) if isinstance(axis, Sequence) else 1
    ones = distinct_axes("expand_dims", axis, value.ndim + count)
    rest = iter(value.shape)
    return F.reshape(value, [1 if d in ones else next(rest) for d in range(value.ndim + count)])


@composite(
    samples=[
        sample(lambda x: F.squeeze(x), arg((1, "B", 1, 3)), label="all"),
        sample(lambda x: F.squeeze(x, 0), arg((1, "B", 1)), label="one"),
        sample(lambda x: F.squeeze(x, (0, -1)), arg((1, "B", 1)), label="two"),
        sample(lambda x: F.squeeze(x, 1), arg((3, "B")), sizes={"B": 1}, label="guarded"),
    ],
    bad=[
        bad(lambda x: F.squeeze(x, 0), arg((2, 3)), match="axis 0 of .* must have size 1"),
        bad(lambda x: F.squeeze(x, 2), arg((2, 3)), error=ArgumentError, match="axis 2"),
    ],
)
def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Value:
    """Remove axes of size 1: the ones named, or all whose size is written as 1.

    A symbolic size that is named is checked when it is known. Raises `ShapeError` for another
    size, `ArgumentError` for a wrong axis.
    """
    value = as_value(x)
    if axis is None:
        drop = tuple(d for d, size in enumerate(value.shape) if _is_one(size))
    else:
        drop = distinct_axes("squeeze", axis, value.ndim)
    for d in drop:
        if equal(value.shape[d], 1) is False:
            raise ShapeError(
                f"squeeze: axis {d} of `{value.label}` must have size 1, it has {value.shape[d]}.",
                details=[value.describe()],
                fix="name axes of size 1, or index one position: x[0]",
            )
    return F.reshape(value, [size for d, size in enumerate(value.shape) if d not in drop])


@composite(
    samples=[
        sample(lambda x: F.swapaxes(x, 0, 2), arg(("B", 3, 4)), label="outer"),
        sample(lambda x: F.swapaxes(x, -1, -2), arg((2, "B", 3)), label="inner"),
    ],
    bad=[bad(lambda x: F.swapaxes(x, 0, 2), arg((2, 3)), error=ArgumentError, match="axis 2")],
)
def swapaxes(x: Any, axis1: int, axis2: int) -> Value:
    """Exchange two axes. Raises `ArgumentError` for a wrong axis."""
    value = as_value(x)
    first = normal_axis("swapaxes", axis1, value.ndim)
    second = normal_axis("swapaxes", axis2, value.ndim)
    order = list(range(value.ndim))
    order[first], order[second] = second, first
    return F.permute_dims(value, order)


@composite(
    samples=[
        sample(lambda x: F.moveaxis(x, 0, -1), arg(("B", 3, 4)), label="one"),
        sample(lambda x: F.moveaxis(x, (0, 3), (2, 0)), arg((2, "B", 3, 4)), label="two"),
    ],
    bad=[
        bad(lambda x: F.moveaxis(x, 2, 0), arg((2, 3)), error=ArgumentError, match="axis 2"),
        bad(lambda x: F.moveaxis(x, (0, 1), 0), arg((2, 3)), error=ArgumentError, match="as many"),
    ],
)
def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Value:
    """Move axes to other positions; the rest keep their order.

    Raises `ArgumentError` for a wrong axis, or when the two differ in length.
    """
    value = as_value(x)
    start = distinct_axes("moveaxis", source, value.ndim)
    end = distinct_axes("moveaxis", destination, value.ndim)
    if len(start) != len(end):
        raise ArgumentError(
            f"moveaxis: needs as many destinations as sources, got {source!r} and {destination!r}.",
            fix="give both the same length",
        )
    moved = dict(zip(end, start))
    rest = iter(d for d in range(value.ndim) if d not in start)
    return F.permute_dims(
        value, [moved[d] if d in moved else next(rest) for d in range(value.ndim)]
    )
