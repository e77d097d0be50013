"""The gamma function, its logarithm and the derivatives of that; beta functions.

Largest errors measured against mpmath in epsilons of float32 and float64, on thousands of points:
gamma 4, lgamma 4 above 0 and 7 of max(1, |y|) below, digamma 8 of max(1, |y|), polygamma(1) 4 and
higher ones 12 above 0, betaln 16 of max(1, |y|). `tests/ops/test_special.py` holds them to that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from symgraph.errors import ArgumentError
from symgraph.graph.arguments import plain_int
from symgraph.graph.elementwise import Elementwise, GraphMath, scalar_op
from symgraph.graph.leaves import cast_to, common
from symgraph.graph.node import Value, make
from symgraph.graph.op import Cotangent, op
from symgraph.graph.precision import wide
from symgraph.graph.registry import F, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.ops.special_parts import (
    HALF_LOG_TWO_PI,
    SHIFTED,
    bernoulli,
    digamma_positive,
    dtype_of,
    log_gamma_positive,
    near_gamma,
    sine_of_pi,
    stirling,
)

_LOG_PI = math.log(math.pi)
_INF, _NAN = float("inf"), float("nan")
_TINY = 1e-20  # below it gamma(x) is 1 / x


def _gamma(m: Any, x: Any) -> Any:
    a = m.abs(x)
    small, factor = near_gamma(m, a)
    near = m.exp(small) * m.select(m.lt(a, 1.5), 1 / factor, factor)
    # x^(x - 1/2) overflows before Gamma(x) does
    root = m.pow(a, 0.5 * a - 0.25)
    far = (root * m.exp(-a)) * root * (math.sqrt(2 * math.pi) * m.exp(stirling(a)))
    end = 36.0 if dtype_of(x) == "float32" else 172.0
    size = m.select(m.gt(a, end), m.like(_INF, x), m.select(m.lt(a, SHIFTED), near, far))
    size = m.select(m.isnan(x), x, size)
    mirrored = -math.pi / (x * sine_of_pi(m, x) * size)
    pole = m.and_(m.lt(x, 0), m.eq(x, m.rint(x)))
    mirrored = m.select(pole, m.like(_NAN, x), mirrored)
    return m.select(m.lt(a, _TINY), 1 / x, m.select(m.lt(x, 0), mirrored, size))


def _log_gamma(m: Any, x: Any) -> Any:
    a = m.abs(x)
    size = log_gamma_positive(m, a)
    mirrored = _LOG_PI - m.log(a) - m.log(m.abs(sine_of_pi(m, x))) - size
    found = m.select(m.lt(x, 0), mirrored, size)
    return m.select(m.isinf(x), m.like(_INF, x), found)


def _digamma(m: Any, x: Any) -> Any:
    negative = m.lt(x, 0)
    positive = digamma_positive(m, m.select(negative, 1 - x, x))
    part = math.pi * (x - m.rint(x))
    mirrored = positive - math.pi * m.cos(part) / m.sin(part)
    pole = m.and_(negative, m.eq(x, m.rint(x)))
    mirrored = m.select(m.or_(pole, m.eq(x, -_INF)), m.like(_NAN, x), mirrored)
    return m.select(m.lt(m.abs(x), _TINY), -1 / x, m.select(negative, mirrored, positive))


# fmt: off
gamma = scalar_op("gamma", _gamma, domain=(0.3, 5.0),
    d=lambda m, x, y: y * m.digamma(x), latex=r"\Gamma({0})",
    doc="Give the gamma function: (x - 1)! for whole x > 0; NaN where it has poles below 0.")
lgamma = scalar_op("lgamma", _log_gamma, domain=(0.3, 12.0),
    d=lambda m, x, y: m.digamma(x), latex=r"\ln|\Gamma({0})|",
    doc="Give the logarithm of |gamma(x)|; infinite at 0, -1, -2, ...")
digamma = scalar_op("digamma", _digamma, domain=(0.3, 12.0),
    d=lambda m, x, y: m.polygamma(1, x), latex=r"\psi({0})",
    doc="Give the derivative of lgamma(x); NaN at its poles below 0.")
# fmt: on


@composite(
    samples=[
        sample(lambda x: F.gammaln(x), arg(("B", 4), low=0.2, high=9.0)),
        sample(lambda x: F.gammaln(x), arg((17,), "int32", low=1, high=9), label="int"),
    ]
)
def gammaln(x: Any) -> Value:
    """Give log |gamma(x)|: SciPy's name of `lgamma`."""
    return F.lgamma(x)


