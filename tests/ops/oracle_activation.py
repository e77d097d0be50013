"""Oracles of activation functions: mpmath where they cancel, NumPy and loops elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import scipy.special

from tests.ops.oracle_elementwise import exact, named

Array = Any


def _mish(x: Any) -> Any:
    if mpmath.isnan(x) or mpmath.isinf(x):
        return x if not x < 0 else mpmath.mpf(0)
    return x * mpmath.tanh(mpmath.log1p(mpmath.exp(x)))


def _hard_sigmoid(x: Any) -> Any:
    return x if mpmath.isnan(x) else 0 if x < -3 else 1 if x > 3 else (x + 3) / 6


def _soft_sign(x: Array) -> Array:
    return np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x)))


def _hard_swish(x: Array) -> Array:
    return np.where(x <= -3, 0.0, np.where(x >= 3, x, x * (x + 3) / 6))


def _selu(x: Array) -> Array:
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _celu(op: Any, x: Array) -> Array:
    return np.maximum(x, 0) + np.minimum(op.alpha * np.expm1(np.minimum(x, 0) / op.alpha), 0)


def _per_element(rule: Callable[[float], float]) -> Callable[[Array], Array]:
    """A loop over elements."""
    return lambda x: np.array([rule(float(one)) for one in x.reshape(-1)]).reshape(x.shape)


def _prelu(x: Array, slope: Array) -> Array:
    out = x.copy()
    for place in np.ndindex(*x.shape):
        channel = place[1 if x.ndim > 1 else 0] if slope.size > 1 else 0
        if x[place] <= 0:
            out[place] = x[place] * slope.reshape(-1)[channel]
    return out


def _glu(axis: int) -> Callable[[Array], Array]:
    def oracle(x: Array) -> Array:
        half = x.shape[axis] // 2
        first, second = (np.take(x, range(start, start + half), axis=axis) for start in (0, half))
        return first * scipy.special.expit(second)

    return oracle


# fmt: off
ORACLES: dict[str, Callable[..., Any]] = {
    "relu6":       named(lambda x: np.clip(x, x.dtype.type(0), x.dtype.type(6))),
    "hardsigmoid": exact(_hard_sigmoid),
    "hardswish":   named(_hard_swish),
    "selu":        named(_selu),
    "softsign":    named(_soft_sign),
    "mish":        exact(_mish, 60),
    "tanhshrink":  exact(lambda x: x if mpmath.isinf(x) else x - mpmath.tanh(x), 80),
    "log_sigmoid": named(scipy.special.log_expit),
    "celu":        _celu,

    "swish":      lambda x: x * scipy.special.expit(x),
    "hardtanh":          lambda x: np.clip(x, -1, 1),
    "hardtanh:limits":   lambda x: np.clip(x, -2, 0.5),
    "hardtanh:int":      lambda x: np.clip(x, -1, 2),
    "threshold":         _per_element(lambda x: x if x > 0.5 else -3.0),
    "threshold:int":     lambda x: np.where(x > 2, x, 0),
    "softshrink":        _per_element(lambda x: x - 0.5 if x > 0.5 else min(x + 0.5, 0.0)),
    "softshrink:limit":  _per_element(lambda x: x - 1.25 if x > 1.25 else min(x + 1.25, 0.0)),
    "hardshrink":        _per_element(lambda x: 0.0 if abs(x) <= 0.5 else x),
    "hardshrink:limit":  _per_element(lambda x: 0.0 if abs(x) <= 1.25 else x),
    "prelu":      _prelu,
    "glu":        _glu(-1),
    "glu:axis":   _glu(1),
    "glu:none":   _glu(0),
}
# fmt: on
