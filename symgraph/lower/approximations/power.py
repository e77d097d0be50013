"""pow: exp2(y * log2(x)) with the logarithm in more digits, and IEEE's special cases."""

from __future__ import annotations

import math

from symgraph.graph.dtypes import itemsize
from symgraph.graph.scalar import Scalar, const
from symgraph.lower.approximations.exponential import PARAMETERS, exp2_wide, power_of_two
from symgraph.lower.approximations.logarithm import split
from symgraph.lower.approximations.pieces import (
    LAYOUTS,
    at_least,
    at_most,
    fast_two_sum,
    flip,
    horner,
    m,
    sign_of,
    two_product,
    two_sum,
)

# For float32, computed in float64: log2(1 + f) = s * polynomial(s*s) with s = f / (2 + f), error
# 5.2e-13
LOG2 = (2.885390081777428, 0.961796694820557, 0.577077756663085, 0.41222609361202217,
        0.3192874232589308, 0.29080675619955987)  # fmt: skip

# For float64: log(1 + f) = 2*s + 2/3*s**3 + s**5 * polynomial(s*s), error 1.9e-19 of the last part
LOG = (0.40000000000020197, 0.28571428562683815, 0.2222222366165278, 0.18181698086335543,
       0.15390198883725628, 0.13187170890986802, 0.13760624642324648)  # fmt: skip
TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
INVERSE_LN2 = (1.4426950408889634, 2.0355273740931033e-17)
LN2 = (0.6931471805599453, 2.3190468138462996e-17)


def _log2_limits(a: Scalar, found: Scalar) -> Scalar:
    """Give log2(a) at 0, at infinity and of NaN, and elsewhere what was found."""
    found = m.select(a < math.inf, found, a)
    return m.select(a == 0.0, m.like(-math.inf, a), found)


def _single(a: Scalar, y: Scalar) -> Scalar:
    """Give a**y of float64 numbers that were float32, for a >= 0, wide enough to be rounded."""
    e, f = split(a)
    s = f / (f + 2.0)
    log2 = _log2_limits(a, m.fma(s, horner(s * s, LOG2), e))
    return exp2_wide(at_most(at_least(y * log2, -200.0), 200.0))


def _log2_double(a: Scalar) -> tuple[Scalar, Scalar]:
    """Give log2(a) as two floats, right to about 2**-65, for finite a > 0."""
    e, f = split(a)
    # s = f / (2 + f), high and low
    bottom, bottom_rest = fast_two_sum(m.like(2.0, f), f)
    inverse = 1.0 / bottom
    s = f * inverse
    left = m.fma(-s, bottom, f)
    s_rest = m.fma(-s, bottom_rest, left) * inverse
    # z = s*s, then 2/3*z, then the bracket 2/3*z + z*z*polynomial
    z, z_rest = two_product(s, s)
    z_rest = m.fma(s + s, s_rest, z_rest)
    term, term_rest = two_product(z, m.like(TWO_THIRDS[0], z))
    term_rest = m.fma(z, m.like(TWO_THIRDS[1], z),
                      m.fma(z_rest, m.like(TWO_THIRDS[0], z), term_rest))  # fmt: skip
    term_rest = m.fma(z * z, horner(z, LOG), term_rest)
    # log(1 + f) = 2*s + s*bracket
    part, part_rest = two_product(s, term)
    part_rest = m.fma(s, term_rest, m.fma(s_rest, term, part_rest))
    log, log_rest = fast_two_sum(s + s, part)
    log_rest = log_rest + (m.fma(s_rest, m.like(2.0, s), part_rest))
    # times 1 / ln 2, plus e
    high, low = two_product(log, m.like(INVERSE_LN2[0], log))
    low = m.fma(log, m.like(INVERSE_LN2[1], log),
                m.fma(log_rest, m.like(INVERSE_LN2[0], log), low))  # fmt: skip
    total, error = two_sum(e, high)
    return fast_two_sum(total, error + low)


