"""Oracles of pooling: loops over every window, straight from the definition."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = Any
Place = tuple[int, ...]


def starts(op: Any, size: int, axis: int) -> list[int]:
    """List where windows start along an axis, by trying every place."""
    kernel, stride = op.kernel[axis], op.stride[axis]
    low, high = op.padding[axis]
    found = []
    for start in range(-low, size + high, stride):
        fits = start + kernel <= size + high
        # a window that hangs over follows one that does not end at the end, and starts in the input
        hangs = op.ceil_mode and start < size and start - stride + kernel < size + high
        if fits or hangs:
            found.append(start)
    return found


def windows(op: Any, sizes: tuple[int, ...]) -> Iterator[tuple[Place, list[tuple[int, Place]]]]:
    """List (position, [(number in the window, place in the input)]) of every window."""
    each = [starts(op, size, axis) for axis, size in enumerate(sizes)]
    for position in itertools.product(*(range(len(one)) for one in each)):
        seen = []
        for number, tap in enumerate(itertools.product(*map(range, op.kernel))):
            place = tuple(each[a][p] + t for a, (p, t) in enumerate(zip(position, tap)))
            if all(0 <= i < size for i, size in zip(place, sizes)):
                seen.append((number, place))
        yield position, seen


def out(op: Any, sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(len(starts(op, size, axis)) for axis, size in enumerate(sizes))


def planes(x: Array) -> Iterator[tuple[int, int]]:
    return itertools.product(range(x.shape[0]), range(x.shape[1]))


def max_pool(op: Any, x: Array) -> Array:
    y = np.zeros((*x.shape[:2], *out(op, x.shape[2:])), x.dtype)
    for position, seen in windows(op, x.shape[2:]):
        for plane in planes(x):
            y[(*plane, *position)] = np.max([x[(*plane, *place)] for _, place in seen])
    return y


def max_pool_index(op: Any, x: Array) -> Array:
    y = np.zeros((*x.shape[:2], *out(op, x.shape[2:])), np.int64)
    for position, seen in windows(op, x.shape[2:]):
        for plane in planes(x):
            elements = [x[(*plane, *place)] for _, place in seen]
            y[(*plane, *position)] = seen[int(np.argmax(elements))][0]
    return y


def max_pool_grad(op: Any, g: Array, index: Array) -> Array:
    dx = np.zeros((*g.shape[:2], *op.sizes))
    for position, seen in windows(op, op.sizes):
        for plane in planes(g):
            place = dict(seen).get(int(index[(*plane, *position)]))
            if place is not None:
                dx[(*plane, *place)] += g[(*plane, *position)]
    return dx


def max_pool_take(op: Any, x: Array, index: Array) -> Array:
    y = np.zeros(index.shape)
    for position, seen in windows(op, x.shape[2:]):
        for plane in planes(x):
            place = dict(seen).get(int(index[(*plane, *position)]))
            if place is not None:
                y[(*plane, *position)] = x[(*plane, *place)]
    return y


def count(op: Any, position: Place, seen: list[Any], sizes: tuple[int, ...]) -> int:
    """Count what a window averages: its elements, or all its places up to the padding's end."""
    if not op.count_include_pad:
        return len(seen)
    total = 1
    for axis, p in enumerate(position):
        start = starts(op, sizes[axis], axis)[p]
        end = sizes[axis] + op.padding[axis][1]
        total *= sum(place < end for place in range(start, start + op.kernel[axis]))
    return total


def avg_pool(op: Any, x: Array) -> Array:
    y = np.zeros((*x.shape[:2], *out(op, x.shape[2:])))
    for position, seen in windows(op, x.shape[2:]):
        divisor = count(op, position, seen, x.shape[2:])
        total = sum(x[(..., *place)] for _, place in seen)
        y[(..., *position)] = total / divisor
    return y


def avg_pool_grad(op: Any, g: Array) -> Array:
    dx = np.zeros((*g.shape[:2], *op.sizes))
    for position, seen in windows(op, op.sizes):
        for _, place in seen:
            dx[(..., *place)] += g[(..., *position)] / count(op, position, seen, op.sizes)
    return dx


ORACLES: dict[str, Callable[..., Any]] = {
    "max_pool": max_pool,
    "max_pool_index": max_pool_index,
    "max_pool_grad": max_pool_grad,
    "max_pool_take": max_pool_take,
    "avg_pool": avg_pool,
    "avg_pool_grad": avg_pool_grad,
    "global_avg_pool2d": lambda x: np.mean(x, axis=(2, 3)),
    "global_max_pool2d": lambda x: np.max(x, axis=(2, 3)),
}
