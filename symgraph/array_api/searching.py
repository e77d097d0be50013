"""Searching, sorting and sets. What decides about a shape is computed at once, with NumPy."""

from __future__ import annotations

import builtins
from typing import Any, NamedTuple

import numpy as np

from symgraph.array_api.array import Array, call, of_numbers, require_array
from symgraph.array_api.kinds import ANY, BOOLEAN, INT, REAL, is_scalar, meet, meet_scalar, require
from symgraph.errors import ArgumentTypeError
from symgraph.graph.leaves import as_value


class UniqueAll(NamedTuple):
    """What `unique_all` gives."""

    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class UniqueCounts(NamedTuple):
    """What `unique_counts` gives."""

    values: Array
    counts: Array


class UniqueInverse(NamedTuple):
    """What `unique_inverse` gives."""

    values: Array
    inverse_indices: Array


def nonzero(x: Array, /) -> tuple[Array, ...]:
    """Give the indices of the elements that are not zero: a vector for each axis."""
    if not require_array("nonzero", x).ndim:
        raise ArgumentTypeError("nonzero: takes arrays with axes.", fix="xp.reshape(x, (1,))")
    return tuple(of_numbers(place) for place in np.nonzero(np.asarray(x)))


def _unique(name: str, x: Array) -> tuple[Array, ...]:
    """Find the different elements in order, where each is first, who is which, and how many.

    Every NaN is different, as NaNs are not equal.
    """
    found = np.unique(
        np.asarray(require_array(name, x)),
        return_index=True, return_inverse=True, return_counts=True, equal_nan=False,
    )  # fmt: skip
    values, indices, inverse, counts = found
    places = (np.reshape(one, shape).astype(np.int64) for one, shape in
              ((indices, -1), (inverse, x.shape), (counts, -1)))  # fmt: skip
    return (of_numbers(values), *map(of_numbers, places))


def unique_all(x: Array, /) -> UniqueAll:
    """Find the different elements, where each is first, who is which, and how many there are."""
    return UniqueAll(*_unique("unique_all", x))


def unique_counts(x: Array, /) -> UniqueCounts:
    """Find the different elements, and how many there are of each."""
    values, _, _, counts = _unique("unique_counts", x)
    return UniqueCounts(values, counts)


def unique_inverse(x: Array, /) -> UniqueInverse:
    """Find the different elements, and for every element which of them it is."""
    values, _, inverse, _ = _unique("unique_inverse", x)
    return UniqueInverse(values, inverse)


def unique_values(x: Array, /) -> Array:
    """Find the different elements, in order."""
    return _unique("unique_values", x)[0]


def searchsorted(
    x1: Array, x2: Array, /, *, side: str = "left", sorter: Array | None = None
) -> Array:
    """Find where numbers belong in a sorted vector: how many elements come before each."""
    dtypes = [require_array("searchsorted", one).dtype for one in (x1, x2)]
    require("searchsorted", REAL, *dtypes)
    meet("searchsorted", *dtypes)
    if sorter is not None:
        require("searchsorted", INT, require_array("searchsorted", sorter).dtype)
    return call("searchsorted", x1, x2, side=side, sorter=sorter)


def where(condition: Array, x1: Any, x2: Any, /) -> Array:
    """Choose: x1 where the condition holds, else x2. One of them may be a Python number."""
    require("where", BOOLEAN, require_array("where", condition).dtype)
    dtypes = [str(one.dtype) for one in (x1, x2) if isinstance(one, Array)]
    if not dtypes:
        if not is_scalar(x1) or not is_scalar(x2):
            raise ArgumentTypeError("where: takes arrays and numbers.", fix="xp.asarray(it) first")
        dtypes = [as_value(x1).dtype]
    meet("where", *dtypes)
    for number in filter(is_scalar, (x1, x2)):
        meet_scalar("where", number, dtypes[0])
    for other in (x1, x2):
        if not is_scalar(other):
            require("where", ANY, require_array("where", other).dtype)
    return call("where", condition, x1, x2)


def argsort(
    x: Array, /, *, axis: int = -1, descending: builtins.bool = False, stable: builtins.bool = True
) -> Array:
    """Find the positions of the elements along an axis in order; equal ones keep theirs."""
    require("argsort", REAL, require_array("argsort", x).dtype)
    return call("argsort", x, axis, descending=descending, stable=stable)


def sort(
    x: Array, /, *, axis: int = -1, descending: builtins.bool = False, stable: builtins.bool = True
) -> Array:
    """Sort along an axis; a NaN counts as larger than all numbers."""
    require("sort", REAL, require_array("sort", x).dtype)
    return call("sort", x, axis, descending=descending, stable=stable)
