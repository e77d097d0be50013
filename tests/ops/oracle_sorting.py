"""Oracles of sorting: Python's sort by a key, and counting straight from the definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def ordered(op: Any, x: Array) -> Array:
    """Sort each row by (is it NaN, value, position), or the other way round."""
    rows = np.moveaxis(x, op.axis, -1)
    found = np.empty(rows.shape, np.int64)
    sign = -1 if op.descending else 1
    for place in np.ndindex(*rows.shape[:-1]):
        row = [float(one) for one in rows[place]]
        keys = [(sign * (one != one), sign * one if one == one else 0.0) for one in row]
        found[place] = sorted(range(len(row)), key=lambda i: (*keys[i], i))
    return np.moveaxis(found, -1, op.axis)


def inverted(op: Any, x: Array) -> Array:
    return np.argsort(ordered(op, x), axis=op.axis)


def in_order(op: Any, x: Array) -> Array:
    return np.take_along_axis(x, ordered(op, x), axis=op.axis)


def counted(op: Any, x: Array, values: Array) -> Array:
    """Count the elements before each value, NaN behind everything."""
    keys = [(one != one, one if one == one else 0) for one in x.tolist()]
    found = np.empty(values.shape, np.int64)
    for place in np.ndindex(*values.shape):
        one = values[place].item()
        key = (one != one, one if one == one else 0)
        found[place] = sum(k < key or (op.side == "right" and k == key) for k in keys)
    return found


ORACLES: dict[str, Callable[..., Any]] = {
    "sort_places": inverted,
    "argsort": ordered,
    "sort": in_order,
    "searchsorted": counted,
}
