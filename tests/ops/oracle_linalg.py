"""Oracles of products: NumPy's einsum without BLAS, on letters written out per case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def matmul(op: Any, x: Array, y: Array) -> Array:
    """Sum products along the inner axis, one element after the other, in the widest dtype."""
    rows = x[None, :] if x.ndim == 1 else x
    columns = y[:, None] if y.ndim == 1 else y
    terms = rows[..., :, :, None] * columns[..., None, :, :]
    found = np.sum(terms, axis=-2, dtype=terms.dtype)
    if x.ndim == 1:
        found = found[..., 0, :]
    return found[..., 0] if y.ndim == 1 else found


ORACLES: dict[str, Callable[..., Any]] = {
    "matmul": matmul,
    "matmul_bias": lambda op, x, y, b: matmul(op, x, y) + b,
    "matmul_bias_relu": lambda op, x, y, b: np.maximum(matmul(op, x, y) + b, 0),
    "matrix_transpose": lambda x: np.swapaxes(x, -1, -2),
    "tensordot:two": lambda x, y: np.einsum("bij,ijk->bk", x, y),
    "tensordot:one": lambda x, y: np.einsum("ik,kjl->ijl", x, y),
    "tensordot:none": lambda x, y: np.einsum("b,ij->bij", x, y),
    "tensordot:named": lambda x, y: np.einsum("bij,jb->i", x, y),
    "tensordot:empty": lambda x, y: np.einsum("ik,k->i", x, y),
    "dot": np.dot,
    "vecdot": lambda x, y: np.einsum("...i,...i->...", x, y),
    "vecdot:first": lambda x, y: np.einsum("ib,ic->b", x, y),
    "outer": np.outer,
}
