"""Oracles of reductions: NumPy in float64, Python's integers, and loops over definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def over_axes(function: Callable[..., Array], **options: Any) -> Callable[..., Array]:
    """Make a NumPy reduction an oracle."""

    def oracle(op: Any, x: Array) -> Array:
        return function(x, axis=op.axis, keepdims=op.keepdims, **options)

    return oracle


def by_rows(op: Any, x: Array, combine: Callable[[list[Any]], Any], dtype: Any) -> Array:
    """Combine the elements of each row with a function of a list of Python numbers."""
    rest = [d for d in range(x.ndim) if d not in op.axis]
    shape = [1 if d in op.axis else x.shape[d] for d in range(x.ndim)]
    found = np.empty([x.shape[d] for d in rest], dtype)
    for place in np.ndindex(*found.shape):
        key = dict(zip(rest, place))
        row = x[tuple(key.get(d, slice(None)) for d in range(x.ndim))]
        found[place] = combine(row.reshape(-1).tolist())
    return found.reshape(shape if op.keepdims else found.shape)


def summed(op: Any, x: Array) -> Array:
    """Add exactly: with integers of any size, and floats without rounding on the way."""
    floating = x.dtype.kind == "f"
    dtype = np.float64 if floating else np.uint64 if x.dtype.kind == "u" else np.int64
    return by_rows(op, x, math.fsum if floating else sum, dtype)


def multiplied(op: Any, x: Array) -> Array:
    """Multiply with Python's numbers."""
    kind = x.dtype.kind
    dtype = np.float64 if kind == "f" else np.uint64 if kind == "u" else np.int64
    return by_rows(op, x, math.prod, dtype)


def others_multiplied(op: Any, x: Array) -> Array:
    """Multiply all others, one position after the other."""
    found = np.empty_like(x)
    size = x.shape[op.axis]
    for place in range(size):
        rest = [other for other in range(size) if other != place]
        key = [slice(None)] * x.ndim
        key[op.axis] = place
        found[tuple(key)] = np.prod(np.take(x, rest, axis=op.axis), axis=op.axis)
    return found


def first_best(better: Callable[[float, float], bool]) -> Callable[..., Array]:
    """Search each row from the left; a NaN is better than any number."""

    def oracle(op: Any, x: Array) -> Array:
        rows = np.moveaxis(x, op.axis, -1)
        found = np.empty(rows.shape[:-1], np.int64)
        for place in np.ndindex(*found.shape):
            row = rows[place].tolist()
            best = 0
            for number, element in enumerate(row):
                if row[best] != row[best]:
                    break
                if element != element or better(element, row[best]):
                    best = number
            found[place] = best
        return np.expand_dims(found, op.axis) if op.keepdims else found

    return oracle


def floating(x: Array) -> Array:
    """Integers and bools average as float32, which holds these samples' values exactly."""
    return x if x.dtype.kind == "f" else x.astype(np.float32)


def average(function: Callable[..., Array], **options: Any) -> Callable[..., Array]:
    """Make a NumPy average the oracle of a composite; an empty axis gives NaN."""

    def oracle(x: Array) -> Array:
        wide = floating(x).astype(np.float64)
        if not x.size:
            return np.full(np.sum(wide, axis=options.get("axis")).shape, np.nan)
        return np.asarray(function(wide, **options)).astype(
            np.float32 if x.dtype.kind != "f" else np.float64
        )

    return oracle


ORACLES: dict[str, Callable[..., Any]] = {
    "sum": summed,
    "prod": multiplied,
    "max": over_axes(np.max),
    "min": over_axes(np.min),
    "any": over_axes(np.any),
    "all": over_axes(np.all),
    "argmax": first_best(lambda a, b: a > b),
    "argmin": first_best(lambda a, b: a < b),
    "prod_others": others_multiplied,
    "mean:all": average(np.mean),
    "mean:rows": average(np.mean, axis=0),
    "mean:kept": average(np.mean, axis=(0, -1), keepdims=True),
    "mean:one": average(np.mean, axis=1),
    "mean:none": average(np.mean, axis=0),
    "mean:empty": average(np.mean, axis=1),
    "mean:integers": average(np.mean),
    "mean:bools": average(np.mean),
    "mean:half": average(np.mean),
    "var:all": average(np.var),
    "var:corrected": average(np.var, axis=0, ddof=1),
    "var:fraction": average(np.var, axis=(0, 1), ddof=0.5),
    "var:kept": average(np.var, axis=1, keepdims=True),
    "var:large": average(np.var),
    "var:integers": average(np.var),
    "var:half": average(np.var, axis=0),
    "std:all": average(np.std),
    "std:corrected": average(np.std, axis=0, ddof=1),
    "std:kept": average(np.std, axis=1, keepdims=True),
    "std:half": average(np.std),
    "count_nonzero:all": np.count_nonzero,
    "count_nonzero:bools": lambda x: np.count_nonzero(x, axis=0),
    "count_nonzero:floats": lambda x: np.count_nonzero(x, axis=1, keepdims=True),
}
