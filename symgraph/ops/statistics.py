"""Averages and variances over axes, made of other functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.dims import Size, maximum, product
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.graph.arguments import normal_axes
from symgraph.graph.dtypes import DType, default_float, has_gradient, is_complex, real_dtype
from symgraph.graph.leaves import as_value, cast_to
from symgraph.graph.node import Value
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import compute_dtype

Axis = int | Sequence[int] | None


@composite(
    samples=[
        sample(lambda x: F.mean(x), arg(("B", 3)), label="all"),
        sample(lambda x: F.mean(x, axis=0), arg(("B", 3)), label="rows"),
        sample(lambda x: F.mean(x, axis=(0, -1), keepdims=True), arg((2, "B", 17)), label="kept"),
        sample(lambda x: F.mean(x, axis=1), arg((3, 1)), label="one"),
        sample(lambda x: F.mean(x, axis=0), arg((4, 0)), label="none"),
        sample(lambda x: F.mean(x), arg((3, 4), "int32", low=-9, high=9), label="integers"),
        sample(lambda x: F.mean(x), arg((5,), "bool"), label="bools"),
        sample(lambda x: F.mean(x), arg((80, 9), "float16", low=900, high=990), label="half"),
        sample(lambda x: F.mean(x, axis=0), arg(("B", 2), "complex64"), label="complex"),
    ],
    bad=[bad(lambda x: F.mean(x, axis=2), arg((2, 3)), error=ArgumentError, match="mean: axis 2")],
)
def mean(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Value:
    """Average over axes (all of them by default): sum(x) / count.

    The count may be symbolic. Integers and bools average in `config.float_dtype`; half precisions
    accumulate in float32. An empty axis gives NaN. Raises `ArgumentError` for a wrong axis.

    >>> import symgraph as sg
    >>> float(sg.F.mean(sg.constant([1.0, 2.0, 6.0])).eval())
    3.0
    """
    value, dtype = _floating(x)
    over = normal_axes("mean", axis, value.ndim)
    total = F.sum(value, axis=over, keepdims=keepdims)
    return cast_to(total / F.size_of(_count(value, over), real_dtype(value.dtype)), dtype)


@composite(
    samples=[
        sample(lambda x: F.var(x), arg(("B", 3)), label="all"),
        sample(lambda x: F.var(x, axis=0, correction=1), arg(("B", 3)), label="corrected"),
        sample(lambda x: F.var(x, axis=(0, 1), correction=0.5), arg((4, 5)), label="fraction"),
        sample(lambda x: F.var(x, axis=1, keepdims=True), arg((2, 1025)), label="kept"),
        sample(lambda x: F.var(x), arg((50,), low=9999, high=10001), label="large"),
        sample(lambda x: F.var(x), arg((9,), "int32", low=-9, high=9), label="integers"),
        sample(lambda x: F.var(x, axis=0), arg((70, 2), "float16", low=0, high=9), label="half"),
        sample(lambda x: F.var(x, axis=1), arg((2, 4), "complex64"), label="complex"),
    ],
    bad=[
        bad(lambda x: F.var(x, axis=2), arg((2, 3)), error=ArgumentError, match="var: axis 2"),
        bad(lambda x: F.var(x, correction=-1), arg((2,)), error=ArgumentError, match="correction"),
        bad(lambda x: F.var(x, correction="n"), arg((2,)), error=ArgumentTypeError, match="number"),
    ],
)
def var(x: Any, axis: Axis = None, *, correction: float = 0, keepdims: bool = False) -> Value:
    """Compute the variance over axes: sum(|x - mean|^2) / (count - correction), in two passes.

    `correction=1` gives the unbiased estimate. Where the count is not above the correction the
    result is NaN or infinite. dtypes as for `mean`. Raises `ArgumentError` for a wrong axis or a
    negative correction.
    """
    value, dtype = _floating(x)
    over = normal_axes("var", axis, value.ndim)
    away = value - F.mean(value, axis=over, keepdims=True)
    squares = F.sum(_squared(away), axis=over, keepdims=keepdims)
    count = _corrected("var", _count(value, over), correction, real_dtype(value.dtype))
    return cast_to(squares / count, real_dtype(dtype))


@composite(
    samples=[
        sample(lambda x: F.std(x), arg(("B", 3)), label="all"),
        sample(lambda x: F.std(x, axis=0, correction=1), arg(("B", 3)), label="corrected"),
        sample(lambda x: F.std(x, axis=1, keepdims=True), arg((3, 17)), label="kept"),
        sample(lambda x: F.std(x), arg((40, 9), "float16", low=0, high=900), label="half"),
        sample(lambda x: F.std(x), arg((4,), "complex64"), label="complex"),
    ],
    bad=[bad(lambda x: F.std(x, axis=2), arg((2, 3)), error=ArgumentError, match="axis 2")],
)
def std(x: Any, axis: Axis = None, *, correction: float = 0, keepdims: bool = False) -> Value:
    """Compute the standard deviation over axes: the square root of `var`.

    Its gradient is not finite where all elements are equal. Raises as `var` does.
    """
    value, dtype = _floating(x)
    over = normal_axes("std", axis, value.ndim)
    variance = F.var(value, axis=over, correction=correction, keepdims=keepdims)
    return cast_to(F.sqrt(variance), real_dtype(dtype))


@composite(
    samples=[
        sample(lambda x: F.count_nonzero(x), arg(("B", 3), "int32", low=0, high=2), label="all"),
        sample(lambda x: F.count_nonzero(x, axis=0), arg((4, 3), "bool"), label="bools"),
        sample(
            lambda x: F.count_nonzero(x, axis=1, keepdims=True),
            arg((2, 4), values=(0.0, -0.0, 1.0, float("nan"))),
            label="floats",
        ),
    ],
    bad=[bad(lambda x: F.count_nonzero(x, 2), arg((2, 3)), error=ArgumentError, match="axis 2")],
)
def count_nonzero(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Value:
    """Count the elements along axes that are not zero, as int64; a NaN counts.

    Raises `ArgumentError` for a wrong axis.
    """
    value = as_value(x)
    over = normal_axes("count_nonzero", axis, value.ndim)
    true = value if value.dtype == "bool" else F.not_equal(value, 0)
    return F.sum(true, axis=over, keepdims=keepdims)


def _floating(x: Any) -> tuple[Value, DType]:
    """Give a value in the dtype in which it is averaged, and the dtype of the result."""
    value = as_value(x)
    dtype = value.dtype if has_gradient(value.dtype) else default_float()
    return cast_to(value, compute_dtype(dtype)), dtype


def _squared(value: Value) -> Value:
    """Give |x|^2."""
    if not is_complex(value.dtype):
        return value * value
    return F.square(F.real(value)) + F.square(F.imag(value))


def _count(value: Value, axis: tuple[int, ...]) -> Size:
    return product(value.shape[d] for d in axis)


def _corrected(name: str, count: Size, correction: Any, dtype: DType) -> Value:
    if isinstance(correction, bool) or not isinstance(correction, int | float):
        raise ArgumentTypeError(
            f"{name}: correction must be a number, got {type(correction).__name__}.",
            fix="0 divides by the count, 1 by the count - 1",
        )
    if not 0 <= correction < float("inf"):
        raise ArgumentError(
            f"{name}: correction must be finite and >= 0, got {correction}.",
            fix="0 divides by the count, 1 by the count - 1",
        )
    if correction == int(correction):
        return F.size_of(maximum(count - int(correction), 0), dtype)
    return F.maximum(F.size_of(count, dtype) - correction, 0.0)
