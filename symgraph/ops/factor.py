"""Factorisations of matrices: Cholesky, QR and LU, over stacks."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size, less_equal, minimum
from symgraph.errors import ArgumentError, DTypeError, GradError, ShapeError
from symgraph.graph.leaves import as_value, items
from symgraph.graph.matrices import (
    OfMatrices,
    adjoint,
    require_floats,
    require_matrix,
    require_square,
    symmetric,
    triangle,
    work,
)
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, TupleType
from symgraph.ops import factor_ref

NEAR = 1e-3  # of the matrix: how far the product of a factor may be from it
INDEFINITE = (4.0, 2.0, 2.0, 5.0, 1.0, 2.0, 2.0, 1.0)  # the second of two matrices is


def _positive(x: Any) -> Any:
    """Give a matrix of samples that is symmetric and far from singular."""
    return F.matmul(x, F.matrix_transpose(F.conj(x))) + F.eye(x.shape[-2], dtype=x.dtype)


@op
class Cholesky(OfMatrices):
    """The lower triangular L with x = L L^H; only the lower triangle of x is read."""

    samples = (
        sample(lambda x: F.cholesky(_positive(x)), arg((4, 5)), label="one"),
        sample(lambda x: F.cholesky(_positive(x)), arg(("B", 3, 4)), label="stack"),
        sample(lambda x: F.cholesky(_positive(x)), arg(("N", 4)), sizes={"N": 0}, label="empty"),
        sample(lambda x: F.cholesky(_positive(x)), arg((2, 1, 2)), label="single"),
        sample(lambda x: F.cholesky(_positive(x)), arg((3, 4), "complex64"), label="complex"),
        sample(
            lambda x: F.cholesky(x),
            arg((2, 2, 2), values=INDEFINITE),
            gradient=(),
            label="not positive",
        ),
    )
    bad = (
        bad(lambda x: F.cholesky(x), arg((2, 3)), match="cholesky: .*square.* 2 != 3"),
        bad(lambda x: F.cholesky(x), arg((3,)), match="at least 2 axes"),
        bad(lambda x: F.cholesky(x), arg((2, 2), "int32"), error=DTypeError, match="takes floats"),
    )

    def infer(self, x: TensorType) -> TensorType:
        require_floats(x.dtype)
        require_square(x)
        return x

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        (x,) = arrays
        found = xp.linalg.cholesky(x)
        if xp is np:
            return found
        # CuPy does not say where there is none: then the product is another matrix
        again = xp.matmul(found, xp.conj(xp.swapaxes(found, -1, -2)))
        size = xp.abs(x).sum((-2, -1), keepdims=True)
        off = xp.abs(xp.tril(again - x)).sum((-2, -1), keepdims=True)
        return xp.where(off <= NEAR * size, found, np.nan)

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        n = types[0].shape[-1]
        return work(types[0], n, n, n, over=3)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        inner = triangle(F.matmul(adjoint(y), g), lower=True, diagonal=0.5)
        left = F.triangular_solve(adjoint(y), inner, lower=False)
        both = adjoint(F.triangular_solve(adjoint(y), adjoint(left), lower=False))
        return (symmetric(both),)


@function_of
def cholesky(x: Any, *, upper: bool = False) -> Value:
    """Factor symmetric positive definite matrices: x = L L^H with L lower triangular.

    With `upper`, x = U^H U. Only the lower triangle is read; the gradient is the symmetric one. A
    matrix that is not positive definite gives NaN. Raises `ShapeError` unless matrices are square,
    `DTypeError` for integers. Source: Murray 2016, arXiv:1602.07527.

    >>> cholesky([[4.0, 2.0], [2.0, 5.0]]).eval().tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """
    found = make(Cholesky(), as_value(x))
    return adjoint(found) if upper else found


MODES = ("reduced", "complete")


@op
class Qr(OfMatrices):
    """Q with orthonormal columns and R upper triangular: x = Q R; `complete` makes Q square."""

    complete: bool
    samples = (
        sample(lambda x: F.qr(x), arg(("B", 4, 3)), label="tall"),
        sample(lambda x: F.qr(x), arg((3, "N")), label="wide"),
        sample(lambda x: F.qr(x), arg((3, 3)), label="square"),
        sample(lambda x: F.qr(x), arg((4, 2), "complex64"), label="complex tall"),
        sample(lambda x: F.qr(x), arg((2, 3), "complex64"), label="complex wide"),
        sample(lambda x: F.qr(x, mode="complete"), arg((4, 2)), gradient=(), label="complete"),
        sample(lambda x: F.qr(x, mode="complete"), arg((2, 2, 3)), label="complete wide"),
        sample(lambda x: F.qr(x)[1], arg(("M", 2)), sizes={"M": 0}, label="empty"),
    )
    bad = (
        bad(lambda x: F.qr(x), arg((3,)), match="qr: .*at least 2 axes"),
        bad(lambda x: F.qr(x), arg((2, 2), "bool"), error=DTypeError, match="takes floats"),
        bad(
            lambda x: F.qr(x, mode="r"),
            arg((2, 2)),
            error=ArgumentError,
            match='qr: mode must be "reduced" or "complete"',
        ),
    )

    def infer(self, x: TensorType) -> TupleType:
        require_floats(x.dtype)
        rows, columns = require_matrix(x)
        inner = rows if self.complete else minimum(rows, columns)
        stack = x.shape[:-2]
        return TupleType(
            (x.with_shape((*stack, rows, inner)), x.with_shape((*stack, inner, columns)))
        )

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        found = xp.linalg.qr(arrays[0], mode="complete" if self.complete else "reduced")
        return found[0], found[1]

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        rows, columns = types[0].shape[-2:]
        return work(types[0], rows, columns, minimum(rows, columns), times=2)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        q, r = y
        rows, columns = xs[0].shape[-2:]
        if self.complete and less_equal(rows, columns) is not True:
            raise GradError(
                "qr: a complete Q of matrices with more rows than columns has no gradient: its "
                "last columns are not determined by x.",
                fix='use mode="reduced"',
            )
        g_q = F.zeros_like(q) if g[0] is None else g[0]
        g_r = F.zeros_like(r) if g[1] is None else g[1]
        size = q.shape[-1]
        wide = less_equal(columns, rows) is not True
        if wide:  # the columns on the right are Q times theirs: R2 = Q^H X2
            g_q = g_q + F.matmul(xs[0][..., size:], adjoint(g_r[..., size:]))
            right = F.matmul(q, g_r[..., size:])
            r, g_r = r[..., :size], g_r[..., :size]
        inner = triangle(
            F.matmul(g_r, adjoint(r)) - F.matmul(adjoint(q), g_q), lower=False, diagonal=0.5
        )
        total = g_q + F.matmul(q, inner + adjoint(inner))
        left = adjoint(F.triangular_solve(r, adjoint(total), lower=False))
        return (F.concat([left, right], axis=-1) if wide else left,)


@function_of
def qr(x: Any, *, mode: str = "reduced") -> tuple[Value, Value]:
    """Factor matrices: x = Q R, Q with orthonormal columns, R upper triangular.

    For (M, N) and K = min(M, N): (M, K) and (K, N); with mode="complete" (M, M) and (M, N). The
    gradient needs the first K columns to be independent; a complete Q has one for M <= N only.
    Raises `ShapeError` for vectors, `DTypeError` for integers, `ArgumentError` for another mode.
    Source: Walter and Lehmann 2018, "Algorithmic differentiation of linear algebra functions".
    """
    if mode not in MODES:
        raise ArgumentError(
            f'qr: mode must be "reduced" or "complete", got {mode!r}.', fix='mode="reduced"'
        )
    q, r = items(make(Qr(mode == "complete"), as_value(x)))
    return q, r


@op
class LuFactor(OfMatrices):
    """L and U in one array, and LAPACK's exchanges of rows."""

    samples = (
        sample(lambda x: F.lu_factor(x)[0], arg(("B", 3, 3)), label="stack"),
        sample(lambda x: F.lu_factor(x), arg((4, 2)), label="tall"),
        sample(lambda x: F.lu_factor(x), arg((3, 3), "complex64"), label="complex"),
        sample(lambda x: F.lu_factor(x), arg((2, "N")), label="wide"),
        sample(lambda x: F.lu_factor(x), arg((40, 37)), gradient=(), label="blocks"),
        sample(
            lambda x: F.lu_factor(x),
            arg((2, 2), values=(0.0, 1.0, 0.0, 2.0)),
            gradient=(),
            label="singular",
        ),
        sample(lambda x: F.lu_factor(x), arg((0, 2)), label="empty"),
    )
    bad = (
        bad(lambda x: F.lu_factor(x), arg((3,)), match="lu_factor: .*at least 2 axes"),
        bad(lambda x: F.lu_factor(x), arg((2, 2), "int32"), error=DTypeError, match="takes floats"),
    )

    def infer(self, x: TensorType) -> TupleType:
        require_floats(x.dtype)
        rows, columns = require_matrix(x)
        pivots = TensorType("int32", (*x.shape[:-2], minimum(rows, columns)))
        return TupleType((x, pivots))

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        return factor_ref.lu(xp, arrays[0])

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        rows, columns = types[0].shape[-2:]
        return work(types[0], rows, columns, minimum(rows, columns))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        if g[0] is None:
            return (None,)
        packed, pivots = y
        rows, columns = packed.shape[-2:]
        size = minimum(rows, columns)
        square, whole = packed[..., :size, :size], g[0]
        lower, upper = _unit_lower(square), triangle(square, lower=False)
        g_lower = triangle(whole[..., :size, :size], lower=True, diagonal=0)
        g_upper = triangle(whole[..., :size, :size], lower=False)
        tall, wide = less_equal(rows, columns) is not True, less_equal(columns, rows) is not True
        if tall:  # L2 = X2 U^-1
            below = F.triangular_solve(upper, adjoint(whole[..., size:, :size]), lower=False)
            below = adjoint(below)
            inside = F.matmul(adjoint(packed[..., size:, :size]), below)
            g_upper = g_upper - triangle(inside, lower=False)
        if wide:  # U2 = L^-1 X2
            beside = F.triangular_solve(
                adjoint(lower), whole[..., :size, size:], lower=False, unit_diagonal=True
            )
            inside = F.matmul(beside, adjoint(packed[..., :size, size:]))
            g_lower = g_lower - triangle(inside, lower=True, diagonal=0)
        inner = triangle(F.matmul(adjoint(lower), g_lower), lower=True, diagonal=0)
        inner = inner + triangle(F.matmul(g_upper, adjoint(upper)), lower=False)
        left = F.triangular_solve(adjoint(lower), inner, lower=False, unit_diagonal=True)
        found = adjoint(F.triangular_solve(upper, adjoint(left), lower=False))
        if wide:
            found = F.concat([found, beside], axis=-1)
        if tall:
            if wide:  # not known while building; where there are rows below, nothing is beside
                pads = [(0, 0)] * (below.ndim - 1) + [(0, columns - size)]
                below = F.pad(below, pads)
            found = F.concat([found, below], axis=-2)
        return (F.matmul(F.lu_permutation(pivots, rows, found.dtype), found),)


