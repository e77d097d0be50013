"""The regularised incomplete gamma functions.

Below x = a + 1 the power series, above it the continued fraction, each with a fixed number of
terms; for a >= 20 and x within 40 % of a, where neither ends soon, Temme's uniform expansion.

Largest errors measured against mpmath for a from 0.05 to 10,000, in epsilons: 5 of 1, and 90 of the
result itself where it is as small as 1e-227.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from symgraph.errors import GradError
from symgraph.graph.elementwise import scalar_op
from symgraph.graph.registry import F
from symgraph.graph.samples import arg, sample
from symgraph.ops.special_parts import (
    digamma_positive,
    dtype_of,
    horner,
    log_gamma_positive,
    stirling,
)
from symgraph.ops.special_tables import TEMME

_INF, _NAN = float("inf"), float("nan")
_TERMS = {"float32": (40, 24), "float64": (76, 64)}  # of the series, of the fraction
_UNIFORM_FROM, _UNIFORM_NEAR = 20.0, 0.4
_LOG_TERMS = 14
_DOMAIN = ((0.6, 9.0), (0.2, 12.0))  # SciPy's Q loses two digits just above a = 1/2


def _deviation(m: Any, mu: Any) -> Any:
    """Give (mu - log(1 + mu)) / mu^2 for |mu| <= 0.4 without cancelling, by s = mu / (2 + mu)."""
    s = mu / (2 + mu)
    series = horner([1 / (2 * k + 3) for k in range(_LOG_TERMS)], s * s)
    return (1 - 2 * s * series / (2 + mu)) / (2 + mu)


def _front(m: Any, a: Any, x: Any, mu: Any, phi: Any) -> Any:
    """Give x^a exp(-x) / Gamma(a + 1); phi is mu - log(1 + mu) where |mu| <= 0.4."""
    near = m.le(m.abs(mu), _UNIFORM_NEAR)
    large = m.max(a, m.like(8, x))
    height = m.exp(-stirling(large)) / m.sqrt((2 * math.pi) * large)
    slow = m.exp(-large * m.select(near, phi, mu - m.log1p(mu))) * height
    quick = m.exp(a * m.log(x) - x - log_gamma_positive(m, a + 1))
    return m.select(m.ge(a, 8), slow, quick)


def _parts(m: Any, a: Any, x: Any, upper: bool) -> Any:
    """Give P(a, x), or Q(a, x) = 1 - P(a, x), for finite a > 0, x > 0."""
    dtype = dtype_of(x)
    terms, levels = _TERMS[dtype]
    mu = (x - a) / a
    inside = m.min(m.max(mu, m.like(-_UNIFORM_NEAR, x)), m.like(_UNIFORM_NEAR, x))
    shrunk = _deviation(m, inside)
    phi = inside * inside * shrunk
    near = m.le(m.abs(mu), _UNIFORM_NEAR)
    front = _front(m, a, x, mu, phi)

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
    eta = inside * m.sqrt(2 * shrunk)
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


def _slope(m: Any, a: Any, x: Any) -> Any:
    """Give the derivative by a of P, for a > 0, x > 0: that of whichever sum gives P."""
    dtype = dtype_of(x)
    terms, levels = _TERMS[dtype]
    mu = (x - a) / a
    inside = m.min(m.max(mu, m.like(-_UNIFORM_NEAR, x)), m.like(_UNIFORM_NEAR, x))
    shrunk = _deviation(m, inside)
    phi = inside * inside * shrunk
    front = _front(m, a, x, mu, phi)
    growth = m.log(x) - digamma_positive(m, a + 1)  # of the front, relative to itself

    series, by_series = 1.0 + 0.0 * x, 0.0 * x
    for n in range(terms, 0, -1):
        ratio = x / (a + n)
        by_series = ratio * (by_series - series / (a + n))
        series = 1.0 + ratio * series
    fraction, by_fraction = x + (2 * levels + 1) - a, 0.0 * x - 1.0
    for n in range(levels, 0, -1):
        inverse = 1 / fraction
        by_fraction = inverse * n * (1.0 + (n - a) * by_fraction * inverse) - 1.0
        fraction = x + (2 * n - 1) - a - n * (n - a) * inverse
    low = m.lt(x, m.max(a, m.like(1, x)) + 1)
    rest = (growth * a + 1.0 - a * by_fraction / fraction) / fraction
    plain = front * m.select(low, growth * series + by_series, -rest)

    many = m.max(a, m.like(_UNIFORM_FROM, x))
    height = m.sqrt(2 * shrunk)
    eta, by_eta = inside * height, -1.0 / (many * height)
    total, by_total = 0.0 * x, 0.0 * x
    for row in reversed(TEMME[dtype]):
        by_total = (by_total - total / many) / many + horner(_derived(row), eta) * by_eta
        total = total / many + horner(row, eta)
    root = m.sqrt(0.5 * many)
    by_root = by_eta * root + eta / (4 * root)
    tail = m.exp(-many * phi) / math.sqrt(math.pi)
    # the expansion is erfc(-eta root) / 2 - total tail / (2 root)
    by_tail = m.log1p(inside) - 0.5 / many
    uniform = tail * (by_root - (by_total + total * by_tail) / (2 * root))
    return m.select(m.and_(m.ge(a, _UNIFORM_FROM), m.le(m.abs(mu), _UNIFORM_NEAR)), uniform, plain)


def _derived(row: Sequence[float]) -> list[float]:
    return [k * number for k, number in enumerate(row)][1:] or [0.0]


def _slope_body(m: Any, a: Any, x: Any) -> Any:
    inner = m.and_(m.and_(m.gt(a, 0), m.lt(a, _INF)), m.and_(m.gt(x, 0), m.lt(x, _INF)))
    found = _slope(m, m.select(inner, a, m.like(1, x)), m.select(inner, x, m.like(1, x)))
    legal = m.and_(m.and_(m.gt(a, 0), m.lt(a, _INF)), m.ge(x, 0))  # 0 at both ends of x
    return m.select(inner, found, m.select(legal, m.like(0, x), m.like(_NAN, x)))


def _twice(m: Any, a: Any, x: Any, y: Any) -> Any:
    raise GradError(
        "gammainc: the second gradient by the first operand is not known in closed form.",
        fix="stop_gradient(a), or differences",
    )


def _samples(name: str) -> tuple[Any, ...]:
    """Give the samples, whose gradients of second order are by the second operand alone."""

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

    The second gradient by a raises `GradError`.
    Source: DLMF 8.7.1, 8.9.2, 8.12.3."""
