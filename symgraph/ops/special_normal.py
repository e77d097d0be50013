"""The normal distribution function, its logarithm and its inverse; the inverse error functions.

The inverse is that of `graph/samplers.py` with the library's logarithm, and a further polynomial
for tails that no random number reaches.

Largest errors measured against mpmath in epsilons: erfinv 3, ndtri and erfcinv 20, ndtr 30 within
6 deviations and growing as x * x beyond (its erfc's), log_ndtr 60.
"""

from __future__ import annotations

import math
from typing import Any

from symgraph.graph.elementwise import scalar_op
from symgraph.graph.samplers import CENTRE, TAIL, ratio
from symgraph.ops.special_parts import dtype_of, fitted, horner
from symgraph.ops.special_tables import FAR

_INF = float("inf")
_SQRT_HALF = math.sqrt(0.5)
_SQRT_TWO_PI = math.sqrt(2 * math.pi)
_HALF_SQRT_PI = math.sqrt(math.pi) / 2
_LOG_SQRT_TWO_PI = 0.5 * math.log(2 * math.pi)
_FAR_FROM = {"float32": 4.7, "float64": 6.0}  # t = sqrt(-log tail)
_Y = (2 / (1 / 4.7 - 1 / 27.5), -(1 / 4.7 + 1 / 27.5) / (1 / 4.7 - 1 / 27.5))
_ASYMPTOTIC = {"float32": -10.0, "float64": -20.0}
# 1 - 1/x^2 + 3/x^4 - 15/x^6 + ...: the normal tail times x and by its density (DLMF 7.12.1)
_MILLS = [(-1.0) ** k * math.prod(range(1, 2 * k, 2)) for k in range(9)]


def upper_quantile(m: Any, x: Any, q: Any, tail: Any) -> Any:
    """Give z >= 0 with a normal tail, 0 <= tail <= 1/2, above it; q is 1/2 - tail."""
    dtype = dtype_of(x)
    centre = q * ratio(CENTRE[dtype], 0.180625 - q * q)
    t = m.sqrt(-m.log(tail))
    outer = ratio(TAIL[dtype], t - 1.6)
    far = t * fitted(FAR, x, _Y[0] / t + _Y[1])
    found = m.select(m.gt(t, _FAR_FROM[dtype]), far, outer)
    found = m.select(m.lt(tail, 0.075), found, centre)
    found = m.select(m.eq(tail, 0), m.like(_INF, x), found)
    return m.select(m.ge(tail, 0), found, m.like(float("nan"), x))


def _ndtri(m: Any, p: Any) -> Any:
    upper = m.gt(p, 0.5)
    tail = m.select(upper, 1 - p, p)
    q = m.select(upper, p - 0.5, 0.5 - p)
    size = upper_quantile(m, p, q, tail)
    return m.select(upper, size, -size)


def _erfinv(m: Any, x: Any) -> Any:
    a = m.abs(x)
    size = _SQRT_HALF * upper_quantile(m, x, 0.5 * a, 0.5 * (1 - a))
    return m.select(m.lt(x, 0), -size, m.select(m.eq(x, 0), x, size))


def _erfcinv(m: Any, x: Any) -> Any:
    lower = m.gt(x, 1)
    tail = 0.5 * m.select(lower, 2 - x, x)
    size = _SQRT_HALF * upper_quantile(m, x, 0.5 * m.abs(1 - x), tail)
    return m.select(lower, -size, size)


def _mills(x: Any) -> Any:
    return horner(_MILLS, 1 / (x * x))


def _log_ndtr(m: Any, x: Any) -> Any:
    end = _ASYMPTOTIC[dtype_of(x)]
    low = m.min(x, m.like(end, x))
    far = -0.5 * low * low - m.log(-low) - _LOG_SQRT_TWO_PI + m.log(_mills(low))
    near = m.log(0.5 * m.erfc(-_SQRT_HALF * m.max(x, m.like(end, x))))
    above = m.log1p(-0.5 * m.erfc(_SQRT_HALF * x))
    found = m.select(m.lt(x, end), far, m.select(m.gt(x, -1), above, near))
    return m.select(m.isnan(x), x, found)


def _inverse_mills(m: Any, x: Any) -> Any:
    low = m.min(x, m.like(-10, x))
    near = m.exp(-0.5 * x * x) / (_SQRT_TWO_PI * (0.5 * m.erfc(-_SQRT_HALF * x)))
    found = m.select(m.lt(x, -10), -low / _mills(low), near)
    found = m.select(m.isnan(x), x, found)
    return m.select(m.eq(x, -_INF), m.like(_INF, x), found)


# fmt: off
ndtr = scalar_op("ndtr", lambda m, x: 0.5 * m.erfc(-_SQRT_HALF * x),
    d=lambda m, x, y: m.exp(-0.5 * x * x) / _SQRT_TWO_PI, latex=r"\Phi({0})",
    doc="Give the probability that a standard normal number is below x.")
log_ndtr = scalar_op("log_ndtr", _log_ndtr, d=lambda m, x, y: m.inverse_mills(x),
    latex=r"\ln \Phi({0})",
    doc="Give log(ndtr(x)), right where ndtr(x) vanishes and where it is nearly 1.")
inverse_mills = scalar_op("inverse_mills", _inverse_mills, d=lambda m, x, y: -y * (x + y),
    latex=r"\frac{{\Phi'({0})}}{{\Phi({0})}}",
    doc="Give the density of a standard normal number at x divided by ndtr(x).")
ndtri = scalar_op("ndtri", _ndtri, domain=(0.02, 0.98),
    d=lambda m, x, y: _SQRT_TWO_PI * m.exp(0.5 * y * y), latex=r"\Phi^{{-1}}({0})",
    doc="Invert ndtr: below ndtri(p) a standard normal number lies with probability p.")
erfinv = scalar_op("erfinv", _erfinv, domain=(-0.95, 0.95),
    d=lambda m, x, y: _HALF_SQRT_PI * m.exp(y * y), latex=r"\operatorname{{erf}}^{{-1}} {0}",
    doc="Invert erf; infinite at -1 and 1, NaN outside.")
erfcinv = scalar_op("erfcinv", _erfcinv, domain=(0.05, 1.95),
    d=lambda m, x, y: -_HALF_SQRT_PI * m.exp(y * y), latex=r"\operatorname{{erfc}}^{{-1}} {0}",
    doc="Invert erfc; infinite at 0 and 2, NaN outside.")
# fmt: on
