"""Oracles of moving and repeating: NumPy's functions of the same names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def with_ends(x: Array, y: Array) -> Array:
    return np.diff(x, prepend=y, append=np.full((2, 1), 0.5))


ORACLES: dict[str, Callable[..., Any]] = {
    "roll": lambda op, x: np.roll(x, op.shift, axis=op.axis),
    "tile:two": lambda x: np.tile(x, (2, 3)),
    "tile:last": lambda x: np.tile(x, 3),
    "tile:more": lambda x: np.tile(x, (2, 1, len(x))),
    "tile:none": lambda x: np.tile(x, (0, 2)),
    "repeat:two": lambda x: np.repeat(x, 2, axis=1),
    "repeat:flat": lambda x: np.repeat(x, 3),
    "repeat:each": lambda x: np.repeat(x, [2, 0, 1], axis=0),
    "repeat:size": lambda x: np.repeat(x, len(x), axis=0),
    "repeat:none": lambda x: np.repeat(x, 0, axis=0),
    "diff:last": np.diff,
    "diff:twice": lambda x: np.diff(x, axis=0, n=2),
    "diff:ends": with_ends,
    "diff:bools": np.diff,
    "diff:same": lambda x: x,
    "diff:empty": np.diff,
    "unstack:rows": lambda x: [x[0], x[1], x[2]],
    "unstack:columns": lambda x: [x[:, 0], x[:, 1]],
    "broadcast_arrays": np.broadcast_arrays,
    "meshgrid:xy": np.meshgrid,
    "meshgrid:ij": lambda x, y, z: np.meshgrid(x, y, z, indexing="ij"),
    "meshgrid:one": np.meshgrid,
    "nan_to_num:default": np.nan_to_num,
    "nan_to_num:given": lambda x: np.nan_to_num(x, nan=1, posinf=2, neginf=3),
    "nan_to_num:finite": lambda x: x,
    "nan_to_num:whole": lambda x: x,
}
