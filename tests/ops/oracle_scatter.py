"""Oracles of writing at places: one update after the other, with Python's loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
COMBINE: dict[str, Callable[[Array, Array], Array]] = {
    "set": lambda old, new: new,
    "add": lambda old, new: old + new,
    "multiply": lambda old, new: old * new,
    "max": np.maximum,
    "min": np.minimum,
}


def scattered(op: Any, x: Array, updates: Array, *indices: Array) -> Array:
    found = x.copy()
    before = (slice(None),) * op.axis
    for k in range(len(indices[0])):
        place = (*before, *(int(index[k]) for index in indices))
        found[place] = COMBINE[op.mode](found[place], updates[(*before, k)])
    return found


ORACLES: dict[str, Callable[..., Any]] = {"scatter": scattered}
