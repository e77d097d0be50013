"""Oracles of indexing: NumPy's own keys, and loops that follow the definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def places(start: int, length: int, step: int) -> list[int]:
    """List the positions of a slice."""
    return [start + number * step for number in range(length)]


def sliced(op: Any, x: Array) -> Array:
    """Select along one axis after the other, by lists of positions."""
    for d, one in enumerate(zip(op.starts, op.lengths, op.steps)):
        x = np.take(x, np.array(places(*one), np.int64), axis=d)
    return x.reshape([n for d, n in enumerate(x.shape) if d not in op.dropped])


def put(op: Any, x: Array) -> Array:
    """Place the elements one by one."""
    found = np.zeros(op.shape, x.dtype)
    rest = iter(x.shape)
    lengths = [1 if d in op.dropped else next(rest) for d in range(len(op.shape))]
    inside = x.reshape(lengths)
    for place in np.ndindex(*lengths):
        found[tuple(s + i * t for s, i, t in zip(op.starts, place, op.steps))] = inside[place]
    return found


def taken(op: Any, x: Array, *indices: Array) -> Array:
    """Select position by position."""
    head, tail = x.shape[: op.axis], x.shape[op.axis + len(indices) :]
    found = np.empty((*head, *indices[0].shape, *tail), x.dtype)
    for k in np.ndindex(*indices[0].shape):
        chosen = tuple(int(index[k]) for index in indices)
        found[(*(slice(None),) * len(head), *k)] = x[(*(slice(None),) * len(head), *chosen)]
    return found


def scattered(op: Any, updates: Array, *indices: Array) -> Array:
    """Add position by position."""
    found = np.zeros(op.shape, updates.dtype)
    before = (slice(None),) * op.axis
    for k in np.ndindex(*indices[0].shape):
        chosen = tuple(int(index[k]) for index in indices)
        found[(*before, *chosen)] += updates[(*before, *k)]
    return found


def taken_along(op: Any, x: Array, indices: Array) -> Array:
    found = np.empty(indices.shape, x.dtype)
    for place in np.ndindex(*indices.shape):
        source = list(place)
        source[op.axis] = int(indices[place])
        found[place] = x[tuple(source)]
    return found


def scattered_along(op: Any, updates: Array, indices: Array) -> Array:
    shape = list(updates.shape)
    shape[op.axis] = op.size
    found = np.zeros(shape, updates.dtype)
    for place in np.ndindex(*updates.shape):
        target = list(place)
        target[op.axis] = int(indices[place])
        found[tuple(target)] += updates[place]
    return found


def largest(op: Any, x: Array) -> tuple[Array, Array]:
    """Sort each row with Python's stable sort: NaN first, then descending, then by position."""
    rows = np.moveaxis(x, op.axis, -1)
    positions = np.empty((*rows.shape[:-1], op.k), np.int64)
    for place in np.ndindex(*rows.shape[:-1]):
        row = rows[place].tolist()
        order = sorted(
            range(len(row)), key=lambda i: (row[i] == row[i], -row[i] if row[i] == row[i] else 0, i)
        )
        positions[place] = order[: op.k]
    values = np.empty(positions.shape, x.dtype)
    for place in np.ndindex(*positions.shape):
        values[place] = rows[(*place[:-1], positions[place])]
    return np.moveaxis(values, -1, op.axis), np.moveaxis(positions, -1, op.axis)


def hot(depth: int, axis: int = -1) -> Callable[[Array], Array]:
    """Write a 1 at each index that is inside."""

    def oracle(indices: Array) -> Array:
        found = np.zeros((*indices.shape, depth))
        for place in np.ndindex(*indices.shape):
            if 0 <= indices[place] < depth:
                found[(*place, int(indices[place]))] = 1
        return np.moveaxis(found, -1, axis)

    return oracle


def cut(high: int, wide: int) -> Callable[..., Array]:
    """Cut a window out of each image, one after another, and turn it round where asked."""

    def oracle(x: Array, top: Array, left: Array, mirror: Array, mean: Array = 0) -> Array:
        found = []
        for image, y, x0, turned in zip(x.astype(np.float64) - mean, top, left, mirror):
            window = image[:, y : y + high, int(x0) : int(x0) + wide]
            found.append(np.flip(window, 2) if turned else window)
        return np.array(found).reshape(len(x), x.shape[1], high, wide)

    return oracle


ORACLES: dict[str, Callable[..., Any]] = {
    "crop_mirror:plain": cut(4, 4),
    "crop_mirror:centred": cut(4, 4),
    "crop_mirror:oblong": cut(5, 1),
    "slice": sliced,
    "slice_put": put,
    "take": taken,
    "scatter_add": scattered,
    "take_along_axis": taken_along,
    "scatter_add_along_axis": scattered_along,
    "topk": largest,
    "index:basic": lambda x: x[1:, None, ..., 0],
    "index:new axes": lambda x: x[None, None],
    "index:rows": lambda x, i: x[i],
    "index:one": lambda x, i: x[:, i],
    "index:picked": lambda x, i: x[np.arange(len(x)), i],
    "index:apart": lambda x, i: x[i, :, np.array([[0], [2]])],
    "index:mixed": lambda x: x[[2, 0], ::2, -1],
    "index:fixed mask": lambda x: x[:, [0, 2]],
    "one_hot:last": hot(4),
    "one_hot:first": hot(3, 0),
    "one_hot:wide": lambda i: hot(300)(i).astype(bool),
    "one_hot:size": lambda i: hot(len(i))(i),
}