_LOWER = 10  # terms summed before the asymptotic series
_UPPER = 11  # terms of that


def _cotangent_polynomial(order: int) -> list[int]:
    """Give P with (d/dx)^n cot(pi x) = pi^n P(cot(pi x)): P' (-(1 + c^2)) again and again."""
    polynomial = [0, 1]
    for _ in range(order):
        slope = [k * number for k, number in enumerate(polynomial)][1:]
        polynomial = [0] * (len(slope) + 2)
        for k, number in enumerate(slope):
            polynomial[k] -= number
            polynomial[k + 2] -= number
    return polynomial


def _power(x: Any, exponent: int) -> Any:
    """Give x to a whole power >= 1 by multiplications."""
    result = None
    while exponent:
        if exponent & 1:
            result = x if result is None else result * x
        x, exponent = x * x, exponent >> 1
    return result


def _hurwitz(m: Any, s: int, q: Any) -> Any:
    """Give the sum of (q + k)^-s over k >= 0, q > 0, by Euler and Maclaurin (DLMF 25.11.5)."""
    end = q + _LOWER
    inverse = 1 / end
    square = inverse * inverse
    numbers = bernoulli(2 * _UPPER)
    tail = 0.0
    for j in range(_UPPER, 0, -1):
        # s (s + 1) ... (s + 2j - 2) B_2j / (2j)!
        rising = math.prod(range(s, s + 2 * j - 1))
        number = float(numbers[2 * j] * rising / math.factorial(2 * j))
        tail = tail * square + number
    total = _power(inverse, s - 1) * (1 / (s - 1) + inverse * (0.5 + tail * inverse))
    for k in reversed(range(_LOWER)):
        total = total + _power(1 / (q + k), s)
    return total


@op
class Polygamma(Elementwise):
    """The derivative of the digamma function, `order` times."""

    order: int
    takes = "float"
    latex = r"\psi^{{(n)}}({0})"
    domain = ((0.4, 6.0),)
    samples = (
        sample(lambda x: F.polygamma(1, x), arg(("B", 4), low=0.4, high=6.0)),
        sample(lambda x: F.polygamma(2, x), arg(("B", 4), low=-0.9, high=-0.1), label="mirrored"),
        sample(lambda x: F.polygamma(5, x), arg((17,), low=1.0, high=6.0), label="high"),
        sample(lambda x: F.digamma(F.polygamma(1, x)), arg((0, 3)), label="none"),
    )
    bad = (bad(lambda x: F.polygamma(-1, x), arg((3,)), error=ArgumentError, match="n must be"),)

    def run_body(self, m: Any, *operands: Any) -> Any:
        (x,) = operands
        n = self.order
        low = m.lt(x, 0.5)
        size = _hurwitz(m, n + 1, m.select(low, 1 - x, x)) * float(math.factorial(n))
        positive = size if n % 2 else -size
        part = math.pi * (x - m.rint(x))
        cotangent = m.cos(part) / m.sin(part)
        value = 0.0 * cotangent
        for number in reversed(_cotangent_polynomial(n)):
            value = value * cotangent + float(number)
        mirrored = -(math.pi ** (n + 1)) * value + (-positive if n % 2 else positive)
        pole = m.and_(m.le(x, 0), m.eq(x, m.rint(x)))
        at_pole = m.like(_INF if n % 2 else _NAN, x)
        found = m.select(m.lt(x, 0), mirrored, positive)
        near = m.select(m.and_(m.ge(x, 0), low), self._small(m, x), found)
        near = m.select(m.eq(x, _INF), m.like(0, x), near)
        return m.select(m.eq(x, -_INF), m.like(_NAN, x), m.select(pole, at_pole, near))

    def _small(self, m: Any, x: Any) -> Any:
        """Give it for 0 < x < 1/2, where nothing is to be mirrored."""
        size = _hurwitz(m, self.order + 1, x) * float(math.factorial(self.order))
        return size if self.order % 2 else -size

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        return g * m.polygamma(self.order + 1, xs[0])


