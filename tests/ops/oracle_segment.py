"""Oracles of reductions over segments: rows picked by their number, reduced by NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
COUNTS = {"rows": 4, "both": 3, "empty": 2, "whole": 3}


def segments(count: int, reduce: Callable[..., Array], none: str) -> Callable[..., Array]:
    """Reduce the rows of one number after the other; `none` says what a segment without rows is."""

    def oracle(x: Array, numbers: Array) -> Array:
        rows = x.reshape(numbers.size, *x.shape[numbers.ndim :])
        found = []
        for number in range(count):
            own = rows[numbers.reshape(-1) == number]
            empty = np.full(rows.shape[1:], value_of(none, x.dtype))
            found.append(reduce(own, axis=0) if len(own) else empty)
        return np.array(found).astype(
            np.float32 if none == "mean" and x.dtype.kind == "i" else x.dtype
        )

    return oracle


def value_of(none: str, dtype: Any) -> Any:
    if none in ("low", "high"):
        sign = -1 if none == "low" else 1
        limits = None if dtype.kind == "f" else np.iinfo(dtype)
        return sign * np.inf if limits is None else limits.min if sign < 0 else limits.max
    return {"0": 0, "1": 1, "mean": 0}[none]


ORACLES: dict[str, Callable[..., Any]] = {
    f"segment_{name}:{label}": segments(count, function, none)
    for name, (function, none) in {
        "sum": (np.sum, "0"),
        "prod": (np.prod, "1"),
        "max": (np.max, "low"),
        "min": (np.min, "high"),
        "mean": (np.mean, "mean"),
    }.items()
    for label, count in COUNTS.items()
}
