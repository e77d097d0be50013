"""How far two results are apart: what `check` and `bisect_passes` measure with."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.function import Function
from symgraph.graph.dtypes import dtype_name, is_float
from symgraph.graph.scalar import widen

Array = Any

# Differences relative to the largest element that rounding in another order explains.
ROUNDING = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


def difference(oracle: Array, found: Array) -> float:
    """Give the largest difference, relative to the oracle's largest element; 0 where all agree.

    Places where the oracle itself is not finite do not count: what it could not compute, a
    stabilised expression may. A result that is not finite where the oracle's is, is infinitely far.
    """
    if isinstance(oracle, tuple):
        return max((difference(a, b) for a, b in zip(oracle, found)), default=0.0)
    first, second = np.asarray(oracle), np.asarray(found)
    if first.shape != second.shape:
        return float("inf")
    if first.dtype.kind == "c":
        first, second = (np.stack([one.real, one.imag]) for one in (first, second))
    if not is_float(dtype_name(first.dtype)):
        return 0.0 if np.array_equal(first, second) else float("inf")
    a, b = widen(first).astype(np.float64), widen(second).astype(np.float64)
    counts = np.isfinite(a)
    if not counts.any():
        return 0.0
    if not np.isfinite(b[counts]).all():
        return float("inf")
    scale = max(float(np.abs(a[counts]).max()), np.finfo(np.float64).tiny)
    return float(np.abs(a[counts] - b[counts]).max()) / scale


def require_tolerance(asked: str, rtol: Any) -> None:
    """Raise `ArgumentError` unless a tolerance is None or a number >= 0."""
    number = isinstance(rtol, int | float) and not isinstance(rtol, bool) and rtol >= 0
    if rtol is not None and not number:
        raise ArgumentError(
            f"{asked}: rtol must be None or a number >= 0, got {rtol!r:.60}.",
            fix="rtol=1e-3; None chooses by dtype",
        )


def require_function(asked: str, f: Any) -> None:
    """Raise `ArgumentTypeError` for anything but a compiled function."""
    if not isinstance(f, Function):
        raise ArgumentTypeError(
            f"{asked}: takes a compiled function, got {type(f).__name__}.",
            fix=f"sg.{asked}(sg.function(inputs, outputs), *arrays)",
        )


def tolerance(array: Array, wanted: float | None) -> float:
    """Give the difference that is still rounding: the caller's, or one by dtype."""
    if wanted is not None:
        return wanted
    first = array[0] if isinstance(array, tuple) else array
    return ROUNDING.get(dtype_name(np.asarray(first).dtype), 0.0)
