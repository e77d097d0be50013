"""Oracles of normalisation: loops over channels straight from the definitions, NumPy's moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def window_sum(op: Any, x: Array) -> Array:
    moved = np.moveaxis(x, op.axis, 0)
    total = np.zeros_like(moved)
    for c in range(len(moved)):
        for other in range(c - op.before, c - op.before + op.size):
            if 0 <= other < len(moved):
                total[c] += moved[other]
    return np.moveaxis(total, 0, op.axis)


def _scales(op: Any, x: Array) -> list[Array]:
    """The denominators before the power, channel by channel; `x` has the channels first."""
    scales = []
    for c in range(len(x)):
        first = max(0, c - op.size // 2)
        last = min(len(x), c - op.size // 2 + op.size)
        scales.append(op.k + op.alpha * sum((x[d] ** 2 for d in range(first, last)), 0 * x[c]))
    return scales


def local_response_norm(op: Any, x: Array) -> Array:
    moved = np.moveaxis(x, op.axis, 0)
    y = np.zeros_like(moved)
    for c, scale in enumerate(_scales(op, moved)):
        y[c] = moved[c] / scale**op.beta
    return np.moveaxis(y, 0, op.axis)


def local_response_norm_grad(op: Any, g: Array, x: Array) -> Array:
    """Chain rule, pair by pair: d y[c] / d x[j] for every c whose window holds j."""
    g, x = np.moveaxis(g, op.axis, 0), np.moveaxis(x, op.axis, 0)
    dx = np.zeros_like(x)
    for c, scale in enumerate(_scales(op, x)):
        dx[c] += g[c] / scale**op.beta
        for j in range(max(0, c - op.size // 2), min(len(x), c - op.size // 2 + op.size)):
            slope = -op.beta * scale ** (-op.beta - 1) * op.alpha * 2 * x[j]
            dx[j] += g[c] * x[c] * slope
    return np.moveaxis(dx, 0, op.axis)


def _like(parameter: Array, x: Array, along: tuple[int, ...]) -> Array:
    return parameter.reshape([n if d in along else 1 for d, n in enumerate(x.shape)])


def batch_norm(op: Any, x: Array, scale: Array, shift: Array) -> tuple[Array, Array, Array]:
    kept = tuple(d for d in range(x.ndim) if d not in op.axes)
    mean, variance = np.mean(x, axis=op.axes), np.var(x, axis=op.axes)
    y = (x - _like(mean, x, kept)) / np.sqrt(_like(variance, x, kept) + op.epsilon)
    return y * _like(scale, x, kept) + _like(shift, x, kept), mean, variance


def batch_norm_images(x: Array, scale: Array, shift: Array, mean: Array, var: Array) -> Array:
    y = np.zeros_like(x)
    for c in range(x.shape[1]):
        y[:, c] = (x[:, c] - mean[c]) / np.sqrt(var[c] + 1e-5) * scale[c] + shift[c]
    return y


def batch_norm_rows(x: Array, scale: Array, shift: Array, mean: Array, var: Array) -> Array:
    return (x - mean) / np.sqrt(var + 0.1) * scale + shift


def layer_norm(op: Any, x: Array, *parameters: Array) -> Array:
    mean = np.mean(x, axis=op.axes, keepdims=True)
    y = (x - mean) / np.sqrt(np.var(x, axis=op.axes, keepdims=True) + op.epsilon)
    if parameters:
        y = y * _like(parameters[0], x, op.axes)
    if len(parameters) > 1:
        y = y + _like(parameters[1], x, op.axes)
    return y


def rms_norm(op: Any, x: Array, *parameters: Array) -> Array:
    y = x / np.sqrt(np.mean(np.square(x), axis=op.axes, keepdims=True) + op.epsilon)
    return y * _like(parameters[0], x, op.axes) if parameters else y


ORACLES: dict[str, Callable[..., Any]] = {
    "window_sum": window_sum,
    "local_response_norm": local_response_norm,
    "local_response_norm_grad": local_response_norm_grad,
    "batch_norm": batch_norm,
    "batch_norm_inference:images": batch_norm_images,
    "batch_norm_inference:rows": batch_norm_rows,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
}