def _unit_lower(packed: Value) -> Value:
    """Give the lower triangle below a diagonal of ones."""
    below = triangle(packed, lower=True, diagonal=0)
    return below + F.eye(packed.shape[-2], packed.shape[-1], dtype=packed.dtype)


@op
class LuOrder(OfMatrices):
    """The row of the original that stands in each row after LAPACK's exchanges."""

    rows: Size
    takes_complex = False
    core = (1,)
    samples = (
        sample(lambda p: make(LuOrder(4), p), arg((3,), "int32", values=(1, 3, 2)), label="one"),
        sample(
            lambda p: make(LuOrder(p.shape[-1]), p),
            arg((2, "N"), "int32", values=(2, 1, 2, 0, 2, 2)),
            label="stack",
        ),
        sample(lambda p: make(LuOrder(2), p), arg((3, 0), "int32"), label="none"),
    )
    bad = (
        bad(lambda p: make(LuOrder(4), p), arg((3,)), error=DTypeError, match="must be int32"),
        bad(lambda p: make(LuOrder(4), p), arg((), "int32"), match="must have an axis"),
    )

    def infer(self, pivots: TensorType) -> TensorType:
        if pivots.dtype != "int32":
            raise DTypeError(f"{{pivots}} must be int32, not {pivots.dtype}.")
        if not pivots.ndim:
            raise ShapeError("{pivots} must have an axis.")
        return pivots.with_shape((*pivots.shape[:-1], self.rows))

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        return factor_ref.order(xp, arrays[0], int(self.rows))

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        return 0

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (None,)


