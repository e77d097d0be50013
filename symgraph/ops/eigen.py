"""Eigenvalues of symmetric matrices and singular values, over stacks.

Where two eigenvalues (or singular values) are equal, their vectors are not determined and have no
derivative. The gradient leaves such pairs out: it is finite, and right for what is symmetric in the
equal values and does not look at their vectors, such as sums of functions of all values.

Sources: Giles 2008, "Collected matrix derivative results for forward and reverse mode AD"; Townsend
2016, "Differentiating the singular value decomposition".
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from symgraph.dims import Size, equal, less_equal, minimum
from symgraph.errors import DTypeError, GradError
from symgraph.graph.dtypes import is_complex
from symgraph.graph.leaves import as_value, items
from symgraph.graph.matrices import (
    OfMatrices,
    adjoint,
    on_diagonal,
    real_type,
    require_floats,
    require_matrix,
    require_square,
    symmetric,
    work,
)
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, TupleType


def _symmetric(x: Any) -> Any:
    """Give a symmetric matrix of samples whose eigenvalues are well apart."""
    size = x.shape[-1]
    real = F.real(x).dtype
    apart = F.eye(size, dtype=real) * F.arange(size, dtype=real)
    return x + F.matrix_transpose(F.conj(x)) + 6 * apart


def _inverse(x: Value) -> Value:
    """Give 1 / x, and 0 where x is 0."""
    zero = F.equal(x, 0)
    return F.where(zero, 0, 1 / F.where(zero, 1, x))


def _differences(values: Value) -> Value:
    """Give 1 / (v[j] - v[i]) at (i, j), and 0 where they are equal."""
    return _inverse(F.expand_dims(values, -2) - F.expand_dims(values, -1))


def _columns(x: Value, values: Value) -> Value:
    """Multiply each column of matrices by a number."""
    return x * F.expand_dims(values, -2)


def _unless_nan(xp: ModuleType, x: Array, *results: Array) -> tuple[Array, ...]:
    """Make the results of matrices that are not finite NaN, which LAPACK does not always."""
    fine = xp.all(xp.isfinite(x), axis=(-2, -1))
    if fine.all():
        return results
    return tuple(
        xp.where(fine.reshape(fine.shape + (1,) * (one.ndim - fine.ndim)), one, xp.nan)
        for one in results
    )


def _absolute(found: Any) -> Any:
    """Give what does not depend on the phase of vectors, which nothing determines."""
    return [F.abs(one) for one in found] if isinstance(found, tuple) else found


def _rebuilt(found: Any) -> Any:
    """Give the matrix again: of full matrices the last vectors are not determined."""
    left, values, right = found
    count = values.shape[-1]
    return F.matmul(left[..., :count] * F.expand_dims(values, -2), right[..., :count, :])


class _OfSymmetric(OfMatrices):
    def infer(self, x: TensorType) -> Any:
        require_floats(x.dtype)
        size = require_square(x)
        return self.result(x, real_type(x).with_shape((*x.shape[:-2], size)))

    def result(self, x: TensorType, values: TensorType) -> Any:
        """Give the type of the result from that of the eigenvalues."""
        return values

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        n = types[0].shape[-1]
        return work(types[0], n, n, n, times=9)


def _symmetric_samples(build: Callable[[Any], Any], *more: Any) -> tuple[Any, ...]:
    return (
        sample(lambda x: build(_symmetric(x)), arg(("B", 3, 3), low=-1, high=1), label="stack"),
        sample(lambda x: _absolute(build(_symmetric(x))), arg((4, 4), low=-1, high=1), label="one"),
        sample(lambda x: build(_symmetric(x)), arg((1, 1)), label="single"),
        sample(
            lambda x: _absolute(build(_symmetric(x))), arg((3, 3), "complex64"), label="complex"
        ),
        sample(lambda x: build(_symmetric(x)), arg(("N", "N")), sizes={"N": 0}, label="empty"),
        *more,
    )


def _symmetric_bad(name: str, build: Callable[[Any], Any]) -> tuple[Any, ...]:
    return (
        bad(build, arg((2, 3)), match=f"{name}: .*square.* 2 != 3"),
        bad(build, arg((3,)), match="at least 2 axes"),
        bad(build, arg((2, 2), "int32"), error=DTypeError, match="takes floats, not int32"),
    )


@op
class Eigh(_OfSymmetric):
    """Eigenvalues of symmetric matrices, ascending, and eigenvectors as columns."""

    samples = _symmetric_samples(lambda x: F.eigh(x))
    bad = _symmetric_bad("eigh", lambda x: F.eigh(x))

    def result(self, x: TensorType, values: TensorType) -> TupleType:
        return TupleType((values, x))

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        return _unless_nan(xp, xp.tril(arrays[0]), *xp.linalg.eigh(arrays[0]))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        values, vectors = y
        inner: Value | None = None
        if g[1] is not None:
            inner = _differences(values) * F.matmul(adjoint(vectors), g[1])
        if g[0] is not None:
            own = on_diagonal(g[0])
            inner = own if inner is None else inner + own
        assert inner is not None  # one of the two is there
        return (symmetric(F.matmul(vectors, F.matmul(inner, adjoint(vectors)))),)


@function_of
def eigh(x: Any) -> tuple[Value, Value]:
    """Give eigenvalues (ascending) and eigenvectors (columns): x @ v = v * w, x symmetric.

    Only the lower triangle is read; the gradient is the symmetric one, and leaves out pairs
    of equal eigenvalues (see this file). Raises `ShapeError` unless matrices are square,
    `DTypeError` for integers.

    >>> eigh([[2.0, 0.0], [0.0, 1.0]])[0].eval().tolist()
    [1.0, 2.0]
    """
    values, vectors = items(make(Eigh(), as_value(x)))
    return values, vectors


@op
class Eigvalsh(_OfSymmetric):
    """Eigenvalues of symmetric matrices, ascending."""

    samples = _symmetric_samples(
        lambda x: F.eigvalsh(x),
        sample(
            lambda x: F.eigvalsh(x),
            arg((2, 2), values=(float("nan"), 0.0, 0.0, 1.0)),
            gradient=(),
            label="nan",
        ),
    )
    bad = _symmetric_bad("eigvalsh", lambda x: F.eigvalsh(x))

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        return _unless_nan(xp, xp.tril(arrays[0]), xp.linalg.eigvalsh(arrays[0]))

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        n = types[0].shape[-1]
        return work(types[0], n, n, n, times=4, over=3)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        vectors = F.eigh(xs[0])[1]
        return (symmetric(F.matmul(_columns(vectors, g), adjoint(vectors))),)


@function_of
def eigvalsh(x: Any) -> Value:
    """Give the eigenvalues of symmetric matrices, ascending; otherwise as `eigh`."""
    return make(Eigvalsh(), as_value(x))


class _Singular(OfMatrices):
    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        rows, columns = types[0].shape[-2:]
        return work(types[0], rows, columns, minimum(rows, columns), times=self.each)

    each = 14


@op
class Svd(_Singular):
    """Singular vectors as columns of U and rows of V^H, and singular values, descending."""

    full_matrices: bool
    samples = (
        sample(lambda x: _absolute(F.svd(x, full_matrices=False)), arg(("B", 4, 3)), label="tall"),
        sample(lambda x: _absolute(F.svd(x, full_matrices=False)), arg((2, "N")), label="wide"),
        sample(lambda x: _absolute(F.svd(x)), arg((3, 3)), label="square"),
        sample(
            lambda x: _absolute(F.svd(x, full_matrices=False)),
            arg((4, 2), "complex64"),
            label="complex tall",
        ),
        sample(
            lambda x: F.matmul(*F.svd(x, full_matrices=False)[::2]),
            arg((2, 3), "complex64"),
            label="complex wide",
        ),
        sample(lambda x: _rebuilt(F.svd(x)), arg((4, 2)), gradient=(), label="full"),
        sample(lambda x: F.svd(x)[1], arg((2, "N")), label="values"),
        sample(
            lambda x: F.svd(x, full_matrices=False), arg(("M", 2)), sizes={"M": 0}, label="empty"
        ),
    )
    bad = (
        bad(lambda x: F.svd(x), arg((3,)), match="svd: .*at least 2 axes"),
        bad(lambda x: F.svd(x), arg((2, 2), "int8"), error=DTypeError, match="takes floats"),
    )

    def infer(self, x: TensorType) -> TupleType:
        require_floats(x.dtype)
        rows, columns = require_matrix(x)
        size, stack = minimum(rows, columns), x.shape[:-2]
        left, right = (rows, columns) if self.full_matrices else (size, size)
        return TupleType(
            (
                x.with_shape((*stack, rows, left)),
                real_type(x).with_shape((*stack, size)),
                x.with_shape((*stack, right, columns)),
            )
        )

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        found = xp.linalg.svd(arrays[0], full_matrices=self.full_matrices)
        return _unless_nan(xp, arrays[0], *found)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        rows, columns = xs[0].shape[-2:]
        if g[0] is None and g[2] is None:
            left, _, right = F.svd(xs[0], full_matrices=False)
            return (F.matmul(_columns(left, g[1]), right),)
        if self.full_matrices and equal(rows, columns) is not True:
            raise GradError(
                "svd: the singular vectors of full matrices have a gradient for square ones only: "
                "the last of others are not determined by x.",
                fix="use full_matrices=False",
            )
        return (_svd_gradient(F, g, y, rows, columns),)


def _svd_gradient(F: Functions, g: Any, y: Any, rows: Size, columns: Size) -> Value:
    """Give U ((skew(U^H gU) / E) S + S (skew(V^H gV) / E) + gS) V^H, E[i, j] = s[j]^2 - s[i]^2.

    To it comes what leaves the space of the vectors: (1 - U U^H) gU S^-1 V^H, and for V alike.
    """
    u, s, vh = y
    uh, v = adjoint(u), adjoint(vh)
    apart = _differences(s) * _inverse(F.expand_dims(s, -2) + F.expand_dims(s, -1))
    inner = on_diagonal(g[1]) if g[1] is not None else None
    outside: Value | None = None
    if g[0] is not None:
        along = F.matmul(uh, g[0])
        part = _columns((along - adjoint(along)) * apart, s)
        if is_complex(u.dtype):  # the phase of u against v turns with the diagonal of U^H dX V
            turned = F.sum(along * F.eye(s.shape[-1], dtype=s.dtype), axis=-1)
            part = part + on_diagonal(F.complex(0.0, F.imag(turned) * _inverse(s)))
        inner = part if inner is None else inner + part
        if less_equal(rows, columns) is not True:
            away = _columns(g[0] - F.matmul(u, along), _inverse(s))
            outside = F.matmul(away, vh)
    if g[2] is not None:
        along = F.matmul(g[2], v)  # the conjugate transpose of V^H gV
        part = (adjoint(along) - along) * apart * F.expand_dims(s, -1)
        inner = part if inner is None else inner + part
        if less_equal(columns, rows) is not True:
            away = g[2] - F.matmul(along, vh)
            beyond = F.matmul(_columns(u, _inverse(s)), away)
            outside = beyond if outside is None else outside + beyond
    assert inner is not None  # one of the three is there
    whole = F.matmul(u, F.matmul(inner, vh))
    return whole if outside is None else whole + outside


@function_of
def svd(x: Any, *, full_matrices: bool = True) -> tuple[Value, Value, Value]:
    """Give U, S and V^H with x = U diag(S) V^H; S is not negative and descends.

    For (M, N) and K = min(M, N): (M, M), (K,), (N, N), or (M, K), (K,), (K, N) without
    `full_matrices`; only then vectors of matrices that are not square have a gradient. It leaves
    out pairs of equal singular values (see this file). Raises `ShapeError` for vectors,
    `DTypeError` for integers.
    """
    u, s, vh = items(make(Svd(bool(full_matrices)), as_value(x)))
    return u, s, vh


@op
class Svdvals(_Singular):
    """Singular values, descending."""

    each = 4
    samples = (
        sample(lambda x: F.svdvals(x), arg(("B", 3, 4)), label="stack"),
        sample(lambda x: F.svdvals(x), arg((3, 2), "complex64"), label="complex"),
        sample(lambda x: F.svdvals(x), arg((4, "N")), sizes={"N": 2}, label="tall"),
        sample(lambda x: F.svdvals(x), arg((0, 2)), label="empty"),
    )
    bad = (
        bad(lambda x: F.svdvals(x), arg((3,)), match="svdvals: .*at least 2 axes"),
        bad(lambda x: F.svdvals(x), arg((2, 2), "bool"), error=DTypeError, match="takes floats"),
    )

    def infer(self, x: TensorType) -> TensorType:
        require_floats(x.dtype)
        rows, columns = require_matrix(x)
        return real_type(x).with_shape((*x.shape[:-2], minimum(rows, columns)))

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        return _unless_nan(xp, arrays[0], xp.linalg.svd(arrays[0], compute_uv=False))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        left, _, right = F.svd(xs[0], full_matrices=False)
        return (F.matmul(_columns(left, g), right),)


@function_of
def svdvals(x: Any) -> Value:
    """Give the singular values of matrices, descending; raises as `svd`.

    >>> svdvals([[3.0, 0.0], [0.0, -4.0]]).eval().tolist()
    [4.0, 3.0]
    """
    return make(Svdvals(), as_value(x))
