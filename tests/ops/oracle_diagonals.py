"""Oracles of diagonals, triangles, quantiles and membership: NumPy's functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def quantile(q: Any, **options: Any) -> Callable[[Array], Array]:
    return lambda x: np.quantile(x.astype(np.float64), q, **options)


ORACLES: dict[str, Callable[..., Any]] = {
    "diagonal": lambda op, x: np.diagonal(x, op.offset, -2, -1),
    "trace:plain": np.trace,
    "trace:stack": lambda x: np.trace(x, 1, 1, 2),
    "trace:whole": lambda x: np.trace(x, dtype=np.int32),
    "diag:matrix": np.diag,
    "diag:above": lambda x: np.diag(x, 2),
    "diag:vector": lambda x: np.diag(x, -1),
    "tril:plain": np.tril,
    "tril:below": lambda x: np.tril(x, -1),
    "triu:plain": np.triu,
    "triu:above": lambda x: np.triu(x, 2),
    "kron": np.kron,
    "cross:last": np.cross,
    "cross:first": lambda x, y: np.cross(x, y, axis=0),
    "cross:whole": np.cross,
    "quantile:all": quantile(0.3),
    "quantile:several": quantile([0, 0.25, 1], axis=1),
    "quantile:nearest": quantile(0.4, axis=0, keepdims=True, method="nearest"),
    "quantile:lower": quantile(0.4, axis=0, method="lower"),
    "quantile:midpoint": lambda x, q: np.quantile(x, q, axis=(0, -1), method="midpoint"),
    "quantile:nan": quantile(0.5, axis=1),
    "quantile:where": np.quantile,
    "median:all": np.median,
    "median:even": lambda x: np.median(x, axis=0),
    "median:whole": lambda x: np.median(x, axis=1, keepdims=True),
    "isin:plain": np.isin,
    "isin:inverted": lambda x: np.isin(x, [1.5, 2.0], invert=True),
    "isin:none": np.isin,
}
