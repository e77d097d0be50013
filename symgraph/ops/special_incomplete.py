"""The regularised incomplete gamma functions.

Below x = a + 1 the power series, above it the continued fraction, each with a fixed number of
terms; for a >= 20 and x within 40 % of a, where neither ends soon, Temme's uniform expansion.

Largest errors measured against mpmath for a from 0.05 to 10,000, in epsilons: 5 of 1, and 90 of the
result itself where it is as small as 1e-227.
"""

from __future__ import annotations

import math
from typing import Any

from symgraph.errors import GradError
from symgraph.graph.elementwise import scalar_op
from symgraph.graph.registry import F
from symgraph.graph.samples import arg, sample
from symgraph.ops.special_parts import dtype_of, horner, log_gamma_positive, stirling
from symgraph.ops.special_tables import TEMME

_INF, _NAN = float("inf"), float("nan")
_TERMS = {"float32": (40, 24), "float64": (76, 64)}  # of the series, of the fraction
_UNIFORM_FROM, _UNIFORM_NEAR = 20.0, 0.4
_LOG_TERMS = 14
_DOMAIN = ((0.6, 9.0), (0.2, 12.0))  # SciPy's Q loses two digits just above a = 1/2


def _deviation(m: Any, mu: Any) -> Any:
    """Give mu - log(1 + mu) for |mu| <= 0.4 without cancelling, by s = mu / (2 + mu)."""
    s = mu / (2 + mu)
    square = s * s
    series = horner([1 / (2 * k + 3) for k in range(_LOG_TERMS)], square)
    return s * (mu - 2 * square * series)


def _parts(m: Any, a: Any, x: Any, upper: bool) -> Any:
    """Give P(a, x), or Q(a, x) = 1 - P(a, x), for finite a > 0, x > 0."""
    dtype = dtype_of(x)
    terms, levels = _TERMS[dtype]
    mu = (x - a) / a
    inside = m.min(m.max(mu, m.like(-_UNIFORM_NEAR, x)), m.like(_UNIFORM_NEAR, x))
    phi = _deviation(m, inside)
    near = m.le(m.abs(mu), _UNIFORM_NEAR)
    large = m.max(a, m.like(8, x))
    # x^a exp(-x) / Gamma(a + 1)
    height = m.exp(-stirling(large)) / m.sqrt((2 * math.pi) * large)
    slow = m.exp(-large * m.select(near, phi, mu - m.log1p(mu))) * height
    quick = m.exp(a * m.log(x) - x - log_gamma_positive(m, a + 1))
    front = m.select(m.ge(a, 8), slow, quick)

    series = 1.0 + 0.0 * x
    for n in range(terms, 0, -1):
        series = 1.0 + x / (a + n) * series
    fraction = x + (2 * levels + 1) - a
    for n in range(levels, 0, -1):
        fraction = x + (2 * n - 1) - a - n * (n - a) / fraction
    by_series, by_fraction = front * series, front * a / fraction
    low = m.lt(x, m.max(a, m.like(1, x)) + 1)
    if upper:
        plain = m.select(low, 1 - by_series, by_fraction)
    else:
        plain = m.select(low, by_series, 1 - by_fraction)

    many = m.max(a, m.like(_UNIFORM_FROM, x))
    eta = m.sqrt(2 * phi)
    eta = m.select(m.lt(inside, 0), -eta, eta)
    rest = 0.0 * x
    for row in reversed(TEMME[dtype]):
        rest = rest / many + horner(row, eta)
    rest = rest * m.exp(-many * phi) / m.sqrt((2 * math.pi) * many)
    root = eta * m.sqrt(0.5 * many)
    uniform = 0.5 * m.erfc(root) + rest if upper else 0.5 * m.erfc(-root) - rest
    return m.select(m.and_(m.ge(a, _UNIFORM_FROM), near), uniform, plain)


def _incomplete(upper: bool) -> Any:
    at_0, at_end = (1.0, 0.0) if upper else (0.0, 1.0)

    def body(m: Any, a: Any, x: Any) -> Any:
        found = _parts(m, a, x, upper)
        found = m.select(m.eq(x, 0), m.like(at_0, x), found)
        found = m.select(m.or_(m.eq(x, _INF), m.eq(a, 0)), m.like(at_end, x), found)
        found = m.select(m.eq(a, _INF), m.like(at_0, x), found)
        both = m.or_(m.and_(m.eq(a, 0), m.eq(x, 0)), m.and_(m.eq(a, _INF), m.eq(x, _INF)))
        wrong = m.or_(m.or_(m.lt(a, 0), m.lt(x, 0)), m.or_(m.isnan(a), m.isnan(x)))
        return m.select(m.or_(both, wrong), m.like(_NAN, x), found)

    return body


def _density(m: Any, a: Any, x: Any) -> Any:
    """Give the derivative by x of P: x^(a - 1) exp(-x) / Gamma(a)."""
    return m.exp(m.xlogy(a - 1, x) - x - m.lgamma(a))


def _by_shape(m: Any, a: Any, x: Any, y: Any) -> Any:
    raise GradError(
        "gammainc: the gradient by the first operand is not known in closed form.",
        fix="stop_gradient(a), or differences",
    )


def _samples(name: str) -> tuple[Any, ...]:
    """Give the samples, each without the gradient by the first operand, which there is not."""

    def call(a: Any, x: Any) -> Any:
        return getattr(F, name)(a, x)

    wide = arg(("B", 4), low=0.6, high=9.0), arg(("B", 4), low=0.2, high=12.0)
    large = arg((17,), low=15.0, high=60.0), arg((17,), low=15.0, high=60.0)
    spread = arg(("B", 1), low=0.6, high=9.0), arg((4,), low=0.2, high=12.0)
    return (
        sample(call, *wide, gradient=(1,)),
        sample(call, *large, label="large", gradient=(1,)),
        sample(call, *spread, label="broadcast", gradient=(1,)),
    )


_DOC = """for a, x >= 0; NaN elsewhere.

    The gradient by a raises `GradError`.
    Source: DLMF 8.7.1, 8.9.2, 8.12.3."""
# fmt: off
gammainc = scalar_op("gammainc", _incomplete(False), domain=_DOMAIN,
    d=(_by_shape, lambda m, a, x, y: _density(m, a, x)), latex=r"P({0}, {1})",
    samples=_samples("gammainc"),
    doc=f"""Give P(a, x), the integral of t^(a - 1) exp(-t) / Gamma(a) from 0 to x,
    {_DOC}
    """)
gammaincc = scalar_op("gammaincc", _incomplete(True), domain=_DOMAIN,
    d=(_by_shape, lambda m, a, x, y: -_density(m, a, x)), latex=r"Q({0}, {1})",
    samples=_samples("gammaincc"),
    doc=f"""Give Q(a, x) = 1 - P(a, x), the integral of t^(a - 1) exp(-t) / Gamma(a) from x on,
    {_DOC}
    """)
# fmt: on
