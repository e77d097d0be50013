"""Oracles of what numbers select: NumPy's functions of the same names, and its own keys."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any


def filled(size: int, found: Array) -> Array:
    """Give so many of some positions."""
    return np.resize(found, size) if len(found) else np.zeros(size, np.int64)


ORACLES = {
    "places": lambda op, x: filled(op.size, np.nonzero(x)[0]),
    "repeat_places": lambda op, n: filled(op.size, np.arange(len(n)).repeat(n)),
    "repeat_counts": lambda op, n: n,
    "as_size:steps": lambda n: np.arange(n),
    "as_size:shape": lambda x, n: np.zeros((n, len(x))),
    "nonzero": lambda x: np.nonzero(x),
    "flatnonzero": lambda x: np.flatnonzero(x),
    "argwhere": lambda x: np.argwhere(x),
    "compress:columns": lambda c, x: np.compress(c, x, axis=1),
    "compress:flat": lambda c, x: np.compress(c, x),
    "unique_all": lambda x: tuple(np.unique_all(x)),
    "unique_counts": lambda x: tuple(np.unique_counts(x)),
    # of which NumPy's own numbers NaNs in no order, as it sorts by another method
    "unique_inverse": lambda x: (np.unique_all(x).values, np.unique_all(x).inverse_indices),
    "unique_values": lambda x: np.unique(x, equal_nan=False),
    "repeat:counted": lambda x, n: np.repeat(x, n, axis=1),
    "repeat:once": lambda x, n: np.repeat(x, n),
    "repeat:given": lambda x: np.repeat(x, [1, 0, 2], axis=0),
    "index:mask": lambda x: x[x > 0],
    "index:mask of rows": lambda x, m: x[m],
    "index:mask between": lambda x, m: x[1:, m, 0],
    "index:computed bounds": lambda x, i: x[i : i + 3, ::-1],
    "index:backwards": lambda x, i: x[:, i::-2],
}
