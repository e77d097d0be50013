"""The same elements in another shape or order; every function builds what the graph has."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.array_api.array import Array, call, call_several, require_array
from symgraph.array_api.kinds import INT, meet, require
from symgraph.errors import ArgumentTypeError, IndexRangeError

Axes = int | Sequence[int] | None


def _build(name: str, x: Array, *args: Any, **options: Any) -> Array:
    return call(name, require_array(name, x), *args, **options)


def _several(name: str, arrays: Sequence[Array]) -> list[Array]:
    """Check that arrays meet; raises `ArgumentTypeError` where there are none."""
    found = [require_array(name, one) for one in arrays]
    if not found:
        raise ArgumentTypeError(f"{name}: needs at least one array.")
    meet(name, *(one.dtype for one in found))
    return found


def broadcast_arrays(*arrays: Array) -> list[Array]:
    """Give all arrays one shape; dtypes stay."""
    return list(
        call_several("broadcast_arrays", *(require_array("broadcast_arrays", x) for x in arrays))
    )


def broadcast_to(x: Array, /, shape: tuple[int, ...]) -> Array:
    """Repeat along axes of size 1, and along new ones in front, until a shape is reached."""
    return _build("broadcast_to", x, shape)


def concat(arrays: Sequence[Array], /, *, axis: int | None = 0) -> Array:
    """Join along an axis; with None, of the flattened arrays."""
    return call("concat", _several("concat", arrays), axis)


def expand_dims(x: Array, /, axis: int | tuple[int, ...]) -> Array:
    """Put in axes of size 1; `axis` is where they stand in the result.

    Raises `IndexRangeError` for a place that the result does not have.
    """
    places = axis if isinstance(axis, tuple) else (axis,)
    ndim = require_array("expand_dims", x).ndim + len(places)
    for place in places:
        if not -ndim <= place < ndim:
            raise IndexRangeError(
                f"expand_dims: there is no axis {place} in a result of {ndim} axes.",
                fix=f"use {-ndim} to {ndim - 1}",
            )
    return _build("expand_dims", x, axis)


def flip(x: Array, /, *, axis: Axes = None) -> Array:
    """Turn the order along axes round, of all axes by default."""
    return _build("flip", x, axis)


def moveaxis(x: Array, source: Axes, destination: Axes, /) -> Array:
    """Move axes to other places; the others stay in order."""
    return _build("moveaxis", x, source, destination)


def permute_dims(x: Array, /, axes: tuple[int, ...]) -> Array:
    """Put the axes in another order."""
    return _build("permute_dims", x, axes)


def repeat(x: Array, repeats: int | Array, /, *, axis: int | None = None) -> Array:
    """Give each element several times: all as often, or each by its own count, computed now."""
    if not isinstance(repeats, Array):
        return _build("repeat", x, repeats, axis)
    require("repeat", INT, repeats.dtype)
    counts = np.asarray(repeats)
    return _build("repeat", x, counts.item() if counts.size == 1 else counts, axis)


def reshape(x: Array, /, shape: tuple[int, ...], *, copy: builtins.bool | None = None) -> Array:
    """Give the same elements another shape; one size may be -1. Nothing here has to be copied."""
    return _build("reshape", x, shape)


def roll(x: Array, /, shift: int | tuple[int, ...], *, axis: Axes = None) -> Array:
    """Shift along axes; what leaves at the end comes in at the front."""
    return _build("roll", x, shift, axis)


def squeeze(x: Array, /, axis: int | tuple[int, ...]) -> Array:
    """Remove axes of size 1; raises `ShapeError` for another size."""
    return _build("squeeze", x, axis)


def stack(arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
    """Join along a new axis."""
    return call("stack", _several("stack", arrays), axis)


def tile(x: Array, repetitions: tuple[int, ...], /) -> Array:
    """Repeat the whole array along its axes."""
    return _build("tile", x, repetitions)


def unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    """Give the parts along an axis, without that axis."""
    return call_several("unstack", require_array("unstack", x), axis=axis)


def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
    """Select along an axis by integers; only of a vector may the axis be left out."""
    require("take", INT, require_array("take", indices).dtype)
    if axis is None and require_array("take", x).ndim != 1:
        raise ArgumentTypeError(
            f"take: an array of {x.ndim} axes needs an `axis`.", fix="take(x, indices, axis=0)"
        )
    return _build("take", x, indices, 0 if axis is None else axis)


def take_along_axis(x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    """Select along an axis, in every place by an integer of its own."""
    require("take_along_axis", INT, require_array("take_along_axis", indices).dtype)
    return _build("take_along_axis", x, indices, axis)
