"""Linear algebra over stacks of matrices, `xp.linalg.solve(a, b)`.

A matrix that has no result (singular, not positive definite) gives NaN and leaves the others of its
stack alone, as everywhere in symgraph; the standard leaves open what happens.
"""

from __future__ import annotations

import builtins
from typing import Any, NamedTuple

from symgraph.array_api.array import Array, call, call_several, product, require_array
from symgraph.array_api.kinds import FLOAT, NUM, REAL_FLOAT, require
from symgraph.array_api.statistics import sum as _sum

__all__ = [
    "cholesky", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "matmul", "matrix_norm",
    "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve",
    "svd", "svdvals", "tensordot", "trace", "vecdot", "vector_norm",
]  # fmt: skip


class EighResult(NamedTuple):
    """What `eigh` gives."""

    eigenvalues: Array
    eigenvectors: Array


class QRResult(NamedTuple):
    """What `qr` gives."""

    Q: Array
    R: Array


class SlogdetResult(NamedTuple):
    """What `slogdet` gives."""

    sign: Array
    logabsdet: Array


class SVDResult(NamedTuple):
    """What `svd` gives."""

    U: Array
    S: Array
    Vh: Array


def _build(name: str, takes: str, x: Array, *args: Any, **options: Any) -> Array:
    require(name, takes, require_array(name, x).dtype)
    return call(name, x, *args, **options)


def _several(name: str, x: Array, **options: Any) -> tuple[Array, ...]:
    require(name, FLOAT, require_array(name, x).dtype)
    return call_several(name, x, **options)


def matmul(x1: Array, x2: Array, /) -> Array:
    """Multiply matrices, and stacks of them."""
    return product("matmul", NUM, x1, x2)


def matrix_transpose(x: Array, /) -> Array:
    """Exchange the last two axes."""
    return call("matrix_transpose", require_array("matrix_transpose", x))


def tensordot(x1: Array, x2: Array, /, *, axes: Any = 2) -> Array:
    """Multiply and add up over several axes of both."""
    return product("tensordot", NUM, x1, x2, axes)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Multiply vectors along an axis: sum of conj(x1) * x2."""
    return product("vecdot", NUM, x1, x2, axis=axis)


def outer(x1: Array, x2: Array, /) -> Array:
    """Multiply each element of a vector by each of another."""
    return product("outer", NUM, x1, x2)


def cross(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Give the vector product along an axis of size 3."""
    return product("cross", NUM, x1, x2, axis=axis)


def solve(x1: Array, x2: Array, /) -> Array:
    """Solve x1 @ y = x2; a vector `x2` is one right side, matrices are several."""
    return product("solve", FLOAT, x1, x2)


def cholesky(x: Array, /, *, upper: builtins.bool = False) -> Array:
    """Factor positive definite matrices: x = L @ conj(L.mT), or conj(U.mT) @ U if `upper`."""
    return _build("cholesky", FLOAT, x, upper=upper)


def det(x: Array, /) -> Array:
    """Give determinants."""
    return _build("det", FLOAT, x)


def diagonal(x: Array, /, *, offset: int = 0) -> Array:
    """Take the diagonals of the last two axes."""
    return call("diagonal", require_array("diagonal", x), offset, -2, -1)


def eigh(x: Array, /) -> EighResult:
    """Give eigenvalues, ascending, and eigenvectors of symmetric or Hermitian matrices."""
    return EighResult(*_several("eigh", x))


def eigvalsh(x: Array, /) -> Array:
    """Give eigenvalues, ascending, of symmetric or Hermitian matrices."""
    return _build("eigvalsh", FLOAT, x)


def inv(x: Array, /) -> Array:
    """Give inverses."""
    return _build("inv", FLOAT, x)


def matrix_norm(x: Array, /, *, keepdims: builtins.bool = False, ord: Any = "fro") -> Array:
    """Give norms of matrices: "fro", "nuc", 1, 2, inf, or the negatives of these numbers."""
    return _build("matrix_norm", FLOAT, x, keepdims=keepdims, ord=ord)


def matrix_power(x: Array, n: int, /) -> Array:
    """Multiply matrices n times by themselves; below 0, their inverses."""
    return _build("matrix_power", FLOAT, x, n)


def matrix_rank(x: Array, /, *, rtol: float | Array | None = None) -> Array:
    """Count the singular values that are larger than `rtol` times the largest."""
    return _build("matrix_rank", FLOAT, x, rtol=_tolerance("matrix_rank", rtol))


def pinv(x: Array, /, *, rtol: float | Array | None = None) -> Array:
    """Give pseudoinverses; singular values up to `rtol` times the largest count as 0."""
    return _build("pinv", FLOAT, x, rtol=_tolerance("pinv", rtol))


def _tolerance(name: str, rtol: Any) -> Any:
    """Check what tolerances are: a number for all matrices, or an array with one for each."""
    if isinstance(rtol, Array):
        require(name, REAL_FLOAT, rtol.dtype)
    return rtol


def qr(x: Array, /, *, mode: str = "reduced") -> QRResult:
    """Factor matrices into orthogonal and triangular ones; `mode` "reduced" or "complete"."""
    return QRResult(*_several("qr", x, mode=mode))


def slogdet(x: Array, /) -> SlogdetResult:
    """Give the signs of determinants and the logarithms of their absolute values."""
    return SlogdetResult(*_several("slogdet", x))


def svd(x: Array, /, *, full_matrices: builtins.bool = True) -> SVDResult:
    """Factor matrices: x = U @ diag(S) @ Vh, with S descending."""
    return SVDResult(*_several("svd", x, full_matrices=full_matrices))


def svdvals(x: Array, /) -> Array:
    """Give singular values, descending."""
    return _build("svdvals", FLOAT, x)


def trace(x: Array, /, *, offset: int = 0, dtype: Any = None) -> Array:
    """Add up the diagonals of the last two axes; dtypes as for `sum`."""
    require("trace", NUM, require_array("trace", x).dtype)
    return _sum(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def vector_norm(
    x: Array, /, *, axis: int | tuple[int, ...] | None = None,
    keepdims: builtins.bool = False, ord: float = 2,
) -> Array:  # fmt: skip
    """Give norms of vectors along axes, of any order."""
    return _build("vector_norm", FLOAT, x, axis=axis, keepdims=keepdims, ord=ord)
