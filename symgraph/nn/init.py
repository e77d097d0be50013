"""Initialisers: functions (shape, rng) -> array. Each parameter has its own counter-based
generator, so a parameter's numbers depend on the seed and on the order of creation, nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from symgraph.errors import ArgumentError
from symgraph.ops.random import default_stream

Array = np.ndarray[Any, Any]
Initialiser = Callable[[tuple[int, ...], np.random.Generator], Array]


def generator() -> np.random.Generator:
    """Give the generator of the next parameter: keyed by `sg.seed` and the order of creation."""
    stream = default_stream()
    return np.random.Generator(np.random.Philox(key=[stream.state()["seed"], stream.take_number()]))


def constant(value: float) -> Initialiser:
    """Fill with one number."""
    return lambda shape, rng: np.full(shape, value)


ZEROS = constant(0.0)
ONES = constant(1.0)


def normal(std: float, mean: float = 0.0) -> Initialiser:
    """Draw from N(mean, std^2)."""
    if not std >= 0:
        raise ArgumentError(f"normal: std must be >= 0, got {std}.")
    return lambda shape, rng: rng.normal(mean, std, shape)


def uniform(low: float, high: float) -> Initialiser:
    """Draw from [low, high)."""
    return lambda shape, rng: rng.uniform(low, high, shape)


def glorot(gain: float = 1.0) -> Initialiser:
    """Draw from U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""

    def draw(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        fan_in, fan_out = fans(shape)
        limit = gain * math.sqrt(6 / (fan_in + fan_out))
        return rng.uniform(-limit, limit, shape)

    return draw


def he(gain: float = math.sqrt(2)) -> Initialiser:
    """Draw from N(0, gain^2 / fan_in); the default gain suits relu (He et al., 2015)."""
    return lambda shape, rng: rng.normal(0, gain / math.sqrt(max(fans(shape)[0], 1)), shape)


def orthogonal(gain: float = 1.0) -> Initialiser:
    """Give a random matrix with orthonormal rows or columns (Saxe et al., 2014)."""

    def draw(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        if len(shape) < 2:
            raise ArgumentError(f"orthogonal: needs at least two axes, got shape {shape}.")
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))
        return np.asarray(gain * (q if rows >= columns else q.T).reshape(shape))

    return draw


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Count the inputs and outputs that meet in one unit.

    A matrix is (in, out) as `Dense` keeps it; a kernel is (out, in, *window).
    """
    if len(shape) < 2:
        count = math.prod(shape)
        return count, count
    if len(shape) == 2:
        return shape[0], shape[1]
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window
