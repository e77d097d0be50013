"""Rows of a table looked up by their number."""

from __future__ import annotations

from typing import Any

from symgraph.dims import less
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from symgraph.graph.arguments import plain_int
from symgraph.graph.leaves import as_value, needs_integer
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample

_NUMBERS = arg(("B", 3), "int32", low=0, high=5)


@composite(
    samples=[
        sample(lambda i, w: F.embedding(i, w), _NUMBERS, arg((5, 2))),
        sample(
            lambda i, w: F.embedding(i, w, padding=0), arg((6,), "int64", values=(0, 2, 0, 1)),
            arg(("B", 4)), label="padding", gradient=(),
        ),
        sample(lambda i, w: F.embedding(i, w), arg((0,), "uint8"), arg((17, 1)), label="none"),
    ],
    bad=[
        bad(lambda i, w: F.embedding(i, w), arg((3,)), arg((5, 2)), error=DTypeError,
            match="must hold integers"),
        bad(lambda i, w: F.embedding(i, w), arg((3,), "int32"), arg((5,)),
            match="must be a matrix"),
        bad(lambda i, w: F.embedding(i, w, padding=5), arg((3,), "int32"), arg((5, 2)),
            error=ArgumentError, match="padding must be a row"),
    ],
)  # fmt: skip
def embedding(indices: Any, weight: Any, padding: int | None = None) -> Value:
    """Give the rows of a table that `indices` name: y[..., :] = weight[indices[...], :].

    The row `padding`, where it is given, gets no gradient; the others get the sum over the places
    that name them. Raises `DTypeError` unless the indices hold integers, `ShapeError` unless the
    weight is a matrix, `IndexRangeError` for a row that is not there, when the values are known.

    >>> embedding([1, 0], [[1.0, 2.0], [3.0, 4.0]]).eval().tolist()
    [[3.0, 4.0], [1.0, 2.0]]
    """
    chosen, table = needs_integer("embedding", as_value(indices)), as_value(weight)
    if table.ndim != 2:
        raise ShapeError(
            f"embedding: `{table.label}` must be a matrix, it has {table.ndim} axes.",
            details=operand_lines([table]),
            fix="one row for each number, e.g. (words, features)",
        )
    found = F.take(table, chosen, axis=0)
    if padding is None:
        return found
    row = plain_int("embedding", "padding", padding)
    if row < 0 or less(row, table.shape[0]) is False:
        raise ArgumentError(
            f"embedding: padding must be a row of the table, 0 to {table.shape[0] - 1}, got {row}.",
            fix="padding=0",
        )
    still = F.take(F.stop_gradient(table), row, axis=0)
    return F.where(F.expand_dims(F.equal(chosen, row), -1), still, found)
