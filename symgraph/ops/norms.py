"""Norms of vectors and matrices, condition numbers and ranks; all made of other functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.dims import maximum, product
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.graph.arguments import distinct_axes, normal_axes
from symgraph.graph.dtypes import DType, has_gradient, numpy_dtype, real_dtype
from symgraph.graph.leaves import as_value, cast_to
from symgraph.graph.matrices import is_array, rtol_argument, squared
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import compute_dtype

Axis = int | Sequence[int] | None


def _wide(name: str, x: Any) -> tuple[Value, DType]:
    """Give a value in the dtype in which it is computed, and the (real) dtype of norms."""
    value = as_value(x)
    if not has_gradient(value.dtype):
        raise DTypeError(
            f"{name}: takes floats, not {value.dtype}.",
            details=operand_lines([value]),
            fix='cast first, e.g. x.cast("float32")',
        )
    return cast_to(value, compute_dtype(value.dtype)), real_dtype(value.dtype)


def _matrices(name: str, x: Any) -> tuple[Value, DType]:
    value, dtype = _wide(name, x)
    if value.ndim < 2:
        raise ShapeError(
            f"{name}: needs at least 2 axes (a matrix, or a stack of them).",
            details=operand_lines([value]),
            fix="use vector_norm for vectors",
        )
    return value, dtype


def _root(total: Value) -> Value:
    """Give the square root, with the gradient 0 at 0."""
    zero = F.equal(total, 0)
    return F.where(zero, 0, F.sqrt(F.where(zero, 1, total)))


def _powers(size: Value, order: float) -> Value:
    """Give |x|^p, with the gradient 0 at 0 where p > 0."""
    if order < 0:
        return F.pow(size, order)
    zero = F.equal(size, 0)
    return F.where(zero, 0, F.pow(F.where(zero, 1, size), order))


@composite(
    samples=[
        sample(lambda x: F.vector_norm(x), arg(("B", 3)), label="all"),
        sample(lambda x: F.vector_norm(x, axis=1), arg((2, "N", 3)), label="rows"),
        sample(lambda x: F.vector_norm(x), arg((3,), "complex64"), label="complex"),
        sample(
            lambda x: F.vector_norm(x, axis=(0, 2), keepdims=True, ord=3),
            arg((2, 4, 3), low=0.2),
            label="third",
        ),
        sample(lambda x: F.vector_norm(x, ord=math.inf), arg((5,), distinct=True), label="largest"),
        sample(
            lambda x: F.vector_norm(x, ord=-math.inf, axis=0),
            arg((5, 2), distinct=True),
            label="smallest",
        ),
        sample(lambda x: F.vector_norm(x, ord=1), arg(("N",)), sizes={"N": 0}, label="empty"),
        sample(
            lambda x: F.vector_norm(x, ord=0),
            arg((4,), values=(0.0, 1.0, -2.0, 0.0)),
            gradient=(),
            label="count",
        ),
        sample(lambda x: F.vector_norm(x, ord=-1.5), arg((4,), low=0.3), label="negative"),
    ],
    bad=[
        bad(
            lambda x: F.vector_norm(x, ord="fro"),
            arg((3,)),
            error=ArgumentTypeError,
            match="vector_norm: ord must be a number",
        ),
        bad(lambda x: F.vector_norm(x, axis=1), arg((3,)), error=ArgumentError, match="axis 1"),
        bad(lambda x: F.vector_norm(x), arg((3,), "int32"), error=DTypeError, match="takes floats"),
    ],
)
def vector_norm(x: Any, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Value:
    """Give (sum over i of |x[i]|^ord)^(1/ord) over axes, all of them by default.

    `ord` may be inf (largest), -inf (smallest) or 0 (count of what is not 0). The gradient of the
    norm of 0 is 0. Raises `ArgumentTypeError` unless ord is a number, `ArgumentError` for a wrong
    axis, `DTypeError` for integers.

    >>> vector_norm([3.0, 4.0]).eval().tolist()
    5.0
    """
    if isinstance(ord, bool) or not isinstance(ord, int | float | np.number):
        raise ArgumentTypeError(
            f"vector_norm: ord must be a number, got {ord!r:.40}.", fix="ord=2, or matrix_norm"
        )
    value, dtype = _wide("vector_norm", x)
    over = normal_axes("vector_norm", axis, value.ndim)
    return cast_to(_norm(value, over, keepdims, float(ord)), dtype)


def _norm(value: Value, over: tuple[int, ...], keepdims: bool, order: float) -> Value:
    if order == 2:
        return _root(F.sum(squared(value), axis=over, keepdims=keepdims))
    size = F.abs(value)
    if order == math.inf:
        return _largest(size, over, keepdims)
    if order == -math.inf:
        return F.min(size, axis=over, keepdims=keepdims)
    if order == 0:
        counted = F.cast(F.not_equal(value, 0), size.dtype)
        return F.sum(counted, axis=over, keepdims=keepdims)
    if order == 1:
        return F.sum(size, axis=over, keepdims=keepdims)
    return _powers(F.sum(_powers(size, order), axis=over, keepdims=keepdims), 1 / order)


def _largest(size: Value, over: tuple[int, ...], keepdims: bool) -> Value:
    """Give the largest of numbers that are not negative; of none, 0."""
    if not over:
        return size
    count = product(size.shape[d] for d in over)
    if isinstance(count, int) and not count:
        return F.sum(size, axis=over, keepdims=keepdims)
    return F.max(size, axis=over, keepdims=keepdims)


@composite(
    samples=[
        sample(lambda x: F.norm(x), arg(("B", 3)), label="all"),
        sample(lambda x: F.norm(x, 3, axis=-1), arg(("B", 3), low=0.3), label="vectors"),
        sample(
            lambda x: F.norm(x, "nuc", axis=(0, 2), keepdims=True), arg((3, 2, 4)), label="matrices"
        ),
        sample(lambda x: F.norm(x, 1), arg((3, 4), distinct=True), label="matrix"),
    ],
    bad=[
        bad(lambda x: F.norm(x, 2), arg((2, 2, 2)), error=ArgumentError, match="norm: axis must"),
        bad(
            lambda x: F.norm(x, 2, axis=(0, 1, 2)),
            arg((2, 2, 2)),
            error=ArgumentError,
            match="norm: axis must",
        ),
    ],
)
def norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Value:
    """Give NumPy's `norm`: of vectors along one axis, of matrices along two.

    Without `ord` the square root of the sum of squares, without an axis over all of them; with
    `ord` and without an axis, x is one vector or one matrix. Raises `ArgumentError` for other axes,
    else as `vector_norm` and `matrix_norm`.

    >>> norm([[3.0, 0.0], [0.0, 4.0]]).eval().tolist()
    5.0
    """
    value = as_value(x)
    over = normal_axes("norm", axis, value.ndim)
    if ord is None:
        return F.vector_norm(value, axis=over, keepdims=keepdims)
    if len(over) == 1:
        return F.vector_norm(value, axis=over, keepdims=keepdims, ord=ord)
    if len(over) != 2:
        raise ArgumentError(
            f"norm: axis must name one axis or two where ord is given, there are {len(over)}.",
            fix="axis=-1 for vectors, axis=(-2, -1) for matrices",
        )
    rows, columns = over if axis is None else distinct_axes("norm", axis, value.ndim)
    found = F.matrix_norm(F.moveaxis(value, (rows, columns), (-2, -1)), ord=ord)
    return F.expand_dims(found, over) if keepdims else found


ORDERS = ("fro", "nuc", math.inf, -math.inf, 1, -1, 2, -2)


@composite(
    samples=[
        sample(lambda x: F.matrix_norm(x), arg(("B", 3, 4)), label="fro"),
        sample(lambda x: F.matrix_norm(x, ord="nuc"), arg((3, "N")), label="nuc"),
        sample(lambda x: F.matrix_norm(x, ord=2, keepdims=True), arg((2, 3, 3)), label="two"),
        sample(lambda x: F.matrix_norm(x, ord=-2), arg((2, 3)), label="minus two"),
        sample(lambda x: F.matrix_norm(x, ord=1), arg((3, 4), distinct=True), label="one"),
        sample(
            lambda x: F.matrix_norm(x, ord=-math.inf, keepdims=True),
            arg((3, 4), distinct=True),
            label="minus inf",
        ),
    ],
    bad=[
        bad(
            lambda x: F.matrix_norm(x, ord=3),
            arg((2, 2)),
            error=ArgumentError,
            match="matrix_norm: ord must be one of",
        ),
        bad(lambda x: F.matrix_norm(x), arg((3,)), match="matrix_norm: needs at least 2 axes"),
        bad(lambda x: F.matrix_norm(x), arg((2, 2), "int32"), error=DTypeError, match="floats"),
    ],
)
def matrix_norm(x: Any, *, keepdims: bool = False, ord: Any = "fro") -> Value:
    """Give norms of matrices, over the last two axes.

    | ord | norm |
    |---|---|
    | "fro" | square root of the sum of squares |
    | "nuc" | sum of the singular values |
    | 2, -2 | largest, smallest singular value |
    | 1, -1 | largest, smallest sum of absolute values of a column |
    | inf, -inf | largest, smallest sum of absolute values of a row |

    The gradient of the "fro" norm of 0 is 0. Raises `ArgumentError` for another ord, `ShapeError`
    for vectors, `DTypeError` for integers.

    >>> matrix_norm([[3.0, 0.0], [0.0, 4.0]]).eval().tolist()
    5.0
    """
    if isinstance(ord, bool) or not isinstance(ord, str | int | float) or ord not in ORDERS:
        raise ArgumentError(
            f"matrix_norm: ord must be one of {', '.join(map(str, ORDERS))}, got {ord!r:.40}.",
            fix='ord="fro"',
        )
    value, dtype = _matrices("matrix_norm", x)
    found = _matrix_norm(value, ord)
    if keepdims:
        found = F.reshape(found, (*found.shape, 1, 1))
    return cast_to(found, dtype)


def _matrix_norm(value: Value, order: Any) -> Value:
    rows, columns = value.ndim - 2, value.ndim - 1
    if order == "fro":
        return _root(F.sum(squared(value), axis=(rows, columns)))
    if order in ("nuc", 2, -2):
        values = F.svdvals(value)
        last = (values.ndim - 1,)
        if order == "nuc":
            return F.sum(values, axis=last)
        return _largest(values, last, False) if order == 2 else F.min(values, axis=last)
    sums = F.sum(F.abs(value), axis=rows if abs(order) == 1 else columns)
    last = (sums.ndim - 1,)
    return _largest(sums, last, False) if order > 0 else F.min(sums, axis=last)


@composite(
    samples=[
        sample(
            lambda x: F.condition_number(x + 4 * F.eye(3, dtype=x.dtype)),
            arg(("B", 3, 3)),
            label="two",
        ),
        sample(lambda x: F.condition_number(x, -2), arg((2, "N")), label="minus two"),
        sample(
            lambda x: F.condition_number(x + 4 * F.eye(2, dtype=x.dtype), "fro"),
            arg((2, 2)),
            label="fro",
        ),
        sample(
            lambda x: F.condition_number(x, 1),
            arg((2, 2), values=(1.0, 2.0, 2.0, 4.0)),
            gradient=(),
            label="singular",
        ),
    ],
    bad=[
        bad(
            lambda x: F.condition_number(x, "l2"),
            arg((2, 2)),
            error=ArgumentError,
            match="ord must be one of",
        ),
        bad(
            lambda x: F.condition_number(x),
            arg((3,)),
            match="condition_number: needs at least 2 axes",
        ),
        bad(lambda x: F.condition_number(x, 1), arg((2, 3)), match="condition_number: .*square"),
    ],
)
def condition_number(x: Any, p: Any = None) -> Value:
    """Give condition numbers of matrices: norm(x) * norm(x^-1), with the norms of `matrix_norm`.

    By default 2: the ratio of the largest and the smallest singular value, also where x is not
    square. A singular matrix gives inf. Raises as `matrix_norm`, and `ShapeError` for matrices that
    are not square where p is not 2 or -2.
    """
    value, dtype = _matrices("condition_number", x)
    order = 2 if p is None else p
    if order in (2, -2):
        values = F.svdvals(value)
        first, last = values[..., 0], values[..., -1]
        found = first / last if order == 2 else last / first
    else:
        found = F.matrix_norm(value, ord=order) * F.matrix_norm(F.inv(value), ord=order)
    # of a singular matrix the inverse is NaN
    missing = F.logical_and(F.isnan(found), F.all(F.isfinite(value), axis=(-2, -1)))
    return cast_to(F.where(missing, math.inf, found), dtype)


@composite(
    samples=[
        sample(lambda x: F.matrix_rank(x), arg(("B", 3, 4)), gradient=(), label="full"),
        sample(
            lambda x: F.matrix_rank(x),
            arg((2, 2), values=(1.0, 2.0, 2.0, 4.0)),
            gradient=(),
            label="singular",
        ),
        sample(lambda x: F.matrix_rank(x, rtol=0.9), arg((3, "N")), gradient=(), label="tolerance"),
        sample(
            lambda x, r: F.matrix_rank(x, rtol=r),
            arg(("B", 3, 4)),
            arg(("B",), low=0.0),
            gradient=(),
            label="tolerances",
        ),
    ],
    bad=[
        bad(lambda x: F.matrix_rank(x), arg((3,)), match="matrix_rank: needs at least 2 axes"),
        bad(
            lambda x: F.matrix_rank(x, rtol="a"),
            arg((2, 2)),
            error=ArgumentTypeError,
            match="rtol must be a number",
        ),
    ],
)
def matrix_rank(x: Any, *, rtol: Any = None) -> Value:
    """Count the singular values above `rtol` times the largest, as int64.

    The default is max(M, N) times the dtype's epsilon; a value as `rtol` has one number for each
    matrix. Raises `ShapeError` for vectors,
    `DTypeError` for integers.

    >>> matrix_rank([[1.0, 2.0], [2.0, 4.0]]).eval().tolist()
    1
    """
    value, _ = _matrices("matrix_rank", x)
    values = F.svdvals(value)
    if is_array(rtol):
        bound: Any = F.expand_dims(F.cast(as_value(rtol), values.dtype), -1)
        return F.count_nonzero(F.greater(values, bound * values[..., :1]), axis=-1)
    least = rtol_argument("matrix_rank", rtol)
    if least is None:
        epsilon = float(np.finfo(numpy_dtype(values.dtype)).eps)
        bound = F.size_of(maximum(*value.shape[-2:]), values.dtype) * epsilon
    else:
        bound = least
    return F.count_nonzero(F.greater(values, bound * values[..., :1]), axis=-1)
