"""fmod: the exact remainder of floats with the sign of the divisor, without a loop."""

from __future__ import annotations

import math

from symgraph.graph.scalar import Scalar, const
from symgraph.lower.approximations.pieces import flip, m, sign_of

STEP = 48  # bits of a quotient found at once for float32; six steps cover all its exponents


def _signed_as(rest: Scalar, b: Scalar) -> Scalar:
    """Give the remainder with the sign of b from the nearest one, as numpy.remainder rounds it."""
    zero = rest == 0.0
    other = m.ne(rest < 0.0, b < 0.0)
    found = m.select(other, rest + b, rest)
    return m.select(zero, flip(m.like(0.0, b), sign_of(b)), found)


def _nearest(r: Scalar, inverse: Scalar, b: Scalar) -> Scalar:
    """Subtract from r the nearest multiple of b; the difference is exact."""
    return m.fma(-m.rint(r * inverse), b, r)


def _single(a: Scalar, b: Scalar) -> Scalar:
    """Give a - n*b for the nearest n, of float32 numbers, in float64, where n*b is exact."""
    r, size = m.cast(a, "float64"), m.cast(m.abs(b), "float64")
    size = m.select(size == math.inf, m.like(2.0**200, size), size)
    inverse = 1.0 / size
    for number in reversed(range(6)):
        scale = 2.0 ** (STEP * number)
        r = _nearest(r, inverse * (1 / scale), size * scale)
    return m.cast(r, "float32")


def _parts(x: Scalar) -> tuple[Scalar, Scalar]:
    """Give n and k with |x| = n * 2**(k - 1075), n a whole number of 53 bits; of 0, k is least."""
    a = m.abs(x)
    small = a < 2.0**-1022
    bits = m.bitcast(m.select(small, a * 2.0**54, a), "int64")
    field = bits >> const(52, "int64")
    field = field - m.select(small, const(54, "int64"), 0)
    mantissa = m.bitor(m.bitand(bits, const((1 << 52) - 1, "int64")), const(0x433 << 52, "int64"))
    # as the mantissa of 2**52 + mantissa it is a float at once
    return m.bitcast(mantissa, "float64"), field


def _power_of_two(exponent: Scalar) -> Scalar:
    return m.bitcast((exponent + 1023) << const(52, "int64"), "float64")


def _product(x: Scalar, y: Scalar, inverse: Scalar, n: Scalar) -> Scalar:
    """Give x*y modulo n between -n/2 and n/2, for |x|, |y| <= n/2 or one of them below 2**33."""
    high = x * y
    low = m.fma(x, y, -high)
    first = _nearest(_nearest(high, inverse, n), inverse, n)
    return _nearest(first + low, inverse, n)


def _double(a: Scalar, b: Scalar) -> Scalar:
    """Give a - n*b for the nearest n, of float64 numbers.

    a and b are whole numbers times powers of two, 2**d apart: 2**(d // 64) is squared six times
    modulo the whole number of b, multiplied by that of a, and by the rest of the power.
    """
    top, top_field = _parts(a)
    n, field = _parts(b)
    inverse = 1.0 / n
    distance = top_field - field
    d = m.select(distance < 0, const(0, "int64"), distance)
    t = _power_of_two(d >> const(6, "int64"))
    for _ in range(6):
        t = _product(t, t, inverse, n)
    r = _product(_nearest(top, inverse, n), t, inverse, n)
    left = m.bitand(d, const(63, "int64"))
    half = left >> const(1, "int64")
    for part in (half, left - half):
        r = _nearest(r * _power_of_two(part), inverse, n)
    # times the unit of b, in two factors because the unit may be below all floats
    unit = field - (1023 + 52)
    low = unit >> const(1, "int64")
    r = r * _power_of_two(low) * _power_of_two(unit - low)
    r = m.select(distance < 0, a, flip(r, sign_of(a)))
    return r + (a * 0.0 + 0.0 / b)  # NaN where there is no remainder


def fmod(a: Scalar, b: Scalar) -> Scalar:
    """Give a - floor(a / b) * b, rounded once at most; the remainder itself is exact."""
    return _signed_as(_single(a, b) if a.dtype == "float32" else _double(a, b), b)
