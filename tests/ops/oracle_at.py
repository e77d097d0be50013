"""Oracles of changing elements: assignments to NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def changed(change: Callable[..., None]) -> Callable[..., Array]:
    """Change a copy."""

    def oracle(x: Array, *others: Array) -> Array:
        found = x.copy()
        change(found, *others)
        return found

    return oracle


def assign(key: Any) -> Callable[..., Array]:
    return changed(lambda x, v: x.__setitem__(key, v))


def multiply(x: Array, i: Array, v: Array) -> None:
    np.multiply.at(x, (i, slice(1, None), np.array([[0], [1]])), v)


def raise_to(x: Array, v: Array) -> None:
    x[::-2, 1] = np.maximum(x[::-2, 1], v)


def lower_to(x: Array, m: Array, v: Array) -> None:
    x[m] = np.minimum(x[m], v)


def twofold(x: Array, m: Array) -> None:
    x[m] *= 3


def one_of_rows(x: Array, m: Array) -> None:
    x[m, 0] = 1


def add_between(x: Array, i: Array, v: Array) -> None:
    x[i : i + 3, ::2] += v


def multiply_between(x: Array, i: Array, v: Array) -> None:
    x[-1:i:-2] *= v


def set_between(x: Array, i: Array, j: Array, v: Array) -> None:
    x[i:, None, :, j : j + 2] = v


def add(x: Array, v: Array) -> None:
    x[..., -1] += v[0]


ORACLES: dict[str, Callable[..., Any]] = {
    "update_at:slices": assign((slice(1, None), slice(None, None, 2))),
    "update_at:last": changed(add),
    "update_at:size": lambda x: np.array([*x[:-1], 7], x.dtype),
    "update_at:rows": changed(lambda x, i, v: np.subtract.at(x, i, v)),
    "update_at:mixed": changed(multiply),
    "update_at:max": changed(raise_to),
    "update_at:mask": changed(lower_to),
    "update_at:masked rows": changed(twofold),
    "update_at:mask, one": changed(one_of_rows),
    "update_at:computed bounds": changed(add_between),
    "update_at:computed, the same": changed(multiply_between),
    "update_at:two cuts": changed(set_between),
    "set_subtensor:slice": assign(slice(1, 3)),
    "set_subtensor:inner": lambda x, i, v: np.concatenate(
        [[[v, x[1, 1]]], x[2:-1], [[v, x[-1, 1]]]]
    ),
    "set_subtensor:all": lambda x, v: np.full_like(x, v),
    "inc_subtensor:slice": changed(lambda x, v: np.add.at(x, slice(None, None, 2), v)),
    "inc_subtensor:twice": changed(lambda x, i, v: np.add.at(x, i, v)),
}
