"""Oracles of creation: NumPy's functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

ORACLES: dict[str, Callable[..., Any]] = {
    "linspace:numbers": lambda x: np.linspace(-1, 2, 7),
    "linspace:size": lambda x: np.linspace(0, 1, len(x)),
    "linspace:one": lambda x: np.array([0.0]),
    "linspace:values": lambda x, y: np.linspace(x, y, 4, endpoint=False),
    "linspace:whole": lambda x: np.linspace(0, 10, 5, dtype=np.int32),
    "linspace:none": lambda x: np.zeros(0),
    "empty": lambda x: np.zeros((len(x), 2)),
    "empty_like": lambda x: np.zeros(x.shape, np.int8),
    "asarray:value": lambda x: x,
    "asarray:list": lambda x: np.array([[1, 2]], np.int8),
    "astype:float": lambda x: x,
    "astype:whole": lambda x: np.trunc(x).astype(np.int8),
}