# fmt: off
gammainc_slope = scalar_op("gammainc_slope", _slope_body, domain=_DOMAIN,
    d=(_twice, lambda m, a, x, y: _density(m, a, x) * (m.log(x) - m.digamma(a))),
    latex=r"\frac{{\partial}}{{\partial {0}}} P({0}, {1})",
    samples=_samples("gammainc_slope"),
    doc="""Give the derivative by a of P(a, x), which is that of -Q(a, x), for a > 0, x >= 0.

    The gradient by a raises `GradError`.
    """)
gammainc = scalar_op("gammainc", _incomplete(False), domain=_DOMAIN,
    d=(lambda m, a, x, y: m.gammainc_slope(a, x), lambda m, a, x, y: _density(m, a, x)),
    latex=r"P({0}, {1})",
    samples=_samples("gammainc"),
    doc=f"""Give P(a, x), the integral of t^(a - 1) exp(-t) / Gamma(a) from 0 to x,
    {_DOC}
    """)
gammaincc = scalar_op("gammaincc", _incomplete(True), domain=_DOMAIN,
    d=(lambda m, a, x, y: -m.gammainc_slope(a, x), lambda m, a, x, y: -_density(m, a, x)),
    latex=r"Q({0}, {1})",
    samples=_samples("gammaincc"),
    doc=f"""Give Q(a, x) = 1 - P(a, x), the integral of t^(a - 1) exp(-t) / Gamma(a) from x on,
    {_DOC}
    """)
# fmt: on
