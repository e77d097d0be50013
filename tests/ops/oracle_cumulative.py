"""Oracles of running sums and their kin: NumPy's reduction of every beginning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def beginnings(function: Callable[..., Array]) -> Callable[..., Array]:
    """Reduce the elements up to each position, one position after the other."""

    def oracle(op: Any, x: Array) -> Array:
        rows = np.moveaxis(x, op.axis, 0)
        found = np.empty(rows.shape, x.dtype)
        with np.errstate(all="ignore"):
            for place in range(len(rows)):
                part = rows[place:] if op.reverse else rows[: place + 1]
                found[place] = function(part, axis=0)
        return np.moveaxis(found, 0, op.axis)

    return oracle


ORACLES: dict[str, Callable[..., Any]] = {
    "cumulative_sum": beginnings(np.sum),
    "cumulative_prod": beginnings(np.prod),
    "cummax": beginnings(np.max),
    "cummin": beginnings(np.min),
}
