"""Oracles of factorisations and equations: NumPy's and SciPy's in float64, and loops.

Where NumPy is the oracle, tests/ops/test_matrices.py also checks what defines the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import scipy.linalg

Array = Any


def each(function: Callable[..., Any], *cores: int) -> Callable[..., Any]:
    """Apply a function matrix by matrix; what raises for one is NaN there."""

    def oracle(*arrays: Array) -> Any:
        own = cores or (2,) * len(arrays)
        stack = np.broadcast_shapes(*(a.shape[: a.ndim - c] for a, c in zip(arrays, own)))
        spread = [np.broadcast_to(a, (*stack, *a.shape[a.ndim - c :])) for a, c in zip(arrays, own)]
        found = [_one(function, [a[place] for a in spread]) for place in np.ndindex(*stack)]
        if not isinstance(found[0], tuple):
            return np.array(found).reshape((*stack, *np.shape(found[0])))
        return tuple(np.array(p).reshape((*stack, *np.shape(p[0]))) for p in zip(*found))

    return oracle


def _one(function: Callable[..., Any], arrays: list[Array]) -> Any:
    try:
        return function(*arrays)
    except np.linalg.LinAlgError:
        return np.full(arrays[-1].shape, np.nan)


def cholesky(x: Array) -> Array:
    """Follow the definition, row by row."""
    size = len(x)
    found = np.zeros((size, size), x.dtype)
    for i in range(size):
        for j in range(i + 1):
            rest = x[i, j] - sum(found[i, k] * np.conj(found[j, k]) for k in range(j))
            if i == j and not rest.real > 0:
                return np.full((size, size), np.nan)
            found[i, j] = np.sqrt(rest) if i == j else rest / found[j, j]
    return found


def triangular(op: Any, a: Array, b: Array) -> Array:
    """Let SciPy solve with the triangle alone."""

    def one(left: Array, right: Array) -> Array:
        if not right.size:
            return right
        return scipy.linalg.solve_triangular(
            left, right, lower=op.lower, trans="T" if op.transpose else "N",
            unit_diagonal=op.unit_diagonal,
        )  # fmt: skip

    return each(one)(a, b)


def lu_factor(x: Array) -> tuple[Array, Array]:
    """Follow the definition: the first largest of what is left of a column goes up."""
    found = np.array(x)
    pivots = []
    for k in range(min(x.shape)):
        best = k + int(np.argmax(np.abs(found[k:, k])))
        pivots.append(best)
        found[[k, best]] = found[[best, k]]
        for i in range(k + 1, len(x)):
            if found[k, k]:
                found[i, k] /= found[k, k]
            found[i, k + 1 :] -= found[i, k] * found[k, k + 1 :]
    return found, np.array(pivots, np.int32)


def lu_order(op: Any, pivots: Array) -> Array:
    """Exchange rows of a list."""

    def one(row: Array) -> Array:
        found = list(range(op.rows))
        for k, other in enumerate(row):
            found[k], found[other] = found[other], found[k]
        return np.array(found, np.int32)

    return each(one, 1)(pivots)


def det(x: Array) -> Any:
    """Let mpmath eliminate."""
    with mpmath.workdps(40):
        found = mpmath.det(mpmath.matrix(x.tolist())) if len(x) else 1.0
    return x.dtype.type(complex(found) if x.dtype.kind == "c" else float(found))


def cofactors(x: Array) -> Array:
    """Give the determinants of what is left without a row and a column; of large ones by mpmath."""
    if len(x) > 4:
        with mpmath.workdps(40):
            whole = mpmath.matrix(x.tolist())
            found = mpmath.det(whole) * mpmath.inverse(whole).T
            return np.array(found.tolist()).astype(x.dtype)
    found = np.empty_like(x)
    for i, j in np.ndindex(*x.shape):
        found[i, j] = (-1) ** (i + j) * det(np.delete(np.delete(x, i, axis=0), j, axis=1))
    return found


def slogdet(x: Array) -> tuple[Array, Array]:
    """Give sign and logarithm of the determinant."""
    found = det(x)
    size = np.abs(found)
    with np.errstate(divide="ignore"):
        return np.asarray(found / size if size else 0.0), np.log(size)


def solve(op: Any, a: Array, b: Array) -> Array:
    """Let SciPy solve."""

    def one(left: Array, right: Array) -> Array:
        if np.linalg.matrix_rank(left) < len(left):
            return np.full(right.shape, np.nan)
        return scipy.linalg.solve(left, right) if right.size else right

    return each(one)(a, b)


def inv(x: Array) -> Array:
    """Let SciPy invert."""
    if np.linalg.matrix_rank(x) < len(x):
        return np.full(x.shape, np.nan)
    return scipy.linalg.inv(x) if x.size else x


def expm(x: Array) -> Array:
    """Add up the series with mpmath; SciPy's has errors of some hundred epsilons here."""
    if not x.size:
        return x
    with mpmath.workdps(40):
        found = mpmath.expm(mpmath.matrix(x.tolist()), method="taylor")
        return np.array(found.tolist()).astype(x.dtype)


