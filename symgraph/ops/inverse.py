"""Inverses, pseudoinverses and determinants, over stacks."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from symgraph.dims import Size, broadcast_shapes, minimum
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError
from symgraph.graph.dtypes import has_gradient, is_complex
from symgraph.graph.elementwise import fit
from symgraph.graph.leaves import as_value, items
from symgraph.graph.matrices import (
    OfMatrices,
    OfSquare,
    adjoint,
    is_array,
    real_type,
    require_floats,
    require_matrix,
    rtol_argument,
    work,
)
from symgraph.graph.node import Value, make
from symgraph.graph.op import ZERO, Array, Cotangent, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, TupleType

SINGULAR = (1.0, 2.0, 2.0, 4.0, 1.0, 2.0, 3.0, 4.0)  # two matrices of which the first is


def _regular(x: Any) -> Any:
    """Give a matrix of samples that is far from singular."""
    return x + 5 * F.eye(x.shape[-1], dtype=x.dtype)


def _square_samples(build: Callable[[Any], Any]) -> tuple[Any, ...]:
    return (
        sample(lambda x: build(_regular(x)), arg(("B", 3, 3)), label="stack"),
        sample(lambda x: build(_regular(x)), arg((4, 4)), label="one"),
        sample(lambda x: build(_regular(x)), arg((3, 3), "complex64"), label="complex"),
        sample(lambda x: build(_regular(x)), arg((2, 1, 1)), label="single"),
        sample(lambda x: build(_regular(x)), arg(("N", "N")), sizes={"N": 0}, label="empty"),
    )


def _square_bad(name: str, build: Callable[[Any], Any]) -> tuple[Any, ...]:
    return (
        bad(build, arg((2, 3)), match=f"{name}: .*square.* 2 != 3"),
        bad(build, arg((3,)), match="at least 2 axes"),
        bad(build, arg((2, 2), "int32"), error=DTypeError, match="takes floats, not int32"),
    )


@op
class Inv(OfSquare):
    """The inverse."""

    samples = (
        *_square_samples(lambda x: F.inv(x)),
        sample(lambda x: F.inv(x), arg((2, 2, 2), values=SINGULAR), gradient=(), label="singular"),
    )
    bad = _square_bad("inv", lambda x: F.inv(x))

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        return xp.linalg.inv(arrays[0])

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (-F.matmul(adjoint(y), F.matmul(g, adjoint(y))),)


@function_of
def inv(x: Any) -> Value:
    """Invert square matrices: y @ x = 1. A singular matrix gives NaN.

    Raises `ShapeError` unless matrices are square, `DTypeError` for integers. For equations `solve`
    is faster and more exact.

    >>> inv([[2.0, 0.0], [0.0, 4.0]]).eval().tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    return make(Inv(), as_value(x))


@op
class Det(OfSquare):
    """The determinant."""

    samples = (
        *_square_samples(lambda x: F.det(x)),
        sample(lambda x: F.det(x), arg((2, 2), values=SINGULAR), gradient=(), label="singular"),
    )
    bad = _square_bad("det", lambda x: F.det(x))

    def result(self, x: TensorType) -> TensorType:
        return x.with_shape(x.shape[:-2])

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        return xp.linalg.det(arrays[0])

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (_spread(g) * F.conj(make(Cofactors(), xs[0])),)


@op
class Cofactors(OfSquare):
    """The derivative of the determinant: det(x) x^-T, also where x is singular.

    With x = U S V^H the cofactors are det(U) det(V^H) conj(U C V^H), C the products of all other
    singular values.
    """

    samples = (
        *_square_samples(lambda x: make(Cofactors(), x)),
        sample(
            lambda x: make(Cofactors(), x),
            arg((2, 2), values=SINGULAR),
            gradient=(),
            label="singular",
        ),
    )
    bad = _square_bad("cofactors", lambda x: make(Cofactors(), x))

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        u, s, vh = xp.linalg.svd(arrays[0])
        size = s.shape[-1]
        factors = xp.where(xp.eye(size, dtype=bool), xp.ones_like(s[..., None, :]), s[..., None, :])
        others = xp.prod(factors, axis=-1)
        sign = (xp.linalg.det(u) * xp.linalg.det(vh))[..., None, None]
        return sign * xp.conj(xp.matmul(u * others[..., None, :], vh))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        # of det(x) x^-T: what is left of it at a singular x is NaN
        g = F.conj(g)
        along = F.sum(g * y, axis=(-2, -1), keepdims=True) * y
        inner = F.matmul(y, F.matmul(F.matrix_transpose(g), y))
        return (F.conj((along - inner) / _spread(F.det(xs[0]))),)


def _spread(x: Value) -> Value:
    """Give a number for each matrix two axes of size 1."""
    return F.reshape(x, (*x.shape, 1, 1))


@function_of
def det(x: Any) -> Value:
    """Give the determinants of square matrices.

    The gradient is right for singular matrices too, the second derivative is not. Raises
    `ShapeError` unless matrices are square, `DTypeError` for integers.

    >>> det([[2.0, 1.0], [0.0, 4.0]]).eval().tolist()
    8.0
    """
    return make(Det(), as_value(x))


