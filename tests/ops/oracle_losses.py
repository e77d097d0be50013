"""Oracles of losses: SciPy, and loops over elements or rows straight from the definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import scipy.special

from tests.ops.oracle_elementwise import exact, named

Array = Any


def each(rule: Callable[..., float]) -> Callable[..., Array]:
    """A loop over broadcast elements."""

    def oracle(*arrays: Array) -> Array:
        spread = np.broadcast_arrays(*arrays)
        found = [
            rule(*map(float, numbers)) for numbers in zip(*(one.reshape(-1) for one in spread))
        ]
        return np.array(found, np.float64).reshape(spread[0].shape)

    return oracle


def _logit(x: Any) -> Any:
    if x in (0, 1):
        return mpmath.inf if x else -mpmath.inf
    return mpmath.log(x / (1 - x)) if 0 < x < 1 else mpmath.nan


def huber(delta: float) -> Callable[[float, float], float]:
    def rule(x: float, y: float) -> float:
        size = abs(x - y)
        return size * size / 2 if size <= delta else delta * size - delta * delta / 2

    return rule


def _binary(x: float, y: float) -> float:
    yes = math.log(x) if x > 0 else -100.0
    no = math.log(1 - x) if x < 1 else -100.0
    return -(y * max(yes, -100.0) + (1 - y) * max(no, -100.0))


def _poisson(x: float, y: float) -> float:
    stirling = y * math.log(y) - y + math.log(2 * math.pi * y) / 2 if y > 1 else 0.0
    return x - y * math.log(x + 1e-8) + stirling


def _gauss(epsilon: float, constant: float) -> Callable[..., float]:
    def rule(x: float, y: float, variance: float) -> float:
        v = max(variance, epsilon)
        return (math.log(v) + (x - y) ** 2 / v) / 2 + constant

    return rule


def rows(rule: Callable[..., float], axis: int = -1, keepdims: bool = False) -> Any:
    """A loop over the vectors along an axis of broadcast arrays."""

    def oracle(*arrays: Array) -> Array:
        moved = [np.moveaxis(one, axis, -1) for one in np.broadcast_arrays(*arrays)]
        found = np.empty(moved[0].shape[:-1])
        for place in np.ndindex(*found.shape):
            found[place] = rule(*(one[place] for one in moved))
        return found[..., None] if keepdims else found

    return oracle


def _cosine(x: Array, y: Array) -> float:
    lengths = max(math.sqrt(x @ x), 1e-8) * max(math.sqrt(y @ y), 1e-8)
    return float(x @ y) / lengths


def _norm(p: float) -> Callable[[Array, Array], float]:
    return lambda x, y: float(np.linalg.norm(x - y + 1e-6, p))


def _triplet(a: Array, b: Array, c: Array) -> float:
    return max(_norm(2)(a, b) - _norm(2)(a, c) + 1.0, 0.0)


def _swapped(a: Array, b: Array, c: Array) -> float:
    d = _norm(1)
    return max(d(a, b) - min(d(a, c), d(b, c)) + 3.0, 0.0)


# fmt: off
ORACLES: dict[str, Callable[..., Any]] = {
    "xlogy":   named(scipy.special.xlogy),
    "xlog1py": named(scipy.special.xlog1py),
    "entr":    named(scipy.special.entr),
    "expit":   scipy.special.expit,
    "logit":   exact(_logit, 60),

    "mse_loss":   each(lambda x, y: (x - y) ** 2),
    "l1_loss":    each(lambda x, y: math.fabs(x - y)),
    "huber_loss":       each(huber(1.0)),
    "huber_loss:delta": each(huber(2.5)),
    "smooth_l1_loss":       each(huber(1.0)),
    "smooth_l1_loss:beta":  each(lambda x, y: huber(2.5)(x, y) / 2.5),
    "smooth_l1_loss:sharp": each(lambda x, y: math.fabs(x - y)),
    "hinge_loss":                each(lambda x, y: max(0.0, 1 - y * x)),
    "hinge_loss:labels":         each(lambda x, y: max(0.0, 0.5 - y * x)),
    "squared_hinge_loss":        each(lambda x, y: max(0.0, 1 - y * x) ** 2),
    "squared_hinge_loss:margin": each(lambda x, y: max(0.0, 0.5 - y * x) ** 2),
    "binary_cross_entropy":      each(_binary),
    "kl_div":            lambda x, y: scipy.special.rel_entr(y, np.exp(x)),
    "kl_div:logarithms": lambda x, y: scipy.special.rel_entr(np.exp(y), np.exp(x)),
    "poisson_nll_loss":       each(lambda x, y: math.exp(x) - y * x),
    "poisson_nll_loss:full":  each(_poisson),
    "gaussian_nll_loss":      each(_gauss(1e-6, 0.0)),
    "gaussian_nll_loss:full": each(_gauss(0.5, math.log(2 * math.pi) / 2)),

    "cosine_similarity":      rows(_cosine),
    "cosine_similarity:axis": rows(_cosine, axis=1),
    "pairwise_distance":      rows(_norm(2)),
    "pairwise_distance:p1":   rows(_norm(1)),
    "pairwise_distance:p3":   rows(_norm(3.5), keepdims=True),
    "triplet_margin_loss":      rows(_triplet),
    "triplet_margin_loss:swap": rows(_swapped),
}
# fmt: on
