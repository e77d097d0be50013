"""Oracles of resizing: NumPy's interpolation and means of slices, place by place.

The weights of each result are found by resizing unit vectors, so a transpose is a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

Array = Any


def line(x: Array, out: int, mode: str) -> Array:
    """Resize one vector."""
    size = len(x)
    found = np.zeros(out)
    for p in range(out):
        if mode == "nearest":
            found[p] = x[math.floor(Fraction(p * size, out))]
        elif mode == "nearest-exact":
            found[p] = x[math.floor(Fraction(2 * p + 1, 2) * Fraction(size, out))]
        elif mode == "area":
            found[p] = np.mean([x[q] for q in _window(p, size, out)])
        else:
            middle = Fraction(2 * p + 1, 2) * Fraction(size, out) - Fraction(1, 2)
            corner = Fraction(p * (size - 1), max(out - 1, 1))
            place = float(corner if mode == "corners" else middle)
            found[p] = np.interp(place, np.arange(size), x)
    return found


def matrix(size: int, out: int, mode: str) -> Array:
    """The weights, one row for each result."""
    return np.stack([line(unit, out, mode) for unit in np.eye(size)], axis=1)


def resize(op: Any, x: Array) -> Array:
    return np.apply_along_axis(line, op.axis, x, op.size, op.mode) if x.size else _empty(op, x)


def resize_back(op: Any, g: Array) -> Array:
    if not g.size:
        return _empty(op, g)
    weights = matrix(op.size, g.shape[op.axis], op.mode)
    return np.moveaxis(np.tensordot(weights, g, axes=(0, op.axis)), 0, op.axis)


def _empty(op: Any, x: Array) -> Array:
    return np.zeros([op.size if d == op.axis else n for d, n in enumerate(x.shape)])


def _window(p: int, size: int, out: int) -> range:
    return range(math.floor(Fraction(p * size, out)), math.ceil(Fraction((p + 1) * size, out)))


def adaptive_argmax(op: Any, x: Array) -> Array:
    def one(row: Array) -> Array:
        windows = [_window(p, len(row), op.size) for p in range(op.size)]
        return np.array([seen[int(np.argmax([row[q] for q in seen]))] for seen in windows])

    return np.apply_along_axis(one, op.axis, x)


def adaptive_max(op: Any, x: Array) -> Array:
    if not x.size:
        return _empty(op, x)
    return np.take_along_axis(x, adaptive_argmax(op, x), op.axis)


def adaptive_spread(op: Any, g: Array, places: Array) -> Array:
    found = np.zeros([op.size if d == op.axis else n for d, n in enumerate(g.shape)])
    for place in np.ndindex(*g.shape):
        target = list(place)
        target[op.axis] = places[place]
        found[tuple(target)] += g[place]
    return found


def along(mode: str, *sizes: int) -> Callable[[Array], Array]:
    """Resize the axes after the channels, one after the other; 0 keeps an axis."""

    def oracle(x: Array) -> Array:
        for axis, size in enumerate(sizes, 2):
            shape = list(x.shape)
            shape[axis] = size or shape[axis]
            if x.size and size:
                x = np.apply_along_axis(line, axis, x, size, mode)
            x = x.reshape(shape)
        return x

    return oracle


def largest(*sizes: int) -> Callable[[Array], Array]:
    """The largest element of each window, from its corners."""

    def oracle(x: Array) -> Array:
        counts = [size or n for size, n in zip(sizes, x.shape[2:])]
        found = np.zeros((*x.shape[:2], *counts), x.dtype)
        for place in np.ndindex(*counts):
            seen = tuple(
                slice(w[0], w[-1] + 1)
                for w in (_window(p, n, c) for p, n, c in zip(place, x.shape[2:], counts))
            )
            found[(..., *place)] = x[(..., *seen)].reshape(*x.shape[:2], -1).max(-1)
        return found

    return oracle


def shuffled(r: int) -> Callable[[Array], Array]:
    def oracle(x: Array) -> Array:
        *lead, channels, high, wide = x.shape
        y = np.zeros((*lead, channels // r**2, high * r, wide * r), x.dtype)
        for c, h, w in np.ndindex(*y.shape[-3:]):
            y[..., c, h, w] = x[..., c * r**2 + h % r * r + w % r, h // r, w // r]
        return y

    return oracle


def unshuffled(r: int) -> Callable[[Array], Array]:
    def oracle(x: Array) -> Array:
        *lead, channels, high, wide = x.shape
        y = np.zeros((*lead, channels * r**2, high // r, wide // r), x.dtype)
        for c, h, w in np.ndindex(*x.shape[-3:]):
            y[..., c * r**2 + h % r * r + w % r, h // r, w // r] = x[..., c, h, w]
        return y

    return oracle


# fmt: off
ORACLES: dict[str, Callable[..., Any]] = {
    "resize":          resize,
    "resize_back":     resize_back,
    "adaptive_max":    adaptive_max,
    "adaptive_argmax": adaptive_argmax,
    "adaptive_spread": adaptive_spread,

    "interpolate:nearest":   lambda x: np.repeat(x, 2, axis=2),
    "interpolate:bilinear":  along("linear", 5, 3),
    "interpolate:corners":   along("corners", 7, 0),
    "interpolate:trilinear": along("linear", 4, 2, 4),
    "interpolate:none":      along("area", 3, 3),
    "upsample:nearest":      lambda x: np.repeat(x, 3, axis=2),
    "upsample:bilinear":     along("linear", 5, 5),
    "adaptive_avg_pool1d":       along("area", 3),
    "adaptive_avg_pool1d:one":   lambda x: x.mean(2, keepdims=True),
    "adaptive_avg_pool2d":       along("area", 3, 2),
    "adaptive_avg_pool2d:grown": along("area", 0, 4),
    "adaptive_avg_pool3d":       along("area", 2, 2, 2),
    "adaptive_max_pool1d":       largest(3),
    "adaptive_max_pool1d:int":   largest(1),
    "adaptive_max_pool2d":       largest(3, 2),
    "adaptive_max_pool2d:grown": largest(0, 4),
    "adaptive_max_pool3d":       largest(2, 2, 1),
    "pixel_shuffle":           shuffled(2),
    "pixel_shuffle:int":       shuffled(3),
    "pixel_shuffle:none":      shuffled(1),
    "pixel_unshuffle:inverse": lambda x: x,
    "pixel_unshuffle:int":     unshuffled(3),
    "global_avg_pool1d": lambda x: np.mean(x, axis=2),
    "global_avg_pool3d": lambda x: np.mean(x, axis=(2, 3, 4), keepdims=True),
    "global_max_pool1d": lambda x: np.max(x, axis=2),
    "global_max_pool3d": lambda x: np.max(x, axis=(2, 3, 4)),
}
# fmt: on
