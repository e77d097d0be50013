"""Oracles of special functions: SciPy, and mpmath where SciPy has none or is coarser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import scipy.special as sp

from tests.ops.oracle_elementwise import exact, named

Array = Any


def partly(fast: Array, x: Array, slow: Callable[[Any], Any], where: Array) -> Array:
    """Compute by mpmath where SciPy's is not to be trusted; NaN stays."""
    found = np.array(fast, np.float64)
    chosen = np.broadcast_to(where, x.shape) & ~np.isnan(x)
    found[chosen] = exact(slow)(None, x[chosen])
    return found


def _polygamma(op: Any, x: Array) -> Array:
    def one(value: Any) -> Any:
        if value == -mpmath.inf:
            return mpmath.nan
        if value == mpmath.inf:
            return mpmath.mpf(0)
        if value <= 0 and value == mpmath.floor(value):
            return mpmath.inf if op.order % 2 else mpmath.nan
        if abs(value) < 1e-30:  # where mpmath takes long
            return (-1) ** (op.order + 1) * mpmath.factorial(op.order) / value ** (op.order + 1)
        return mpmath.polygamma(op.order, value)

    with np.errstate(all="ignore"):
        return partly(sp.polygamma(op.order, x), x, one, (x < 1e-3) | (x > 1e3))


def _digamma(x: Array) -> Array:
    return np.where((x < 0) & (x == np.rint(x)), np.nan, sp.digamma(x))


def _gamma(x: Array) -> Array:
    pole = ((x < 0) & (x == np.rint(x))) | np.isneginf(x)
    return np.where(pole, np.nan, np.where(x == 0, np.divide(1.0, x), sp.gamma(x)))


def _lgamma(x: Array) -> Array:
    found = np.where(np.abs(x) < 1e-300, -np.log(np.abs(x)), sp.gammaln(x))
    return np.where(np.isneginf(x), np.inf, found)


def _betaln(x: Array, y: Array) -> Array:
    wrong = (x < 0) | (y < 0) | np.isnan(x) | np.isnan(y)
    tiny = np.minimum(x, y) < 1e-300  # where SciPy's overflows: B(x, y) is 1 / x + 1 / y
    both = np.log1p(np.minimum(x, y) / np.maximum(x, y)) - np.log(np.minimum(x, y))
    found = np.where(tiny, np.where(np.minimum(x, y) == 0, np.inf, both), sp.betaln(x, y))
    return np.where(wrong, np.nan, found)


def _bessel(order: Any) -> Callable[..., Array]:
    """J of an order, far out in mpmath: SciPy's phase is coarse there."""

    def one(x: Any) -> Any:
        return mpmath.mpf(0) if mpmath.isinf(x) else mpmath.besselj(order, x)

    function = sp.j1 if order else sp.j0
    return lambda op, x: partly(function(x), x, one, np.abs(x) > 100)


def _spherical(op: Any, x: Array) -> Array:
    def one(value: Any) -> Any:
        if mpmath.isinf(value) or value == 0:
            return mpmath.mpf(value == 0 and op.order == 0)
        size = abs(value)
        found = mpmath.sqrt(mpmath.pi / 2 / size) * mpmath.besselj(op.order + 0.5, size)
        return -found if value < 0 and op.order % 2 else found

    with np.errstate(all="ignore"):
        fast = sp.spherical_jn(op.order, np.abs(x)) * np.where(x < 0, (-1.0) ** op.order, 1.0)
        return partly(fast, x, one, (np.abs(x) < 1e-3) | (np.abs(x) > 100))


def _exprel(op: Any, x: Array) -> Array:
    """The integral in its definition, by mpmath."""

    def one(value: Any) -> Any:
        if mpmath.isnan(value):
            return value
        if mpmath.isinf(value):
            return value if value > 0 else mpmath.mpf(0)
        if value == 0:
            return 1 / mpmath.factorial(op.order)
        rest = mpmath.exp(value)
        for k in range(op.order):
            rest -= value**k / mpmath.factorial(k)
        return rest / value**op.order

    return exact(one, 400)(op, x)


def _inverse_mills(x: Any) -> Any:
    if mpmath.isinf(x):
        return mpmath.inf if x < 0 else mpmath.mpf(0)
    return mpmath.npdf(x) / (mpmath.erfc(-x / mpmath.sqrt(2)) / 2)


def _grown(function: Callable[[Array], Array], odd: bool) -> Callable[[Array], Array]:
    return lambda x: np.where(np.isinf(x), x if odd else np.abs(x), function(x))


def _incomplete(upper: bool) -> Callable[[Array, Array], Array]:
    function = sp.gammaincc if upper else sp.gammainc
    at_0, at_end = (1.0, 0.0) if upper else (0.0, 1.0)

    def oracle(a: Array, x: Array) -> Array:
        found = function(a, x)
        found = np.where((a < 1e-300) & (x > 0), at_end, found)  # SciPy's underflows
        found = np.where(np.isposinf(a) & (x >= 0), at_0, found)
        found = np.where(np.isposinf(x) & (a >= 0), at_end, found)
        both = (np.isposinf(a) & np.isposinf(x)) | ((a == 0) & (x == 0))
        wrong = (a < 0) | (x < 0) | np.isnan(a) | np.isnan(x) | both
        return np.where(wrong, np.nan, found)

    return oracle


def _by_shape(a: Array, x: Array) -> Array:
    """The derivative by a of P, from differences of 40 digits."""
    a, x = np.broadcast_arrays(a, x)
    found = np.full(a.shape, np.nan, np.result_type(a, np.float64))
    with mpmath.workdps(40):
        for where in np.ndindex(a.shape):
            if 0 < a[where] < np.inf and x[where] >= 0:
                found[where] = _difference(float(a[where]), float(x[where]))
    return found


def _difference(a: float, x: float) -> float:
    if x == 0 or x == np.inf:
        return 0.0
    return float(mpmath.diff(lambda each: mpmath.gammainc(each, 0, x, regularized=True), a))


# fmt: off
ORACLES: dict[str, Callable[..., Any]] = {
    "gamma":     named(_gamma),
    "lgamma":    named(_lgamma),
    "gammaln":   sp.gammaln,
    "digamma":   named(_digamma),
    "polygamma": _polygamma,
    "betaln":    named(_betaln),
    "beta":      sp.beta,
    "beta:int":  lambda x: sp.beta(x, 2),

    "erfinv":   named(sp.erfinv),
    "erfcinv":  named(sp.erfcinv),
    "ndtr":     named(sp.ndtr),
    "log_ndtr": named(sp.log_ndtr),
    "ndtri":    named(sp.ndtri),
    "inverse_mills": exact(_inverse_mills),

    "i0":  named(_grown(sp.i0, False)),
    "i0e": named(sp.i0e),
    "i1":  named(_grown(sp.i1, True)),
    "i1e": named(sp.i1e),
    "j0":  _bessel(0),
    "j1":  _bessel(1),
    "sinc":         exact(lambda x: mpmath.mpf(0) if mpmath.isinf(x) else mpmath.sincpi(x), 60),
    "spherical_jn": _spherical,
    "exprel":       _exprel,

    "gammainc":  named(_incomplete(False)),
    "gammaincc": named(_incomplete(True)),
    "gammainc_slope": named(_by_shape),
}
# fmt: on
