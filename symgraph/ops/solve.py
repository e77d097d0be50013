"""Linear equations, over stacks of matrices."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size, broadcast_shapes, equal, require_equal
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.graph.dtypes import real_dtype
from symgraph.graph.leaves import as_value, cast_to, common
from symgraph.graph.matrices import (
    OfMatrices,
    adjoint,
    require_floats,
    require_matrix,
    require_square,
    rtol_argument,
    squared,
    summed_to,
    triangle,
    work,
)
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import Array, Cotangent, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import compute_dtype
from symgraph.graph.types import TensorType
from symgraph.ops import factor_ref

SINGULAR = (1.0, 2.0, 2.0, 4.0, 1.0, 2.0, 3.0, 4.0)  # two matrices of which the first is


def _regular(x: Any) -> Any:
    """Give a matrix of samples that is far from singular."""
    return x + 5 * F.eye(x.shape[-1], dtype=x.dtype)


def _lower(x: Any) -> Any:
    """Give a lower triangular matrix of samples that is far from singular."""
    return triangle(_regular(x), lower=True)


def _infer_system(a: TensorType, b: TensorType) -> TensorType:
    """Give the type of x where a @ x = b, both matrices."""
    require_floats(a.dtype, b.dtype)
    size = require_square(a, "a")
    rows, columns = require_matrix(b, "b")
    require_equal(size, rows, "rows of {a} must equal rows of {b}")
    return a.with_shape((*broadcast_shapes(a.shape[:-2], b.shape[:-2]), rows, columns))


class _System(OfMatrices):
    core = (2, 2)

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        return _infer_system(a, b)


@op
class Solve(_System):
    """x with a @ x = b."""

    samples = (
        sample(
            lambda a, b: F.solve(_regular(a), b), arg(("B", 3, 3)), arg(("B", 3, 2)), label="stack"
        ),
        sample(lambda a, b: F.solve(_regular(a), b), arg((4, 4)), arg((4,)), label="vector"),
        sample(
            lambda a, b: F.solve(_regular(a), b),
            arg((3, 3), "complex64"),
            arg((3, 2), "complex64"),
            label="complex",
        ),
        sample(
            lambda a, b: F.solve(_regular(a), b),
            arg((2, 2, 2)),
            arg(("B", 1, 2, 3)),
            label="broadcast",
        ),
        sample(
            lambda a, b: F.solve(_regular(a), b),
            arg(("N", "N")),
            arg(("N", 2)),
            sizes={"N": 0},
            label="empty",
        ),
        sample(
            lambda a, b: F.solve(a, b),
            arg((2, 2, 2), values=SINGULAR),
            arg((2, 2, 1)),
            gradient=(),
            label="singular",
        ),
    )
    bad = (
        bad(lambda a, b: F.solve(a, b), arg((2, 3)), arg((2,)), match="solve: .*square.* 2 != 3"),
        bad(lambda a, b: F.solve(a, b), arg((2, 2)), arg((3, 1)), match="rows of `x0` must equal"),
        bad(lambda a, b: F.solve(a, b), arg((2, 2)), arg(()), match="must have an axis"),
        bad(
            lambda a, b: F.solve(a, b),
            arg((2, 2), "int32"),
            arg((2,), "int32"),
            error=DTypeError,
            match="takes floats, not int32",
        ),
    )

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        a, b = arrays
        right = b[:, None] if b.ndim == 1 else b
        stack = np.broadcast_shapes(a.shape[:-2], right.shape[:-2])  # CuPy spreads none
        found = xp.linalg.solve(
            *(xp.broadcast_to(one, (*stack, *one.shape[-2:])) for one in (a, right))
        )
        return found[..., 0] if b.ndim == 1 else found

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        n = types[0].shape[-1]
        factors = work(types[0], n, n, n, times=2, over=3)
        return factors + work(self.infer(*types), n, n, types[1].shape[-1], times=2)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        back = F.solve(adjoint(xs[0]), g)
        return (
            lambda: summed_to(-F.matmul(back, adjoint(y)), xs[0]),
            summed_to(back, xs[1]),
        )


@function_of
def solve(a: Any, b: Any) -> Value:
    """Solve linear equations: x with a @ x = b, for matrices b or one vector.

    Stacks are broadcast; b is a vector where it has one axis. A singular matrix gives NaN. Raises
    `ShapeError` unless a is square and b fits, `DTypeError` for integers.

    >>> solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0]).eval().tolist()
    [1.0, 0.5]
    """
    left, right = common("solve", a, b)
    return _with_vectors("solve", lambda one: make(Solve(), left, one), right)


def _with_vectors(name: str, build: Callable[[Value], Value], b: Value) -> Value:
    """Build an operation on matrices for a right side that may be a vector."""
    if not b.ndim:
        raise ShapeError(f"{name}: `{b.label}` must have an axis.", details=[b.describe()])
    if b.ndim > 1:
        return build(b)
    found = build(F.expand_dims(b, 1))
    return F.squeeze(found, found.ndim - 1)


@op
class TriangularSolve(_System):
    """x with a @ x = b, or a^T @ x = b; only one triangle of a is read."""

    lower: bool
    transpose: bool
    unit_diagonal: bool
    samples = (
        sample(
            lambda a, b: F.triangular_solve(_regular(a), b),
            arg(("B", 3, 3)),
            arg((3, 2)),
            label="lower",
        ),
        sample(
            lambda a, b: F.triangular_solve(_regular(a), b, lower=False),
            arg((3, 3)),
            arg(("B", 3, 2)),
            label="upper",
        ),
        sample(
            lambda a, b: F.triangular_solve(a, b, transpose=True, unit_diagonal=True),
            arg((4, 4), low=-0.5, high=0.5),
            arg((4,)),
            label="transposed",
        ),
        sample(
            lambda a, b: F.triangular_solve(_regular(a), b, transpose=True),
            arg((3, 3), "complex64"),
            arg((3, 2), "complex64"),
            label="complex transposed",
        ),
        sample(
            lambda a, b: F.triangular_solve(_regular(a), b, lower=False),
            arg((3, 3), "complex64"),
            arg((3,)),
            label="complex",
        ),
        sample(
            lambda a, b: F.triangular_solve(_regular(a), b, lower=False, transpose=True),
            arg((1, 1)),
            arg((1, "K")),
            sizes={"K": 0},
            label="empty",
        ),
        sample(
            lambda a, b: F.triangular_solve(_regular(a), b),
            arg((70, 70), low=-0.2, high=0.2),
            arg((70, 2)),
            gradient=(),
            label="blocks",
        ),
    )
    bad = (
        bad(
            lambda a, b: F.triangular_solve(a, b),
            arg((2, 3)),
            arg((2,)),
            match="triangular_solve: .*square.* 2 != 3",
        ),
        bad(lambda a, b: F.triangular_solve(a, b), arg((2, 2)), arg((3, 1)), match="rows of `x0`"),
        bad(lambda a, b: F.triangular_solve(a, b), arg((2, 2)), arg(()), match="must have an axis"),
        bad(
            lambda a, b: F.triangular_solve(a, b),
            arg((2, 2), "int8"),
            arg((2,), "int8"),
            error=DTypeError,
            match="takes floats, not int8",
        ),
    )

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        a, b = arrays
        stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        left = xp.broadcast_to(a, (*stack, *a.shape[-2:]))
        right = xp.broadcast_to(b, (*stack, *b.shape[-2:]))
        if self.transpose:
            left = xp.swapaxes(left, -1, -2)
        lower = self.lower != self.transpose
        return factor_ref.triangular_solve(xp, left, right, lower, self.unit_diagonal)

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        n = types[0].shape[-1]
        return work(self.infer(*types), n, n, types[1].shape[-1])

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        flipped = TriangularSolve(self.lower, not self.transpose, self.unit_diagonal)
        back = make(flipped, F.conj(xs[0]), g)

        def left() -> Value:
            whole = -F.matmul(back, adjoint(y))
            whole = F.matrix_transpose(whole) if self.transpose else whole
            own = triangle(whole, lower=self.lower, diagonal=0.0 if self.unit_diagonal else 1.0)
            return summed_to(own, xs[0])

        return left, summed_to(back, xs[1])


@function_of
def triangular_solve(
    a: Any, b: Any, *, lower: bool = True, transpose: bool = False, unit_diagonal: bool = False
) -> Value:
    """Solve equations of a triangular matrix: a @ x = b, or a^T @ x = b with `transpose`.

    Only the triangle named by `lower` is read, and not its diagonal with `unit_diagonal`, which
    takes it as ones. Stacks are broadcast; b is a vector where it has one axis. A 0 on the diagonal
    gives infinities or NaN. Raises as `solve`.

    >>> triangular_solve([[2.0, 7.0], [1.0, 1.0]], [2.0, 3.0]).eval().tolist()
    [1.0, 2.0]
    """
    left, right = common("triangular_solve", a, b)
    chosen = TriangularSolve(bool(lower), bool(transpose), bool(unit_diagonal))
    return _with_vectors("triangular_solve", lambda one: make(chosen, left, one), right)


@composite(
    samples=[
        sample(
            lambda a, b: F.lu_solve(F.lu_factor(_regular(a)), b),
            arg((4, 4)),
            arg((4, "K")),
            label="one",
        ),
        sample(
            lambda a, b: F.lu_solve(F.lu_factor(_regular(a)), b, transpose=True),
            arg(("B", 3, 3)),
            arg((3,)),
            label="transposed",
        ),
    ],
    bad=[
        bad(
            lambda a, b: F.lu_solve((a, a), b),
            arg((2, 2)),
            arg((2,)),
            error=DTypeError,
            match="lu_solve: .*must be int32",
        ),
        bad(
            lambda a, b: F.lu_solve(F.lu_factor(a), b),
            arg((2, 2)),
            arg((3,)),
            match="lu_solve: .*2 != 3",
        ),
        bad(
            lambda a, b: F.lu_solve(a, b),
            arg((2, 2)),
            arg((2,)),
            error=ArgumentTypeError,
            match="lu_solve: takes what `lu_factor` gave",
        ),
    ],
)
def lu_solve(factors: Any, b: Any, *, transpose: bool = False) -> Value:
    """Solve a @ x = b (or a^T @ x = b) from `factors = lu_factor(a)`; b may be one vector.

    Raises `ShapeError` unless a is square and b fits, `ArgumentTypeError` for other factors.
    """
    if not isinstance(factors, tuple | list) or len(factors) != 2:
        raise ArgumentTypeError(
            f"lu_solve: takes what `lu_factor` gave, not {type(factors).__name__}.",
            fix="lu_solve(lu_factor(a), b)",
        )
    pivots = as_value(factors[1])
    packed, right = common("lu_solve", factors[0], b)
    rows = packed.shape[-2] if packed.ndim > 1 else 0
    exchanged = F.lu_permutation(pivots, rows, packed.dtype)

    def build(one: Value) -> Value:
        if transpose:
            inner = F.triangular_solve(packed, one, lower=False, transpose=True)
            inner = F.triangular_solve(packed, inner, transpose=True, unit_diagonal=True)
            return F.matmul(exchanged, inner)
        inner = F.matmul(F.matrix_transpose(exchanged), one)
        inner = F.triangular_solve(packed, inner, unit_diagonal=True)
        return F.triangular_solve(packed, inner, lower=False)

    return _with_vectors("lu_solve", build, right)


@composite(
    samples=[
        sample(
            lambda a, b: F.cho_solve(_lower(a), b),
            arg((3, 3), low=-1, high=1),
            arg((3, "K")),
            label="one",
        ),
        sample(
            lambda a, b: F.cho_solve(F.matrix_transpose(_lower(a)), b, upper=True),
            arg(("B", 2, 2), low=-1, high=1),
            arg((2,)),
            label="upper",
        ),
    ],
    bad=[
        bad(lambda a, b: F.cho_solve(a, b), arg((2, 3)), arg((2,)), match="cho_solve: .*square"),
        bad(lambda a, b: F.cho_solve(a, b), arg((2, 2)), arg((3,)), match="cho_solve: .*2 != 3"),
    ],
)
def cho_solve(factor: Any, b: Any, *, upper: bool = False) -> Value:
    """Solve a @ x = b from `factor = cholesky(a, upper=upper)`; b may be one vector.

    Raises `ShapeError` unless the factor is square and b fits.
    """
    one, right = common("cho_solve", factor, b)
    below = adjoint(one) if upper else one
    above = one if upper else adjoint(one)

    def build(value: Value) -> Value:
        return F.triangular_solve(above, F.triangular_solve(below, value), lower=False)

    return _with_vectors("cho_solve", build, right)


@composite(
    samples=[
        sample(lambda a, b: F.lstsq(a, b), arg((4, 2)), arg((4, "K")), label="tall"),
        sample(lambda a, b: F.lstsq(a, b)[0], arg(("B", 2, 3)), arg(("B", 2, 1)), label="wide"),
        sample(lambda a, b: F.lstsq(a, b)[0], arg((5, 2)), arg((5,)), label="vector"),
        sample(
            lambda a, b: F.lstsq(a, b),
            arg((2, 2), values=SINGULAR[:4]),
            arg((2, 1)),
            gradient=(1,),
            label="singular",
        ),
    ],
    bad=[
        bad(
            lambda a, b: F.lstsq(a, b),
            arg((3, 2)),
            arg((2,)),
            match="lstsq: rows of `x0` .* 3 != 2",
        ),
        bad(lambda a, b: F.lstsq(a, b), arg((3,)), arg((3,)), match="at least 2 axes"),
        bad(
            lambda a, b: F.lstsq(a, b, rtol=-1),
            arg((3, 2)),
            arg((3,)),
            error=ArgumentError,
            match="lstsq: rtol must be",
        ),
    ],
)
def lstsq(a: Any, b: Any, *, rtol: float | None = None) -> tuple[Value, Value, Value, Value]:
    """Give x with the least |a @ x - b|^2, and of these the smallest: (x, residuals, rank, s).

    `residuals` are |a @ x - b|^2 for each column of b (always, where NumPy gives none at times),
    `rank` (int64) counts the singular values `s` above `rtol` times the largest (default: as
    `pinv`). The gradient holds while the rank stays. Raises `ShapeError` unless a is a matrix (or a
    stack) and b fits, `DTypeError` for integers.
    """
    left, right = common("lstsq", a, b)
    least, dtype = rtol_argument("lstsq", rtol), left.dtype
    rows = right.shape[-min(right.ndim, 2)] if right.ndim else 1
    if left.ndim > 1 and equal(left.shape[-2], rows) is False:
        raise ShapeError(
            f"lstsq: rows of `{left.label}` must equal rows of `{right.label}`: "
            f"{left.shape[-2]} != {rows}.",
            details=operand_lines([left, right]),
        )
    left, right = (cast_to(one, compute_dtype(dtype)) for one in (left, right))
    inverse = F.pinv(left, rtol=least)
    x = _with_vectors("lstsq", lambda one: F.matmul(inverse, one), right)
    away = squared(F.matmul(left, x) - right)
    residuals = F.sum(away, axis=-2 if right.ndim > 1 else -1)
    rank, values = F.matrix_rank(left, rtol=least), F.svdvals(left)
    real = real_dtype(dtype)
    return cast_to(x, dtype), cast_to(residuals, real), rank, cast_to(values, real)
