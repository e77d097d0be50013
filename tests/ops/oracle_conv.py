"""Oracles of convolutions: loops over every element, straight from the definition."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = Any


def meetings(op: Any, x: Array, w: Array, out: tuple[int, ...]) -> Iterator[tuple[Any, Any, Any]]:
    """List every (place in x, place in w, place in y) whose product is a term of a convolution.

    `x`, `w` only lend their shapes; places outside of x are left out.
    """
    filters, per_group = w.shape[:2]
    for o, c in itertools.product(range(filters), range(per_group)):
        channel = o // (filters // op.groups) * per_group + c
        for p in itertools.product(*map(range, out)):
            for k in itertools.product(*map(range, w.shape[2:])):
                q = tuple(
                    a * s - low + b * d
                    for a, b, s, (low, _), d in zip(p, k, op.stride, op.padding, op.dilation)
                )
                if all(0 <= i < size for i, size in zip(q, x.shape[2:])):
                    yield (slice(None), channel, *q), (o, c, *k), (slice(None), o, *p)


def positions(op: Any, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, ...]:
    """Count the places where a filter fits, by trying them."""
    found = []
    for size, k, s, (low, high), d in zip(sizes, kernel, op.stride, op.padding, op.dilation):
        starts = range(-low, size + high, s)
        found.append(sum(start + d * (k - 1) < size + high for start in starts))
    return tuple(found)


def conv(op: Any, x: Array, w: Array) -> Array:
    y = np.zeros((x.shape[0], w.shape[0], *positions(op, x.shape[2:], w.shape[2:])))
    for seen, weight, place in meetings(op, x, w, y.shape[2:]):
        y[place] += x[seen] * w[weight]
    return y


def conv_input(op: Any, g: Array, w: Array) -> Array:
    dx = np.zeros((g.shape[0], w.shape[1] * op.groups, *op.sizes))
    for seen, weight, place in meetings(op, dx, w, g.shape[2:]):
        dx[seen] += g[place] * w[weight]
    return dx


def conv_weight(op: Any, x: Array, g: Array) -> Array:
    dw = np.zeros((g.shape[1], x.shape[1] // op.groups, *op.kernel))
    for seen, weight, place in meetings(op, x, dw, g.shape[2:]):
        dw[weight] += np.sum(x[seen] * g[place])
    return dw


ORACLES: dict[str, Callable[..., Any]] = {
    "conv": conv,
    "conv_bias": lambda op, x, w, b: conv(op, x, w) + b[:, *[None] * (x.ndim - 2)],
    "conv_input": conv_input,
    "conv_weight": conv_weight,
}
