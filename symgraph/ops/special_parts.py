"""What the bodies of special functions share: fitted polynomials, Stirling's series, sines of pi x.

Bodies compute in the dtype of their operand, float32 or float64, each with its own coefficients.
Every branch of a `select` is computed, so none may need more than a fixed number of terms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from symgraph.ops.special_tables import LGAMMA, Pair

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
SHIFTED = 8  # from here on the asymptotic series of gamma functions are exact to the last bit


def dtype_of(x: Any) -> str:
    """Give the dtype in which a body runs; formulas (SymPy symbols have none) are as float64."""
    return str(getattr(x, "dtype", "float64"))


def horner(coefficients: Sequence[float], x: Any) -> Any:
    """Give a polynomial with ascending coefficients at x."""
    value = coefficients[-1]
    for number in coefficients[-2::-1]:
        value = value * x + number
    return value


def fitted(table: Pair, x: Any, y: Any) -> Any:
    """Give a fitted polynomial at y, for an operand x of which y is made."""
    return horner(table[dtype_of(x)], y)


def bernoulli(count: int) -> list[Fraction]:
    """Give B_0, B_1, ..., up to B_count, exactly."""
    numbers = [Fraction(1)]
    for n in range(1, count + 1):
        total = sum(math.comb(n + 1, k) * numbers[k] for k in range(n))
        numbers.append(-Fraction(total) / (n + 1))
    return numbers


_BERNOULLI = bernoulli(24)
_STIRLING = [float(_BERNOULLI[2 * k] / (2 * k * (2 * k - 1))) for k in range(1, 10)]
_DIGAMMA = [float(_BERNOULLI[2 * k] / (2 * k)) for k in range(1, 12)]


def stirling(x: Any) -> Any:
    """Give log Gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2) for x >= 8 (DLMF 5.11.1)."""
    return horner(_STIRLING, 1 / (x * x)) / x


def near_gamma(m: Any, x: Any) -> tuple[Any, Any]:
    """Give L and s with Gamma(x) = exp(L) * s for 0 < x < 8, |L| <= 0.3.

    x is moved by a whole number to [1.5, 2.5]; L has zeros where the moved x is 2. For x < 1.5
    s is to be divided by instead.
    """
    steps = m.min(m.max(m.ceil(x - 2.5), m.like(0, x)), m.like(6, x))
    low, tiny = m.lt(x, 1.5), m.lt(x, 0.5)
    w = m.select(tiny, x, m.select(low, x - 1, x - steps - 2))
    product = x - 1
    for k in range(2, 7):
        product = product * m.select(m.le(m.like(k, x), steps), x - k, m.like(1, x))
    product = m.select(m.ge(steps, 1), product, m.like(1, x))
    factor = m.select(tiny, x * (x + 1), m.select(low, x, product))
    return w * fitted(LGAMMA, x, 2 * w), factor


def log_gamma_positive(m: Any, x: Any) -> Any:
    """Give log Gamma(x) for x >= 0."""
    small, factor = near_gamma(m, x)
    log = m.log(factor)
    near = m.select(m.lt(x, 1.5), small - log, small + log)
    far = (x - 0.5) * (m.log(x) - 1) + (HALF_LOG_TWO_PI - 0.5) + stirling(x)
    return m.select(m.lt(x, SHIFTED), near, far)


def digamma_positive(m: Any, x: Any) -> Any:
    """Give the derivative of log Gamma(x) for x > 0 (DLMF 5.11.2, 5.5.2)."""
    steps = m.min(m.max(m.ceil(SHIFTED - x), m.like(0, x)), m.like(SHIFTED, x))
    z = x + steps
    lower = 1 / x
    for k in range(1, SHIFTED):
        lower = lower + m.select(m.lt(m.like(k, x), steps), 1 / (x + k), m.like(0, x))
    lower = m.select(m.ge(steps, 1), lower, m.like(0, x))
    inverse = 1 / (z * z)
    return m.log(z) - 0.5 / z - horner(_DIGAMMA, inverse) * inverse - lower


def sine_of_pi(m: Any, x: Any) -> Any:
    """Give sin(pi x), exactly 0 at whole numbers."""
    whole = m.rint(x)
    odd = m.ne(whole, 2 * m.floor(whole / 2))
    s = m.sin(math.pi * (x - whole))
    return m.select(odd, -s, s)


def by_size(m: Any, x: Any, limit: float, far: Any, near: Any) -> Any:
    """Give `far` where |x| is above the limit, else `near`."""
    return m.select(m.gt(m.abs(x), limit), far, near)