@op
class Slogdet(OfSquare):
    """The sign of the determinant and the logarithm of its absolute value."""

    samples = (
        *_square_samples(lambda x: F.slogdet(x)),
        sample(lambda x: F.slogdet(x), arg((2, 2), values=SINGULAR), gradient=(), label="singular"),
    )
    bad = _square_bad("slogdet", lambda x: F.slogdet(x))

    def result(self, x: TensorType) -> TupleType:
        sign = x.with_shape(x.shape[:-2])
        return TupleType((sign, real_type(sign)))

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        return tuple(xp.linalg.slogdet(arrays[0]))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        if is_complex(xs[0].dtype) and g[0] is not None:
            turn = F.complex(0.0, -F.imag(F.conj(g[0]) * y[0]))  # along the circle of signs
            weight = turn if g[1] is None else turn + g[1]
        elif g[1] is None:
            return (ZERO,)
        else:
            weight = g[1]
        return (_spread(weight) * adjoint(F.inv(xs[0])),)


@function_of
def slogdet(x: Any) -> tuple[Value, Value]:
    """Give (sign, log|det|) of square matrices: det(x) = sign * exp(log|det|), without overflow.

    The sign of a complex determinant is det(x) / |det(x)|. A singular matrix has sign 0 and
    logarithm -inf, and no gradient (NaN). Raises as `det`.
    """
    sign, logarithm = items(make(Slogdet(), as_value(x)))
    return sign, logarithm


@op
class Pinv(OfMatrices):
    """The pseudoinverse; singular values up to `rtol` times the largest count as 0.

    A second operand has one tolerance for each matrix; `rtol` is None then.
    """

    core: ClassVar[tuple[int, ...]] = (2, 0)
    rtol: float | None
    samples = (
        sample(lambda x: F.pinv(x), arg(("B", 4, 2)), label="tall"),
        sample(lambda x: F.pinv(x), arg((2, "N")), label="wide"),
        sample(lambda x: F.pinv(x), arg((2, 3), "complex64"), label="complex"),
        sample(lambda x: F.pinv(_regular(x), rtol=1e-3), arg((3, 3)), label="square"),
        sample(lambda x: F.pinv(x), arg((2, 2), values=SINGULAR), gradient=(), label="singular"),
        sample(lambda x: F.pinv(x), arg((0, 2)), label="empty"),
        sample(lambda x, r: F.pinv(x, rtol=r), arg(("B", 4, 2)), arg(("B",), low=0.01, high=0.02),
               label="tolerances"),
    )  # fmt: skip
    bad = (
        bad(lambda x: F.pinv(x), arg((3,)), match="pinv: .*at least 2 axes"),
        bad(lambda x, r: F.pinv(x, rtol=r), arg((2, 2, 2)), arg((3,)),
            match="pinv: cannot broadcast"),
        bad(lambda x, r: F.pinv(x, rtol=r), arg((2, 2)), arg((), "int32"), error=DTypeError,
            match="tolerances must be real floats, not int32"),
        bad(lambda x: F.pinv(x), arg((2, 2), "bool"), error=DTypeError, match="takes floats"),
        bad(lambda x: F.pinv(x, rtol=-1.0), arg((2, 2)), error=ArgumentError, match="rtol must be"),
        bad(lambda x: F.pinv(x, rtol="a"), arg((2, 2)), error=ArgumentTypeError, match="a number"),
    )  # fmt: skip

    def infer(self, x: TensorType, *rtol: TensorType) -> TensorType:
        require_floats(x.dtype)
        rows, columns = require_matrix(x)
        for tolerance in rtol:
            if not has_gradient(tolerance.dtype) or is_complex(tolerance.dtype):
                raise DTypeError(f"tolerances must be real floats, not {tolerance.dtype}.")
        stack = broadcast_shapes(x.shape[:-2], *(tolerance.shape for tolerance in rtol))
        return x.with_shape((*stack, columns, rows))

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        x = arrays[0]
        if len(arrays) == 2:
            least = arrays[1][..., None]
        elif self.rtol is None:
            least = float(np.finfo(x.dtype).eps) * max(x.shape[-2:])
        else:
            least = self.rtol
        u, s, vh = xp.linalg.svd(x, full_matrices=False)
        kept = s > least * s[..., :1]  # they descend
        inverse = xp.where(kept, 1 / xp.where(kept, s, 1), 0).astype(s.dtype)
        v = xp.conj(xp.swapaxes(vh, -1, -2))
        return xp.matmul(v * inverse[..., None, :], xp.conj(xp.swapaxes(u, -1, -2)))

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        rows, columns = types[0].shape[-2:]
        return work(types[0], rows, columns, minimum(rows, columns), times=8)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        x, y_h, g_h = xs[0], adjoint(y), adjoint(g)
        total = -F.matmul(y_h, F.matmul(g, y_h))
        left = F.matmul(g_h, F.matmul(y, y_h))
        right = F.matmul(F.matmul(y_h, y), g_h)
        total = total + left - F.matmul(x, F.matmul(y, left))
        total = fit(F, total + right - F.matmul(F.matmul(right, y), x), x)
        return (total, ZERO) if len(xs) == 2 else (total,)


@function_of
def pinv(x: Any, *, rtol: Any = None) -> Value:
    """Give the pseudoinverse (Moore-Penrose) of matrices: (M, N) becomes (N, M).

    Singular values up to `rtol` times the largest count as 0; by default max(M, N) times the
    dtype's epsilon. A value as `rtol` has one number for each matrix. The gradient holds while the
    rank stays. Raises `ShapeError` for vectors, `DTypeError` for integers. Source: Golub and
    Pereyra 1973, "The differentiation of pseudo-inverses".
    """
    value = as_value(x)
    if not is_array(rtol):
        return make(Pinv(rtol_argument("pinv", rtol)), value)
    return make(Pinv(None), value, as_value(rtol))
