"""Oracles of softmax, its logarithm, logsumexp and the losses: SciPy, and mpmath row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import scipy.special

Array = Any


def softmax(op: Any, x: Array) -> Array:
    if x.shape[op.axis] == 0:
        return x
    return scipy.special.softmax(x, axis=op.axis)


def log_softmax(op: Any, x: Array) -> Array:
    if x.shape[op.axis] == 0:
        return x
    return scipy.special.log_softmax(x, axis=op.axis)


def logsumexp(op: Any, x: Array) -> Array:
    if x.size == 0:
        shape = [1 if d in op.axes else n for d, n in enumerate(x.shape)]
        kept = [n for d, n in enumerate(shape) if op.keepdims or d not in op.axes]
        return np.full(kept, -np.inf)
    if not op.axes:
        return x
    return np.asarray(scipy.special.logsumexp(x, axis=op.axes, keepdims=op.keepdims))


def _rows(x: Array, axis: int) -> Array:
    return np.moveaxis(x, axis, -1)


def cross_entropy(op: Any, x: Array, labels: Array) -> Array:
    """-log(e^x[label] / sum e^x) with 60 digits, one row after the other."""
    loss = np.zeros(labels.shape)
    rows = _rows(x, op.axis)
    with mpmath.workdps(60):
        for place in np.ndindex(*labels.shape):
            powers = [mpmath.e ** mpmath.mpf(float(value)) for value in rows[place]]
            share = powers[int(labels[place])] / mpmath.fsum(powers)
            loss[place] = float(-mpmath.log(share)) if share else np.inf
    return loss


def cross_entropy_grad(op: Any, g: Array, x: Array, labels: Array) -> Array:
    result = np.zeros(x.shape)
    rows, out = _rows(x, op.axis), _rows(result, op.axis)
    for place in np.ndindex(*labels.shape):
        for column, value in enumerate(rows[place]):
            share = 1 / sum(mpmath.e ** (mpmath.mpf(float(other) - float(value)))
                            for other in rows[place])  # fmt: skip
            out[place][column] = g[place] * float(share - (column == labels[place]))
    return result


def binary_cross_entropy(op: Any, x: Array, y: Array) -> Array:
    x, y = np.broadcast_arrays(x, y)
    loss = np.zeros(x.shape)
    with mpmath.workdps(60):
        for place in np.ndindex(*x.shape):
            one = 1 / (1 + mpmath.e ** -mpmath.mpf(float(x[place])))
            other = 1 / (1 + mpmath.e ** mpmath.mpf(float(x[place])))
            weight = mpmath.mpf(float(y[place]))
            loss[place] = float(-weight * mpmath.log(one) - (1 - weight) * mpmath.log(other))
    return loss


ORACLES: dict[str, Callable[..., Any]] = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "cross_entropy": cross_entropy,
    "cross_entropy_grad": cross_entropy_grad,
    "binary_cross_entropy_with_logits": binary_cross_entropy,
}
