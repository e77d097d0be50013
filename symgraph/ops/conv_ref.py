"""Convolution and its two gradients with NumPy or CuPy, as matrix products of columns.

A column holds the input elements under the filter at one output position (im2col; Chellapilla,
Puri, Simard 2006). Columns of many positions form a matrix, so that BLAS does the work. They are
made a block of positions at a time, and a block stays in the cache.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

Array = Any
Sizes = tuple[int, ...]

BLOCK = 8 << 20  # bytes of one block of columns


class Geometry(NamedTuple):
    """Where the filters stand: one number, or one pair, for each spatial axis."""

    kernel: Sizes
    stride: Sizes
    padding: tuple[tuple[int, int], ...]
    dilation: Sizes
    groups: int

    @property
    def extent(self) -> Sizes:
        """The length of the input under a filter."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation))

    def padded(self, sizes: Sequence[int]) -> Sizes:
        """The sizes with their padding."""
        return tuple(low + size + high for size, (low, high) in zip(sizes, self.padding))

    def positions(self, sizes: Sequence[int]) -> Sizes:
        """The number of positions of the filters."""
        lengths = zip(self.padded(sizes), self.extent, self.stride)
        return tuple((size - extent) // stride + 1 for size, extent, stride in lengths)

    def inner(self, sizes: Sequence[int]) -> tuple[slice, ...]:
        """The part of the padded sizes that is no padding."""
        return tuple(slice(low, low + size) for size, (low, _) in zip(sizes, self.padding))


class Scratch:
    """Memory for one array after the other: fresh memory costs more than to fill it."""

    def __init__(self, xp: ModuleType, dtype: Any) -> None:
        self._xp, self._flat = xp, xp.empty(0, dtype)

    def array(self, shape: Sequence[int]) -> Array:
        """Give an array with undefined elements, in the place of the one given before."""
        count = math.prod(shape)
        if self._flat.size < count:
            self._flat = self._xp.empty(count, self._flat.dtype)
        return self._flat[:count].reshape(shape)


@np.errstate(all="ignore")
def conv(xp: ModuleType, x: Array, w: Array, geometry: Geometry) -> Array:
    """Convolve (n, c, *sizes) with (o, c / groups, *kernel)."""
    filters = grouped(w, geometry.groups)
    groups, each, _ = filters.shape
    out = geometry.positions(x.shape[2:])
    y = xp.empty((x.shape[0], groups, each, *out), x.dtype)
    found = Scratch(xp, x.dtype)
    for images, rows, columns in blocks_of_columns(xp, x, geometry):
        part = y[images, :, :, rows]
        products = found.array((groups, each, columns.shape[2]))
        xp.matmul(filters, columns, out=products)
        products = products.reshape(groups, each, part.shape[0], *part.shape[3:])
        part[...] = xp.moveaxis(products, 2, 0)
    return y.reshape(x.shape[0], groups * each, *out)


@np.errstate(all="ignore")
def conv_weight(xp: ModuleType, x: Array, g: Array, geometry: Geometry) -> Array:
    """Give the gradient by the filters: columns times cotangents, summed over all positions."""
    cotangents = split_channels(g, geometry.groups)
    groups, each, channels = geometry.groups, cotangents.shape[2], x.shape[1] // geometry.groups
    total = xp.zeros((groups, channels * math.prod(geometry.kernel), each), x.dtype)
    products = xp.empty_like(total)
    for images, rows, columns in blocks_of_columns(xp, x, geometry):
        part = as_matrix(xp, cotangents[images, :, :, rows]).swapaxes(1, 2)
        # columns on the left: BLAS is faster so than with the transposed product
        total += xp.matmul(columns, part, out=products)
    return total.swapaxes(1, 2).reshape(groups * each, channels, *geometry.kernel)


@np.errstate(all="ignore")
def conv_input(
    xp: ModuleType, g: Array, w: Array, sizes: Sequence[int], geometry: Geometry
) -> Array:
    """Give the gradient by the input, an array with the spatial sizes `sizes`.

    With stride 1 it is a convolution with turned filters. That copies the columns of the filters,
    the other way adds those of the channels; adding costs more than twice as much as copying.
    """
    margins = tuple(
        (extent - 1 - low, extent - 1 - high)
        for extent, (low, high) in zip(geometry.extent, geometry.padding)
    )
    dense = set(geometry.stride) <= {1} and all(one >= 0 for pair in margins for one in pair)
    if dense and w.shape[0] <= 2 * geometry.groups * w.shape[1]:
        return conv(xp, g, flipped(xp, w, geometry.groups), geometry._replace(padding=margins))
    return add_back(xp, g, w, sizes, geometry)


def flipped(xp: ModuleType, w: Array, groups: int) -> Array:
    """Reverse the taps and swap inputs with outputs: with these filters a gradient is convolved."""
    split = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    turned = xp.flip(split.swapaxes(1, 2), tuple(range(3, split.ndim)))
    return turned.reshape(groups * w.shape[1], w.shape[0] // groups, *w.shape[2:])


def add_back(xp: ModuleType, g: Array, w: Array, sizes: Sequence[int], geometry: Geometry) -> Array:
    """Make columns of gradients and add them where columns were taken from (col2im)."""
    filters = grouped(w, geometry.groups).swapaxes(1, 2)
    cotangents = split_channels(g, geometry.groups)
    groups, channels = geometry.groups, w.shape[1]
    out, batch = g.shape[2:], g.shape[0]
    dx = xp.empty((batch, groups, channels, *sizes), g.dtype)
    for images, all_rows in blocks(batch, out, filters.shape[0] * filters.shape[1], g.dtype):
        shape = (groups, channels, images.stop - images.start, *geometry.padded(sizes))
        canvas = xp.zeros(shape, g.dtype)
        for rows in all_rows:
            part = cotangents[images, :, :, rows]
            columns = xp.matmul(filters, as_matrix(xp, part)).reshape(
                groups, channels, *geometry.kernel, part.shape[0], *part.shape[3:]
            )
            add_columns(canvas, columns, rows.start, geometry)
        dx[images] = xp.moveaxis(canvas[(..., *geometry.inner(sizes))], 2, 0)
    return dx.reshape(batch, groups * channels, *sizes)


def grouped(w: Array, groups: int) -> Array:
    """View filters as one matrix for each group: (groups, o / groups, c / groups * taps)."""
    return w.reshape(groups, w.shape[0] // groups, math.prod(w.shape[1:]))


def split_channels(x: Array, groups: int) -> Array:
    """View (n, c, *sizes) as (n, groups, c / groups, *sizes)."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def as_matrix(xp: ModuleType, part: Array) -> Array:
    """Copy (n, groups, c, *positions) to (groups, c, n * positions)."""
    moved = xp.moveaxis(part, 0, 2)
    return moved.reshape(*moved.shape[:2], math.prod(moved.shape[2:]))


def blocks(
    batch: int, out: Sequence[int], column: int, dtype: Any
) -> Iterator[tuple[slice, list[slice]]]:
    """Cut the output positions into blocks of whole images, or of rows of one image.

    `column` is the number of elements of a column.
    """
    image = max(1, math.prod(out) * column * dtype.itemsize)
    images = max(1, BLOCK // image)
    rows = max(1, out[0] if image <= BLOCK else BLOCK * out[0] // image)
    all_rows = [slice(start, min(start + rows, out[0])) for start in range(0, out[0], rows)]
    for start in range(0, batch, images):
        yield slice(start, min(start + images, batch)), all_rows


def blocks_of_columns(
    xp: ModuleType, x: Array, geometry: Geometry
) -> Iterator[tuple[slice, slice, Array]]:
    """Give (images, rows, columns): the columns of a block are (groups, c * taps, positions)."""
    groups, channels = geometry.groups, x.shape[1] // geometry.groups
    taps = channels * math.prod(geometry.kernel)
    out = geometry.positions(x.shape[2:])
    memory = Scratch(xp, x.dtype)
    for images, all_rows in blocks(x.shape[0], out, groups * taps, x.dtype):
        seen = windows(xp, pad(xp, x[images], geometry), geometry)
        for rows in all_rows:
            part = seen[(..., rows, *(slice(None) for _ in out[1:]))]
            columns = memory.array(part.shape)
            columns[...] = part
            positions = math.prod(part.shape[-len(out) - 1 :])
            yield images, rows, columns.reshape(groups, taps, positions)


def pad(xp: ModuleType, x: Array, geometry: Geometry) -> Array:
    """Give zeros around an array, or the array itself where there is no padding."""
    if not any(map(any, geometry.padding)):
        return x
    padded = xp.zeros((*x.shape[:2], *geometry.padded(x.shape[2:])), x.dtype)
    padded[(..., *geometry.inner(x.shape[2:]))] = x
    return padded


def windows(xp: ModuleType, x: Array, geometry: Geometry) -> Array:
    """View a padded input as (groups, c / groups, *kernel, n, *positions), without copying."""
    rank = len(geometry.kernel)
    split = split_channels(x, geometry.groups)
    spatial = tuple(range(3, 3 + rank))
    sliding = xp.lib.stride_tricks.sliding_window_view
    seen = sliding(split, geometry.extent, axis=spatial)
    every = (*geometry.stride, *geometry.dilation)
    seen = seen[(..., *(slice(None, None, step) for step in every))]
    taps = tuple(range(3 + rank, 3 + 2 * rank))
    return seen.transpose(1, 2, *taps, 0, *spatial)


def add_columns(canvas: Array, columns: Array, top: int, geometry: Geometry) -> None:
    """Add columns to the places they were taken from; `top` is the first row of positions."""
    out = columns.shape[-len(geometry.kernel) :]
    first = (top, *(0 for _ in out[1:]))
    for tap in itertools.product(*map(range, geometry.kernel)):
        place = tuple(
            slice(d * t + s * f, d * t + s * (f + n - 1) + 1, s)
            for t, d, s, f, n in zip(tap, geometry.dilation, geometry.stride, first, out)
        )
        canvas[(..., *place)] += columns[(slice(None), slice(None), *tap)]
