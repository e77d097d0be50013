"""Pooling with NumPy or CuPy: whole arrays at a time, one pass for each place under the window."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

Array = Any
Sizes = tuple[int, ...]

BLOCK = 1 << 20  # bytes that NumPy works on at a time, so that they stay in the cache


class Frame(NamedTuple):
    """Where the windows stand: the sizes of the input, and one entry for each spatial axis."""

    sizes: Sizes
    out: Sizes
    kernel: Sizes
    stride: Sizes
    padding: tuple[tuple[int, int], ...]

    @property
    def canvas(self) -> Sizes:
        """The sizes of an input with all that windows see around it."""
        return tuple(max(low + size, s * (n - 1) + k) for size, n, k, s, (low, _) in zip(*self))

    @property
    def inner(self) -> tuple[slice, ...]:
        """The part of the canvas that is input."""
        return tuple(slice(low, low + size) for size, (low, _) in zip(self.sizes, self.padding))

    def seen(self, axis: int, tap: int) -> tuple[Any, ...]:
        """The part of an array that all windows see, along one axis, through one tap."""
        n, s, rank = self.out[axis], self.stride[axis], len(self.out)
        after = (slice(None),) * (rank - axis - 1)
        return (..., slice(tap, tap + s * (n - 1) + 1, s), *after)


def blocks(xp: ModuleType, x: Array) -> Iterator[slice]:
    """Cut the batch into pieces that fit the cache (CuPy takes it whole)."""
    each = max(1, math.prod(x.shape[1:]) * x.itemsize)
    step = max(1, BLOCK // each) if xp is np else max(1, x.shape[0])
    for start in range(0, x.shape[0], step):
        yield slice(start, min(start + step, x.shape[0]))


def framed(xp: ModuleType, x: Array, fill: float, frame: Frame) -> Array:
    """Put an input on its canvas, or give it back where it is all that windows see."""
    if frame.canvas == frame.sizes:
        return x
    canvas = xp.full((*x.shape[:2], *frame.canvas), fill, x.dtype)
    canvas[(..., *frame.inner)] = x
    return canvas


@np.errstate(all="ignore")
def pool(
    xp: ModuleType, x: Array, combine: Callable[..., Array], fill: float, frame: Frame
) -> Array:
    """Combine all places under each window: one axis after the other."""
    y = xp.empty((*x.shape[:2], *frame.out), x.dtype)
    for images in blocks(xp, x):
        part = framed(xp, x[images], fill, frame)
        for axis, taps in enumerate(frame.kernel):
            seen = [part[frame.seen(axis, tap)] for tap in range(taps)]
            part = combine(seen[0], seen[1]) if taps > 1 else seen[0]
            for other in seen[2:]:
                combine(part, other, out=part)
        y[images] = part
    return y


@np.errstate(all="ignore")
def spread(xp: ModuleType, g: Array, frame: Frame) -> Array:
    """Add each element to all places under its window: the transpose of pooling by sums."""
    dx = xp.empty((*g.shape[:2], *frame.sizes), g.dtype)
    for images in blocks(xp, g):
        part = g[images]
        for axis in reversed(range(len(frame.out))):
            shape = (*part.shape[: 2 + axis], frame.canvas[axis], *part.shape[3 + axis :])
            canvas = xp.zeros(shape, g.dtype)
            for tap in range(frame.kernel[axis]):
                canvas[frame.seen(axis, tap)] += part
            part = canvas
        dx[images] = part[(..., *frame.inner)]
    return dx


def first_largest(
    xp: ModuleType, x: Array, y: Array, fill: float, dtype: Any, frame: Frame
) -> Array:
    """Give where in its window, counted in row-major order, the maximum `y` stands first."""
    index = xp.empty(y.shape, dtype)
    count = math.prod(frame.kernel)
    for images in blocks(xp, x):
        canvas, largest = framed(xp, x[images], fill, frame), y[images]
        any_nan = bool((largest != largest).any())
        rest = xp.zeros(largest.shape, dtype)  # places from the first maximum to the end
        for number, tap in enumerate(itertools.product(*map(range, frame.kernel))):
            seen = canvas
            for axis, place in enumerate(tap):
                seen = seen[frame.seen(axis, place)]
            here = seen == largest
            if any_nan:
                here |= seen != seen
            xp.maximum(rest, xp.multiply(here, count - number, dtype=dtype), out=rest)
        index[images] = count - rest
    return index


def places(xp: ModuleType, index: Array, frame: Frame) -> Array:
    """Give the flat place, on the canvases of all planes, that each window chose."""
    canvas = frame.canvas
    steps = [math.prod(canvas[axis + 1 :]) for axis in range(len(canvas))]
    taps = itertools.product(*map(range, frame.kernel))
    offsets = xp.asarray([sum(t * s for t, s in zip(tap, steps)) for tap in taps])
    corner = xp.arange(math.prod(index.shape[:2])).reshape(
        *index.shape[:2], *(1 for _ in canvas)
    ) * math.prod(canvas)
    for axis, (n, s, step) in enumerate(zip(frame.out, frame.stride, steps)):
        corner = corner + (xp.arange(n) * (s * step)).reshape(-1, *(1 for _ in canvas[axis + 1 :]))
    return offsets.take(index) + corner


@np.errstate(all="ignore")
def scatter(xp: ModuleType, g: Array, index: Array, frame: Frame) -> Array:
    """Add each element to the place that its window chose, in float64."""
    dx = xp.empty((*g.shape[:2], *frame.sizes), g.dtype)
    for images in blocks(xp, dx):
        part = g[images]
        place = places(xp, index[images], frame).reshape(-1)
        shape = (*part.shape[:2], *frame.canvas)
        canvas = xp.bincount(place, weights=part.reshape(-1), minlength=math.prod(shape))
        dx[images] = canvas.reshape(shape)[(..., *frame.inner)]
    return dx


def gather(xp: ModuleType, h: Array, index: Array, frame: Frame) -> Array:
    """Give the element at the place that each window chose; 0 in the padding."""
    y = xp.empty(index.shape, h.dtype)
    for images in blocks(xp, h):
        canvas = framed(xp, h[images], 0, frame).reshape(-1)
        y[images] = canvas[places(xp, index[images], frame)]
    return y


def counts(frame: Frame, include_pad: bool) -> list[list[int]]:
    """Give, for each axis, how many places of the input (or of its padding too) windows see."""
    found = []
    for size, n, k, s, (low, high) in zip(*frame):
        start, end = (-low, size + high) if include_pad else (0, size)
        firsts = range(-low, -low + s * n, s)
        found.append([min(first + k, end) - max(first, start) for first in firsts])
    return found
