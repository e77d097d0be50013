"""erf and erfc: polynomials near zero, and exp of polynomials."""

from __future__ import annotations

import math

from symgraph.graph.scalar import Scalar
from symgraph.lower.approximations.exponential import exp2_wide, exp_parts, power_of_two
from symgraph.lower.approximations.pieces import LAYOUTS, at_most, flip, horner, m, sign_of

# For float32: erf(x) = x + x * polynomial(x*x) for |x| <= 0.9, error 1.4e-8
SINGLE_SMALL = (
    0.12837915122509003, -0.3761250376701355, 0.11281921714544296, -0.026770493015646935,
    0.0049989596009254456, -0.0006020806031301618,
)  # fmt: skip
# and 1 - 2**-polynomial(x) for 0.9 <= x <= 3.94, error 2.5e-9
SINGLE_LARGE = (
    0.0002401812671450898, 1.6270672082901, 0.9189628958702087, 0.15020349621772766,
    -0.032193537801504135, 0.004422402009367943, -0.00028594935429282486,
)  # fmt: skip
# 2**r for |r| <= 1/2, error 1.2e-7 of something that is below 0.21
SINGLE_EXP2 = (
    1.0000001192092896, 0.6931474208831787, 0.24021920561790466, 0.055497538298368454,
    0.009684511460363865, 0.001362998504191637,
)  # fmt: skip

# For float64: erf(x) = x + x * polynomial(x*x) for |x| <= 1, error 1.4e-17
SMALL = (
    0.12837916709551256, -0.37612638903183343, 0.1128379167093695, -0.02686617064195885,
    0.005223977596730534, -0.0008548325484203122, 0.00012055280444039996,
    -1.4924463890044345e-05, 1.6444118263732449e-06, -1.618365429236867e-07,
    1.3614838782643982e-08, -7.603577342353961e-10,
)  # fmt: skip

# exp(x*x) * erfc(x) * (x + k) as a polynomial of q = (x - k) / (x + k), after Shepherd and
# Laframboise (1981). Rounded at once, unlike the others. For float32, computed in float64: k = 3,
# 0 <= x <= 10.2, error 2.1e-9
SINGLE_TAIL = (
    1.0740069077706882, -0.8833944864643349, 0.5902282983852409, -0.31046600819646497,
    0.11952906971602487, -0.026839827584923655, -0.001226436236989165, 0.0030803280993720187,
    -0.00048316893391931647, -0.00032532883018812105,
)  # fmt: skip
# For float64: k = 4, 0 <= x <= 27.3, error 1.8e-17
TAIL = (
    1.095995661000491, -0.9765487290808824, 0.7732087022652409, -0.540853831313188,
    0.330851587877791, -0.1740109372414771, 0.07638151491422522, -0.026370053316612057,
    0.006112055601930301, -0.00028095907112148897, -0.00045505235732610014,
    0.00017681391789476042, -3.636327425200806e-06, -1.8864654130540313e-05,
    4.696756631361836e-06, 1.4324906988519207e-06, -8.485384058923703e-07,
    -8.687323013923504e-08, 1.2435374934456773e-07, 9.615149076813428e-09,
    -1.384031890754032e-08, -2.766517822320899e-09,
)  # fmt: skip


def _scaled(a: Scalar, k: float, coefficients: tuple[float, ...]) -> Scalar:
    """Give exp(a*a) * erfc(a)."""
    inverse = 1.0 / (a + k)
    q = m.fma(inverse, m.like(-2 * k, a), m.like(1.0, a))
    return horner(q, coefficients) * inverse


def _positive_erfc(a: Scalar) -> Scalar:
    """Give erfc(a) of a float64 a >= 0."""
    a = at_most(a, 27.3)
    scaled = _scaled(a, 4.0, TAIL)
    square = a * a
    error = m.fma(a, a, -square)
    r, q, s, _ = exp_parts(-square)
    p = m.fma(r, q, m.like(1.0, a))
    return m.fma(-error, scaled, scaled) * p * s * s


def erfc(x: Scalar) -> Scalar:
    """Give 1 - erf(x), with small relative error for large x too."""
    if x.dtype == "float32":
        wide = m.cast(x, "float64")
        a = at_most(m.abs(wide), 10.2)
        found = _scaled(a, 3.0, SINGLE_TAIL) * exp2_wide(a * a * (-1 / math.log(2)))
        return m.cast(m.select(wide < 0.0, 2.0 - found, found), "float32")
    a = m.abs(x)
    found = _positive_erfc(a)
    # near zero the polynomial of erf is closer
    near = (1.0 - x) - x * horner(x * x, SMALL)
    return m.select(a < 1.0, near, m.select(x < 0.0, 2.0 - found, found))


def erf(x: Scalar) -> Scalar:
    """Give the error function, 2 / sqrt(pi) times the integral of exp(-t*t) from 0 to x."""
    a = m.abs(x)
    if x.dtype == "float32":
        small = m.fma(x, horner(x * x, SINGLE_SMALL), x)
        return m.select(a < 0.9, small, flip(_single_large(a), sign_of(x)))
    small = m.fma(x, horner(x * x, SMALL), x)
    return m.select(a < 1.0, small, flip(1.0 - _positive_erfc(a), sign_of(x)))


def _single_large(a: Scalar) -> Scalar:
    """Give erf(a) of a float32 a >= 0.9."""
    layout = LAYOUTS[a.dtype]
    bias = layout.magic + layout.bias
    power = -horner(at_most(a, 3.94), SINGLE_LARGE)
    shifted = power + bias
    found = horner(power - (shifted - bias), SINGLE_EXP2)
    return m.fma(-found, power_of_two(shifted), m.like(1.0, a))