@function_of
def lu_permutation(pivots: Value, rows: Size, dtype: str) -> Value:
    """Give the matrices P of x = P L U from the exchanges of rows."""
    order = F.expand_dims(make(LuOrder(rows), pivots), -2)
    return F.cast(F.equal(order, F.expand_dims(F.arange(rows, dtype="int32"), 1)), dtype)


@function_of
def lu_factor(x: Any) -> tuple[Value, Value]:
    """Factor matrices with exchanges of rows, as `lu_solve` takes it: (L and U in one, pivots).

    L has ones on its diagonal, which are not kept; row i was exchanged with row pivots[i] (int32,
    from 0). A singular matrix has a 0 on the diagonal of U. Raises `ShapeError` for vectors,
    `DTypeError` for integers.
    """
    packed, pivots = items(make(LuFactor(), as_value(x)))
    return packed, pivots


@composite(
    samples=[
        sample(lambda x: F.lu(x), arg(("B", 3, 3)), label="stack"),
        sample(lambda x: F.lu(x), arg((4, 2)), label="tall"),
        sample(lambda x: F.lu(x), arg((2, 4)), label="wide"),
    ],
    bad=[bad(lambda x: F.lu(x), arg((3,)), match="lu: .*at least 2 axes")],
)
def lu(x: Any) -> tuple[Value, Value, Value]:
    """Factor matrices: x = P L U, P a permutation, L unit lower and U upper triangular.

    For (M, N) and K = min(M, N) their shapes are (M, M), (M, K) and (K, N). Raises as `lu_factor`.
    """
    value = as_value(x)
    packed, pivots = F.lu_factor(value)
    rows, columns = value.shape[-2:]
    size = minimum(rows, columns)
    return (
        F.lu_permutation(pivots, rows, value.dtype),
        _unit_lower(packed[..., :size]),
        triangle(packed[..., :size, :], lower=False),
    )
