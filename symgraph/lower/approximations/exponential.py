"""exp and expm1: x = k ln 2 + r, a polynomial of the rest, and a power of two made of bits."""

from __future__ import annotations

import math

from symgraph.frozen import frozen
from symgraph.graph.scalar import Scalar, const
from symgraph.lower.approximations.pieces import LAYOUTS, at_least, at_most, horner, m


@frozen
class Parameters:
    """The numbers of a dtype; ln 2 is `high + low`, where `high` is rounded to the dtype."""

    high: float
    low: float
    least: float  # below it the result is 0, or -1
    most: float  # above it the result is infinite
    exp: tuple[float, ...]  # (exp(r) - 1 - r) / r**2 for |r| <= ln 2
    expm1: tuple[float, ...]  # the same for |r| <= ln(2) / 2
    tiny: float  # below it expm1(x) is x


# The two polynomials: errors of 1.6e-9 and 1.4e-8, and of 7.3e-19 and 3.2e-19.
PARAMETERS = {
    "float32": Parameters(
        0.6931471824645996, -1.904654323148236e-09, -104.0, 89.0,
        (0.5000000596046448, 0.16666673123836517, 0.04166600480675697, 0.008332544006407261,
         0.0013909285189583898, 0.0002011158794630319, 2.3048520233714953e-05),
        (0.4999999701976776, 0.16666539013385773, 0.04166775569319725, 0.008367126807570457,
         0.001383560593239963),
        2.0**-25,
    ),
    "float64": Parameters(
        0.6931471805599453, 2.3190468138462996e-17, -746.0, 710.0,
        (0.49999999999999994, 0.1666666666666666, 0.041666666666668774, 0.008333333333336156,
         0.0013888888888619966, 0.0001984126983724724, 2.4801587460385383e-05,
         2.7557321801533388e-06, 2.755727216748627e-07, 2.5051286518049386e-08,
         2.088344663083025e-09, 1.618648216733566e-10, 1.113513079552904e-11),
        (0.5, 0.16666666666666677, 0.04166666666666669, 0.008333333333321827,
         0.0013888888888890063, 0.00019841269885287498, 2.4801587283285766e-05,
         2.7557245166638275e-06, 2.755732917999459e-07, 2.5108695536082492e-08,
         2.0892988722625e-09),
        2.0**-54,
    ),
}  # fmt: skip

# 2**r for |r| <= 1/2, error 1.9e-9
EXP2 = (
    1.0000000005551675, 0.6931472057654958, 0.2402264688495928, 0.055503287138076854,
    0.009618489394367064, 0.0013399957186619237, 0.00015345746818183495,
)  # fmt: skip


def power_of_two(shifted: Scalar) -> Scalar:
    """Give 2**k of `k + bias + magic`: the low bits of such a float are those of an exponent."""
    layout = LAYOUTS[shifted.dtype]
    bits = m.bitcast(shifted, layout.bits)
    return m.bitcast(bits << const(layout.mantissa, layout.bits), shifted.dtype)


def exp_parts(x: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    """Give r, q and s with exp(x) = (1 + r*q) * s * s, where the bracket is between 1/2 and 2.

    The last part is what the rounding of r lost.

    Steps of 2 ln 2 cost a degree or two of the polynomial, and make the two factors that results
    need which are subnormal or close to overflow equal. x must lie between the two limits.
    """
    number, layout = PARAMETERS[x.dtype], LAYOUTS[x.dtype]
    bias = layout.magic + layout.bias
    shifted = m.fma(x, m.like(0.5 / math.log(2), x), m.like(bias, x))
    k = shifted - bias
    exact = m.fma(k, m.like(-2 * number.high, x), x)
    low = m.like(-2 * number.low, x)
    rest = m.fma(k, low, exact)
    lost = m.fma(k, low, exact - rest)
    return rest, horner(rest, (1.0, *number.exp)), power_of_two(shifted), lost


def exp2_wide(x: Scalar) -> Scalar:
    """Give 2**x in float64 for |x| <= 1000, right to 1.9e-9: more than a float32 can show."""
    layout = LAYOUTS["float64"]
    bias = layout.magic + layout.bias
    shifted = x + bias
    return horner(x - (shifted - bias), EXP2) * power_of_two(shifted)


def exp(x: Scalar) -> Scalar:
    """Give e**x."""
    number = PARAMETERS[x.dtype]
    r, q, s, _ = exp_parts(at_most(at_least(x, number.least), number.most))
    return m.fma(r, q, m.like(1.0, x)) * s * s


def half_expm1(x: Scalar) -> Scalar:
    """Give (e**x - 1) / 2, which does not overflow before expm1 does; x as large as `most`."""
    number, layout = PARAMETERS[x.dtype], LAYOUTS[x.dtype]
    bias = layout.magic + layout.bias
    # 2**(n - 1) is wanted: one less is in the magic number of the shift than in that of n
    shifted = m.fma(x, m.like(1 / math.log(2), x), m.like(bias - 1, x))
    n = shifted - (bias - 1)
    rest = m.fma(n, m.like(-number.high, x), x)
    rest = m.fma(n, m.like(-number.low, x), rest)
    p = m.fma(rest * rest, horner(rest, number.expm1), rest)
    half = power_of_two(shifted)
    return m.fma(half, p, half - 0.5)


def expm1(x: Scalar) -> Scalar:
    """Give e**x - 1."""
    number = PARAMETERS[x.dtype]
    # e**-40 is below half of the distance from 1 to its neighbour in both dtypes
    found = half_expm1(at_most(at_least(x, -40.0), number.most)) * 2.0
    return m.select(m.abs(x) < number.tiny, x, found)
