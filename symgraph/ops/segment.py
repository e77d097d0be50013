"""Reductions over segments: rows that carry the same number are combined into one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symgraph.dims import Size
from symgraph.errors import ArgumentTypeError, DTypeError, IndexRangeError, ShapeError
from symgraph.graph.arguments import shape_argument
from symgraph.graph.dtypes import default_float, is_float, numpy_dtype
from symgraph.graph.leaves import as_value, cast_to, needs_integer
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import Bad, Sample, arg, bad, sample
from symgraph.graph.scalar import compute_dtype


def _samples(name: str) -> list[Sample]:
    def build(x: Value, segments: Value, count: Size) -> Value:
        found: Value = getattr(F, name)(x, segments, count)
        return found

    return [
        sample(
            lambda x, s: build(x, s, 4), arg(("B", 2), distinct=True),
            arg(("B",), "int32", values=(2, 0, 1, 3, 0)), sizes={"B": 5}, label="rows",
        ),
        sample(
            lambda x, s: build(x, s, x.shape[0]), arg((3, "C"), distinct=True),
            arg((3, "C"), "uint8", low=0, high=3), label="both",
        ),
        sample(lambda x, s: build(x, s, 2), arg((0, 3)), arg((0,), "int64"), gradient=(),
               label="empty"),
        sample(
            lambda x, s: build(x, s, 3), arg((17,), "int32", low=-3, high=4),
            arg((17,), "int32", low=0, high=3), label="whole",
        ),
    ]  # fmt: skip


def _bad(name: str) -> list[Bad]:
    def build(*operands: Any) -> Value:
        found: Value = getattr(F, name)(*operands)
        return found

    return [
        bad(lambda x, s: build(x, s, 3), arg((4,)), arg((4,)), error=DTypeError,
            match=f"{name}: .* must hold integers"),
        bad(lambda x, s: build(x, s, 3), arg((4,)), arg((5,), "int32"),
            match=f"{name}: .* must have the sizes of the first axes"),
        bad(lambda x, s: build(x, s, 1.5), arg((4,)), arg((4,), "int32"), error=ArgumentTypeError,
            match=f"{name}: .* must be an int"),
        bad(lambda x: build(x, [0, 2], 2), arg((2,)), error=IndexRangeError,
            match=f"{name}: .* index 2"),
        bad(lambda x, s: build(x, s, 3), arg((4,), "bool"), arg((4,), "int32"), error=DTypeError,
            match=f"{name}: .* numbers, not bool"),
    ]  # fmt: skip


def _given(name: str, x: Any, segments: Any, count: Any) -> tuple[Value, Value, Size]:
    """Give the rows with their numbers in a vector, and the number of segments."""
    value, numbers = as_value(x), needs_integer(name, as_value(segments))
    (size,) = shape_argument(name, (count,))
    if value.dtype == "bool":
        raise DTypeError(
            f"{name}: `{value.label}` must hold numbers, not bool.",
            fix='cast first: x.cast("int64")',
        )
    try:
        if numbers.ndim > value.ndim or not numbers.ndim:
            raise ShapeError("too many axes")
        numbers = F.broadcast_to(numbers, value.shape[: numbers.ndim])
    except ShapeError:
        raise ShapeError(
            f"{name}: `{numbers.label}` must have the sizes of the first axes of `{value.label}`.",
            details=operand_lines([value, numbers]),
            fix="there is one segment for each row",
        ) from None
    rows = F.reshape(value, (numbers.size, *value.shape[numbers.ndim :]))
    return rows, F.reshape(numbers, (-1,)), size


@composite(samples=_samples("segment_sum"), bad=_bad("segment_sum"))
def segment_sum(x: Any, segments: Any, count: Size) -> Value:
    """Add up the rows of each segment: y[s] = sum of x[i] where segments[i] = s, 0 of none.

    `segments` has an integer from 0 to `count` - 1 for each row (it may name several leading axes);
    they need no order. The dtype stays. Raises `IndexRangeError` for a number outside, `DTypeError`
    unless they are integers, `ShapeError` when there are more or fewer than rows.

    >>> import symgraph as sg
    >>> sg.segment_sum(sg.constant([1, 2, 3]), [0, 1, 0], 2).eval().tolist()
    [4, 2]
    """
    rows, numbers, size = _given("segment_sum", x, segments, count)
    return F.scatter_add((size, *rows.shape[1:]), numbers, rows)


@composite(samples=_samples("segment_prod"), bad=_bad("segment_prod"))
def segment_prod(x: Any, segments: Any, count: Size) -> Value:
    """Multiply the rows of each segment, 1 of none; otherwise as `segment_sum`."""
    rows, numbers, size = _given("segment_prod", x, segments, count)
    start = F.full((size, *rows.shape[1:]), 1, rows.dtype)
    return F.scatter(start, numbers, rows, mode="multiply")


@composite(samples=_samples("segment_max"), bad=_bad("segment_max"))
def segment_max(x: Any, segments: Any, count: Size) -> Value:
    """Take the largest of each segment; otherwise as `segment_sum`.

    Of no rows it is -inf, or the smallest integer. Equal largest ones share the gradient.
    """
    return _best("segment_max", x, segments, count)


@composite(samples=_samples("segment_min"), bad=_bad("segment_min"))
def segment_min(x: Any, segments: Any, count: Size) -> Value:
    """Take the smallest of each segment; of no rows it is inf, or the largest integer."""
    return _best("segment_min", x, segments, count)


def _best(name: str, x: Any, segments: Any, count: Size) -> Value:
    rows, numbers, size = _given(name, x, segments, count)
    high = name == "segment_min"
    if is_float(rows.dtype):
        worst: float = math.inf if high else -math.inf
    else:
        limits = np.iinfo(numpy_dtype(rows.dtype))
        worst = int(limits.max if high else limits.min)
    start = F.full((size, *rows.shape[1:]), worst, rows.dtype)
    return F.scatter(start, numbers, rows, mode=name.removeprefix("segment_"))


@composite(samples=_samples("segment_mean"), bad=_bad("segment_mean"))
def segment_mean(x: Any, segments: Any, count: Size) -> Value:
    """Average the rows of each segment, 0 of none; otherwise as `segment_sum`.

    Integers average in `config.float_dtype`, half precisions are added up in float32.
    """
    rows, numbers, size = _given("segment_mean", x, segments, count)
    dtype = rows.dtype if is_float(rows.dtype) else default_float()
    wide = compute_dtype(dtype)
    total = F.scatter_add((size, *rows.shape[1:]), numbers, cast_to(rows, wide))
    many = F.scatter_add((size,), numbers, F.ones(numbers.shape, wide))
    column = F.reshape(F.maximum(many, 1.0), (size, *(1,) * (rows.ndim - 1)))
    return cast_to(total / column, dtype)
