"""Oracles of functions of floats: NumPy's, mpmath's, and C's remainder of Python's `math`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.ops.oracle_elementwise import named, whole

Array = Any


def truncated(x: int, y: int) -> int:
    return int(math.copysign(1, x)) * (abs(x) % abs(y)) if y else 0


ORACLES: dict[str, Callable[..., Any]] = {
    "signbit": named(np.signbit),
    "copysign": named(np.copysign),
    "hypot": named(np.hypot),
    "fmod": whole(truncated, np.fmod),
    "deg2rad": named(np.deg2rad),
    "rad2deg": named(np.rad2deg),
    "nextafter": named(np.nextafter),  # in float64; the very neighbours: test_floating.py
    "heaviside": named(np.heaviside),
    "lerp": named(lambda x, y, t: x + t * (y - x)),
    "isclose:plain": np.isclose,
    "isclose:nan": lambda x: np.isclose(x, [1, -np.inf, np.nan], rtol=0.1, equal_nan=True),
    "isclose:whole": np.isclose,
    "allclose:differ": np.allclose,
    "allclose:equal": lambda x: np.array(True),
}
