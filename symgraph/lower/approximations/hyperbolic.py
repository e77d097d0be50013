"""sinh, cosh and tanh."""

from __future__ import annotations

import math

from symgraph.graph.scalar import Scalar
from symgraph.lower.approximations.exponential import exp_parts, half_expm1, power_of_two
from symgraph.lower.approximations.pieces import (
    LAYOUTS,
    at_most,
    fast_two_sum,
    flip,
    horner,
    m,
    sign_of,
)

# tanh(x) = x + x**3 * polynomial(x*x) for |x| <= 0.625, error 5.8e-9
TANH = (-0.3333328068256378, 0.13331405818462372, -0.053736571222543716, 0.020628679543733597,
        -0.0056931027211248875)  # fmt: skip
# exp(2*r) for |r| <= ln(2) / 4, error 3.2e-9
DOUBLE_EXP = (1.0, 2.0, 1.999999761581421, 1.3333213329315186, 0.6666896343231201,
              0.26781409978866577, 0.08856849372386932)  # fmt: skip

# sinh(x) = x + x**3 * polynomial(x*x) for |x| <= 1, errors 2.4e-8 and 2.6e-19
SMALL = {
    "float32": (0.1666671633720398, 0.008330270648002625, 0.00020373344887048006),
    "float64": (
        0.16666666666666669, 0.008333333333332912, 0.00019841269841593408, 2.7557319106674726e-06,
        2.5052131033293226e-08, 1.605665445464056e-10, 7.776809362025507e-13,
    ),
}  # fmt: skip
MOST = {"float32": 90.0, "float64": 711.0}  # cosh is infinite there


def _halves(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """Give exp(|x|) / 2, what its rounding lost, and exp(-|x|) / 2.

    The first overflows only where cosh does.
    """
    r, q, s, rest = exp_parts(at_most(m.abs(x), MOST[x.dtype]))
    p, lost = fast_two_sum(m.like(1.0, x), r * q)
    lost = m.fma(rest, p, lost)
    half = p * s * (s * 0.5)
    return half, lost * s * (s * 0.5), 0.25 / half


def cosh(x: Scalar) -> Scalar:
    """Give (e**x + e**-x) / 2."""
    grows, lost, falls = _halves(x)
    return grows + (falls + lost)


def sinh(x: Scalar) -> Scalar:
    """Give (e**x - e**-x) / 2."""
    grows, lost, falls = _halves(x)
    u = x * x
    small = m.fma(x * u, horner(u, SMALL[x.dtype]), x)
    return m.select(m.abs(x) < 1.0, small, flip(grows - (falls - lost), sign_of(x)))


def tanh(x: Scalar) -> Scalar:
    """Give (e**x - e**-x) / (e**x + e**-x)."""
    if x.dtype == "float32":
        return _single_tanh(x)
    a = m.abs(x)
    half = half_expm1(at_most(a + a, 40.0))
    return m.select(a < 2.0**-54, x, flip(half / (half + 1.0), sign_of(x)))


def _single_tanh(x: Scalar) -> Scalar:
    """Give a polynomial near 0, and 1 - 2 / (exp(2*x) + 1) elsewhere."""
    a = m.abs(x)
    u = a * a
    small = m.fma(a * u, horner(u, TANH), a)
    inside = at_most(a, 9.02)
    layout = LAYOUTS[x.dtype]
    bias = layout.magic + layout.bias
    shifted = m.fma(inside, m.like(2 / math.log(2), x), m.like(bias, x))
    r = m.fma(shifted - bias, m.like(-0.5 * math.log(2), x), inside)
    bottom = m.fma(horner(r, DOUBLE_EXP), power_of_two(shifted), m.like(1.0, x))
    return flip(m.select(a < 0.625, small, 1.0 - 2.0 / bottom), sign_of(x))