def _double(a: Scalar, y: Scalar) -> Scalar:
    """Give a**y for a >= 0."""
    high, low = _log2_double(a)
    log2 = _log2_limits(a, high)
    z = y * log2
    z_rest = m.fma(y, log2, -z) + y * low
    z_rest = m.select(m.abs(z) < 2048.0, z_rest, m.like(0.0, z))  # elsewhere it may be NaN
    z = at_most(at_least(z, -1100.0), 1030.0)
    # 2**z = (2**k)**2 * 2**r, as in exp_parts
    layout = LAYOUTS["float64"]
    bias = layout.magic + layout.bias
    shifted = m.fma(z, m.like(0.5, z), m.like(bias, z))
    r = m.fma(shifted - bias, m.like(-2.0, z), z)
    t, t_rest = two_product(r, m.like(LN2[0], z))
    t_rest = m.fma(r, m.like(LN2[1], z), m.fma(z_rest, m.like(LN2[0], z), t_rest))
    series = horner(t, (1.0, *PARAMETERS["float64"].exp))
    p = m.fma(t, series, m.fma(t_rest, m.fma(t, series, m.like(1.0, t)), m.like(0.0, t)))
    s = power_of_two(shifted)
    return (p + 1.0) * s * s


def _integer(x: Scalar, y: Scalar) -> Scalar:
    """Give x**y modulo 2**bits by repeated squaring, and 0 for negative y."""
    signed = not x.dtype.startswith("u")
    one, zero = const(1, x.dtype), const(0, x.dtype)
    value, power = one, x
    bits = 8 * itemsize(x.dtype) - signed
    for number in range(bits):
        bit = m.bitand(y, const(1 << number, x.dtype))
        value = m.select(bit != zero, value * power, value)
        if number < bits - 1:
            power = power * power
    return m.select(y < zero, zero, value) if signed else value


def pow(x: Scalar, y: Scalar) -> Scalar:
    """Give x**y: of floats as IEEE 754 has it, of integers modulo 2**bits and 0 for y < 0."""
    if x.dtype not in LAYOUTS:
        return _integer(x, y)
    a = m.abs(x)
    if x.dtype == "float32":
        size = m.cast(_single(m.cast(a, "float64"), m.cast(y, "float64")), x.dtype)
    else:
        size = _double(a, y)
    # 1 is 1 to any power, and anything to the power 0, NaN too
    one = m.like(1.0, x)
    size = m.select((a == 1.0) | (y == 0.0), one, size)
    half = y * 0.5
    whole = y == m.trunc(y)
    odd = whole & (half != m.trunc(half))
    signed = m.select(odd, flip(size, sign_of(x)), size)
    undefined = (x < 0.0) & (x > -math.inf) & ~whole
    return m.select(undefined, m.like(math.nan, x), signed)


def power(x: Scalar, exponent: float) -> Scalar | None:
    """Give x**exponent in multiplications, roots and divisions, or None where that is long.

    For floats, and exponents up to 8 in size that are multiples of 1/4. Signs, zeros, infinities
    and NaN are as `pow` has them; products are arranged so that none overflows before the result.
    Measured, results are off by up to 7 units in the last place, and 3.2 for sizes up to 2.
    """
    if x.dtype not in LAYOUTS or not abs(exponent) <= 8 or exponent * 4 % 1:
        return None
    if exponent == 0:
        return m.like(1.0, x)
    size = abs(exponent)
    count, part = int(size), size - int(size)
    if part:
        # sqrt(-0) is -0 and sqrt(-inf) NaN; the powers are 0 and inf
        x = m.select(x == -math.inf, m.like(math.inf, x), x + 0.0)
    roots = [_root(x, part)] if part else []
    if exponent > 0:
        return _product([*_chain(x, count), *roots])
    # 1 / x**first / x**others: the second divisor overflows only where the result vanishes
    first = count // 2 if count > 1 and (count > 2 or part) else min(count, 1)
    divisors = [*_chain(x, count - first), *roots]
    found = m.like(1.0, x)
    for divisor in (_chain(x, first), divisors):
        found = found / _product(divisor) if divisor else found
    return found


def _root(x: Scalar, part: float) -> Scalar:
    root = m.sqrt(x)
    if part == 0.5:
        return root
    return m.sqrt(root) if part == 0.25 else root * m.sqrt(root)


def _chain(x: Scalar, count: int) -> list[Scalar]:
    """Give the factors of x**count, by squaring."""
    found: list[Scalar] = []
    while count:
        if count % 2:
            found.append(x)
        x = x * x
        count //= 2
    return found


def _product(factors: list[Scalar]) -> Scalar:
    found = factors[0]
    for factor in factors[1:]:
        found = found * factor
    return found
