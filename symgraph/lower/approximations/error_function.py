"""erf and erfc: polynomials near zero, and exp of polynomials."""

from __future__ import annotations

from symgraph.frozen import frozen
from symgraph.graph.scalar import Scalar
from symgraph.lower.approximations.exponential import exp_parts, power_of_two
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
# Laframboise (1981). For float32: k = 3, 0 <= x <= 10.2, error 7.7e-9
SINGLE_TAIL = (
    1.0740069150924683, -0.8833944797515869, 0.5902278423309326, -0.3104662597179413,
    0.11953350156545639, -0.026837177574634552, -0.0012401352869346738, 0.0030704804230481386,
    -0.00047047980478964746, -0.0003148986434098333,
)  # fmt: skip
# For float64, rounded at once: k = 4, 0 <= x <= 27.3, error 1.8e-17
TAIL = (
    1.095995661000491, -0.9765487290808824, 0.7732087022652409, -0.540853831313188,
    0.330851587877791, -0.1740109372414771, 0.07638151491422522, -0.026370053316612057,
    0.006112055601930301, -0.00028095907112148897, -0.00045505235732610014,
    0.00017681391789476042, -3.636327425200806e-06, -1.8864654130540313e-05,
    4.696756631361836e-06, 1.4324906988519207e-06, -8.485384058923703e-07,
    -8.687323013923504e-08, 1.2435374934456773e-07, 9.615149076813428e-09,
    -1.384031890754032e-08, -2.766517822320899e-09,
)  # fmt: skip


@frozen
class Tail:
    """The numbers of a dtype for erfc: what is above, see `TAIL`."""

    k: float
    most: float  # above it the result is 0
    coefficients: tuple[float, ...]


TAILS = {"float32": Tail(3.0, 10.2, SINGLE_TAIL), "float64": Tail(4.0, 27.3, TAIL)}


def _positive_erfc(a: Scalar) -> Scalar:
    """Give erfc(a) of a >= 0."""
    tail = TAILS[a.dtype]
    a = at_most(a, tail.most)
    inverse = 1.0 / (a + tail.k)
    q = m.fma(inverse, m.like(-2 * tail.k, a), m.like(1.0, a))
    rest = m.fma(-q, a, m.fma(q + 1.0, m.like(-tail.k, a), a))  # what rounding took from q
    q = m.fma(inverse, rest, q)
    scaled = horner(q, tail.coefficients) * inverse  # exp(a*a) * erfc(a)
    square = a * a
    error = m.fma(a, a, -square)
    r, q, s, _ = exp_parts(-square)
    p = m.fma(r, q, m.like(1.0, a))
    return m.fma(-error, scaled, scaled) * p * s * s


def erfc(x: Scalar) -> Scalar:
    """Give 1 - erf(x), with small relative error for large x too."""
    a = m.abs(x)
    found = _positive_erfc(a)
    if x.dtype == "float32":
        return m.select(x < 0.0, 2.0 - found, found)
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