def lu(x: Array) -> Any:
    """Let SciPy factor."""
    return each(lambda one: tuple(scipy.linalg.lu(one)))(x)


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of one matrix the oracle of an operation without attributes."""
    return lambda op, *arrays: each(function)(*arrays)


def eigvalsh(x: Array) -> Array:
    """Let SciPy find eigenvalues; a NaN gives NaN."""
    if not x.size or np.isnan(x).any():
        return np.full(len(x), np.nan)
    return scipy.linalg.eigvalsh(x)


def shifted(x: Array) -> Array:
    """Add what makes a sample of equations regular."""
    return x + 5 * np.eye(x.shape[-1])


def apart(x: Array) -> Array:
    """Add what drives eigenvalues apart."""
    return x + 6 * np.diag(np.arange(x.shape[-1]))


def gram(x: Array) -> Array:
    """Give x x^T."""
    return x @ np.swapaxes(x, -1, -2)


def solution(a: Array, b: Array, shift: float = 5) -> Array:
    """Solve for a right side that is one vector for all, or matrices."""
    left = a + shift * np.eye(a.shape[-1])
    if b.ndim > 1:
        return np.linalg.solve(left, b)
    return np.linalg.solve(left, np.broadcast_to(b, left.shape[:-1])[..., None])[..., 0]


def lstsq(a: Array, b: Array) -> Any:
    """Let NumPy solve, matrix by matrix; residuals from their definition."""

    def one(left: Array, right: Array) -> Any:
        x, _, rank, values = np.linalg.lstsq(left, right, rcond=1e-6)
        return x, np.sum((left @ x - right) ** 2, axis=0), np.int64(rank), values

    return each(one)(a, b)


def matrix_norm(order: Any, keepdims: bool) -> Callable[[Array], Array]:
    """Let NumPy give the norm over the last two axes."""
    return lambda x: np.linalg.norm(x, order, axis=(-2, -1), keepdims=keepdims)


def complex_results(found: Any) -> list[Any]:
    """NumPy gives real eigenvalues where all of them are."""
    return [np.asarray(one, np.complex128) for one in found]


ORACLES: dict[str, Callable[..., Any]] = {
    "cholesky": plain(cholesky),
    "qr": lambda op, x: tuple(np.linalg.qr(x, mode="complete" if op.complete else "reduced")),
    "lu_factor": plain(lu_factor),
    "lu_order": lu_order,
    "lu": lu,
    "solve": solve,
    "triangular_solve": triangular,
    "inv": plain(inv),
    "det": plain(det),
    "cofactors": plain(cofactors),
    "slogdet": plain(slogdet),
    "pinv": lambda op, x: np.linalg.pinv(x, rtol=1e-6 if op.rtol is None else op.rtol),
    "pinv:tolerances": lambda op, x, rtol: np.linalg.pinv(x, rtol=rtol),
    "expm": plain(expm),
    "eig": lambda op, x: tuple(complex_results(np.linalg.eig(x))),
    "eigvals": lambda x: complex_results([np.linalg.eigvals(x)])[0],
    "eigvals:complex": lambda x: complex_results([np.linalg.eigvals(apart(x))])[0],
    "eigh": lambda op, x: tuple(np.linalg.eigh(x)),
    "eigvalsh": plain(eigvalsh),
    "svd": lambda op, x: tuple(np.linalg.svd(x, full_matrices=op.full_matrices)),
    "lu_solve": solution,
    "lu_solve:transposed": lambda a, b: solution(np.swapaxes(a, -1, -2), b),
    "cho_solve": lambda a, b: np.linalg.solve(gram(np.tril(shifted(a))), b),
    "cho_solve:upper": lambda a, b: solution(gram(np.tril(shifted(a))), b, 0),
    "lstsq": lstsq,
    "lstsq:wide": lambda a, b: lstsq(a, b)[0],
    "lstsq:vector": lambda a, b: np.linalg.lstsq(a, b)[0],
    "matrix_power:zero": lambda x: np.linalg.matrix_power(x, 0),
    "matrix_power:one": lambda x: x,
    "matrix_power:five": lambda x: np.linalg.matrix_power(x, 5),
    "matrix_power:inverse": lambda x: np.linalg.matrix_power(shifted(x), -3),
    "matrix_power:integers": lambda x: x @ x,
    "vector_norm:all": lambda x: np.linalg.norm(x.reshape(-1)),
    "vector_norm:complex": lambda x: np.linalg.norm(x),
    "vector_norm:rows": lambda x: np.linalg.norm(x, axis=1),
    "vector_norm:third": lambda x: np.sum(np.abs(x) ** 3, axis=(0, 2), keepdims=True) ** (1 / 3),
    "vector_norm:largest": lambda x: np.max(np.abs(x)),
    "vector_norm:smallest": lambda x: np.min(np.abs(x), axis=0),
    "vector_norm:empty": lambda x: np.sum(np.abs(x)),
    "vector_norm:count": lambda x: np.count_nonzero(x).astype(x.dtype),
    "vector_norm:negative": lambda x: np.sum(np.abs(x) ** -1.5) ** (-1 / 1.5),
    **{
        f"matrix_norm:{label}": matrix_norm(order, keepdims)
        for label, order, keepdims in (
            ("fro", "fro", False),
            ("nuc", "nuc", False),
            ("two", 2, True),
            ("minus two", -2, False),
            ("one", 1, False),
            ("minus inf", -np.inf, True),
        )
    },
    "condition_number:two": lambda x: np.linalg.cond(x + 4 * np.eye(3)),
    "condition_number:minus two": lambda x: np.linalg.cond(x, -2),
    "condition_number:fro": lambda x: np.linalg.cond(x + 4 * np.eye(2), "fro"),
    "condition_number:singular": lambda x: np.inf,
    "norm:all": lambda x: np.linalg.norm(x),
    "norm:vectors": lambda x: np.linalg.norm(x, 3, axis=-1),
    "norm:matrices": lambda x: np.linalg.norm(x, "nuc", axis=(0, 2), keepdims=True),
    "norm:matrix": lambda x: np.linalg.norm(x, 1),
    "matrix_rank": lambda x: np.linalg.matrix_rank(x),
    "matrix_rank:tolerance": lambda x: np.linalg.matrix_rank(x, rtol=0.9),
    "matrix_rank:tolerances": lambda x, rtol: np.linalg.matrix_rank(x, rtol=rtol),
    "svdvals": lambda op, x: np.linalg.svd(x, compute_uv=False),
}
