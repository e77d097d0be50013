"""log and log1p: x = 2**e * (1 + f) with |f| <= 1/3, and a polynomial of f."""

from __future__ import annotations

import math

from symgraph.graph.scalar import Scalar, const
from symgraph.lower.approximations.pieces import LAYOUTS, horner, m

TWO_THIRDS = {"float32": 0x3F2AAAAB, "float64": 0x3FE5555555555555}  # its bits
FOUR = {"float32": 0x40800000, "float64": 0x4010000000000000}
NORMAL = {"float32": 2.0**-126, "float64": 2.0**-1022}  # the least normal number
TINY = {"float32": 2.0**-25, "float64": 2.0**-54}  # log1p(x) is x below it
LN2 = 0.6931471805599453
LN2_REST = 2.3190468138462996e-17

# log(1 + f) = f + f*f * polynomial(f), error 2.8e-8
SERIES = (
    -0.49999937415122986, 0.33333200216293335, -0.2500775158405304, 0.20011082291603088,
    -0.1641695201396942, 0.1399758756160736, -0.15384773910045624, 0.14015594124794006,
)  # fmt: skip

# log(1 + f) = 2*s + s*z * polynomial(z), where s = f / (2 + f) and z = s*s, error 1.5e-19
INVERSE_TANH = (
    0.666666666666666, 0.40000000000056646, 0.28571428555842776, 0.22222224294021206,
    0.18181666077128672, 0.15391103378422114, 0.1317377813002485, 0.138415988462235,
)  # fmt: skip


def exponent_bits(x: Scalar) -> Scalar:
    """Give e in the place of an exponent, as a signed integer, for positive normal x."""
    layout = LAYOUTS[x.dtype]
    above = m.bitcast(x, layout.whole) - TWO_THIRDS[x.dtype]
    return m.bitand(above, const(-1 << layout.mantissa, layout.whole))


def as_float(bits: Scalar, dtype: str) -> Scalar:
    """Give the number that stands in the place of an exponent, as a float."""
    layout = LAYOUTS[dtype]
    if dtype == "float32":
        return m.cast(bits, dtype) * 2.0**-layout.mantissa
    # few processors convert 64-bit integers: the number becomes the end of a mantissa instead
    offset = 1 << 51
    shifted = (bits >> const(52, layout.whole)) + (0x4330000000000000 + offset)
    return m.bitcast(shifted, dtype) - (2.0**52 + offset)


def split(x: Scalar) -> tuple[Scalar, Scalar]:
    """Give e and f with x = 2**e * (1 + f) and |f| <= 1/3, for finite x > 0, subnormal or not."""
    layout = LAYOUTS[x.dtype]
    small = x < NORMAL[x.dtype]
    normal = m.select(small, x * 2.0**layout.mantissa, x)
    bits = exponent_bits(normal)
    f = m.bitcast(m.bitcast(normal, layout.whole) - bits, x.dtype) - 1.0
    lowered = bits - m.select(small, const(layout.mantissa << layout.mantissa, layout.whole), 0)
    return as_float(lowered, x.dtype), f


def log_from(e: Scalar, f: Scalar) -> Scalar:
    """Give the logarithm of 2**e * (1 + f) for |f| <= 1/3."""
    if f.dtype == "float32":
        found = m.fma(f * f, horner(f, SERIES), f)
        return m.fma(e, m.like(LN2, f), found)
    # log(1 + f) = f - (h - s*(h + r)) with h = f*f/2, as in Sun's fdlibm
    s = f / (f + 2.0)
    z = s * s
    h = f * f * 0.5
    inner = m.fma(s, m.fma(z, horner(z, INVERSE_TANH), h), e * LN2_REST)
    return m.fma(e, m.like(LN2, f), f - (h - inner))


def log(x: Scalar) -> Scalar:
    """Give the natural logarithm; -inf at 0 and NaN below."""
    found = log_from(*split(x))
    outside = m.select(x == 0.0, m.like(-math.inf, x), m.like(math.nan, x))
    return m.select(x > 0.0, m.select(x < math.inf, found, x), outside)


def log1p(x: Scalar) -> Scalar:
    """Give log(1 + x); -inf at -1 and NaN below.

    1 + x is rounded only to find its exponent; f = x / 2**e + (1 / 2**e - 1) is rounded once.
    """
    layout = LAYOUTS[x.dtype]
    bits = exponent_bits(x + 1.0)
    # 4 / 2**e, because 1 / 2**e may be subnormal
    scale = m.bitcast(const(FOUR[x.dtype], layout.whole) - bits, x.dtype)
    f = m.fma(x * 0.25, scale, m.fma(scale, m.like(0.25, x), m.like(-1.0, x)))
    found = log_from(as_float(bits, x.dtype), f)
    inside = m.select(m.abs(x) < TINY[x.dtype], x, m.select(x < math.inf, found, x))
    outside = m.select(x == -1.0, m.like(-math.inf, x), m.like(math.nan, x))
    return m.select(x > -1.0, inside, outside)