@function_of
def polygamma(n: int, x: Any) -> Value:
    """Give the derivative of `digamma` at x, n times; n = 0 is digamma itself.

    At 0, -1, -2, ... it is infinite for odd n and NaN for even n. Raises `ArgumentError` unless
    n >= 0.

    >>> round(float(polygamma(1, 1.0).eval()), 4)
    1.6449
    """
    order = plain_int("polygamma", "n", n)
    if order < 0:
        raise ArgumentError(f"polygamma: n must be >= 0, got {order}.", fix="n=1")
    if order == 0:
        return F.digamma(x)
    return make(Polygamma(order), *common("polygamma", x, floating=True))


def _log_beta(m: Any, x: Any, y: Any) -> Any:
    """Give log B(x, y); where one is large, the difference of its gammas without cancelling."""
    a, b = m.min(x, y), m.max(x, y)
    total = a + b
    near = log_gamma_positive(m, a) + (log_gamma_positive(m, b) - log_gamma_positive(m, total))
    far = m.max(b, m.like(SHIFTED, x))
    both = a + far
    fall = stirling(far) - stirling(both) - (far - 0.5) * m.log1p(a / far)
    large = m.max(a, m.like(SHIFTED, x))
    mixed = log_gamma_positive(m, a) + fall + a * (1 - m.log(both))
    equal = (
        HALF_LOG_TWO_PI + stirling(large) + fall
        - (large - 0.5) * m.log1p(far / large) - 0.5 * m.log(both)
    )  # fmt: skip
    found = m.select(m.lt(b, SHIFTED), near, m.select(m.lt(a, SHIFTED), mixed, equal))
    found = m.select(m.eq(a, 0), m.like(_INF, x), found)
    return m.select(m.lt(a, 0), m.like(_NAN, x), found)


# fmt: off
betaln = scalar_op("betaln", _log_beta, domain=((0.3, 5.0), (0.3, 12.0)), commutes=True,
    d=(lambda m, x, y, out: m.digamma(x) - m.digamma(x + y),
       lambda m, x, y, out: m.digamma(y) - m.digamma(x + y)),
    latex=r"\ln B({0}, {1})",
    doc="Give log(gamma(x) gamma(y) / gamma(x + y)) for finite x, y >= 0; NaN below.")
# fmt: on


@composite(
    samples=[
        sample(
            lambda x, y: F.beta(x, y), arg(("B", 4), low=0.3, high=5.0),
            arg((4,), low=0.3, high=12.0),
        ),
        sample(lambda x: F.beta(x, 2), arg((17,), "int32", low=1, high=9), label="int"),
    ],
    bad=[bad(lambda x, y: F.beta(x, y), arg((3,)), arg((4,)), match="cannot broadcast")],
)  # fmt: skip
def beta(x: Any, y: Any) -> Value:
    """Give gamma(x) gamma(y) / gamma(x + y) for x, y > 0, as exp(betaln(x, y)).

    Its relative error is about |betaln(x, y)| times epsilon.
    """
    first, second = common("beta", x, y, floating=True)
    return cast_to(F.exp(F.betaln(wide(first), wide(second))), first.dtype)
