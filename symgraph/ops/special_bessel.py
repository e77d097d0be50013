"""Bessel functions of order 0 and 1, and quotients with a removable 0 / 0: sinc and exprel.

Largest errors measured against mpmath in epsilons: i0 and i0e 4, i1 and i1e 6, sinc and exprel 2;
j0, j1 up to 100 and spherical_jn, which have zeros, 2 of 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from symgraph.errors import ArgumentError
from symgraph.graph.arguments import plain_int
from symgraph.graph.elementwise import Elementwise, GraphMath, scalar_op
from symgraph.graph.leaves import common
from symgraph.graph.node import Value, make
from symgraph.graph.op import Cotangent, op
from symgraph.graph.registry import F, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.ops import special_tables as tables
from symgraph.ops.special_parts import by_size, dtype_of, fitted, horner, sine_of_pi

_SQRT_HALF = math.sqrt(0.5)
_INF = float("inf")


def _scaled(m: Any, x: Any, order: int) -> Any:
    """Give exp(-|x|) I(x) of order 0 or 1."""
    near_table, far_table = (
        (tables.I0_NEAR, tables.I0_FAR) if order == 0 else (tables.I1_NEAR, tables.I1_FAR)
    )
    a = m.abs(x)
    near = fitted(near_table, x, m.min(a, m.like(8, x)) / 4 - 1)
    inverse = 1 / m.max(a, m.like(8, x))
    far = m.sqrt(inverse) * fitted(far_table, x, 16 * inverse - 1)
    if order:
        near, far = x * near, m.select(m.lt(x, 0), -far, far)
    return m.select(m.isnan(x), x, by_size(m, x, 8, far, near))


def _grown(m: Any, x: Any, order: int) -> Any:
    """Give I(x): exp(|x|) overflows before it does."""
    half = m.exp(0.5 * m.abs(x))
    found = _scaled(m, x, order) * half * half
    at_infinity = x if order else m.abs(x)
    return m.select(m.isinf(x), at_infinity, found)


def _wave(m: Any, x: Any, order: int) -> Any:
    """Give J(x) of order 0 or 1: a polynomial up to 5, then two waves (DLMF 10.17.3)."""
    a = m.abs(x)
    low = m.min(a, m.like(5, x))
    near = fitted(tables.J1_NEAR if order else tables.J0_NEAR, x, low * low / 12.5 - 1)
    high = m.max(a, m.like(5, x))
    y = 2 * (5 / high) * (5 / high) - 1
    p = fitted(tables.J1_P if order else tables.J0_P, x, y)
    q = fitted(tables.J1_Q if order else tables.J0_Q, x, y) / high
    s, c = m.sin(high), m.cos(high)
    # cos and sin of high - pi / 4, or of high - 3 pi / 4
    turned = (s - c, -(s + c)) if order else (s + c, s - c)
    far = m.sqrt((1 / math.pi) / high) * (p * turned[0] - q * turned[1])
    if order:
        near, far = x * near, m.select(m.lt(x, 0), -far, far)
    found = by_size(m, x, 5, far, near)
    return m.select(m.isinf(x), m.like(0, x), m.select(m.isnan(x), x, found))


def _half_at_0(m: Any, x: Any, y: Any) -> Any:
    """Give y / x, 1/2 at 0."""
    safe = m.select(m.eq(x, 0), m.like(1, x), x)
    return m.select(m.eq(x, 0), m.like(0.5, x), y / safe)


# fmt: off
i0 = scalar_op("i0", lambda m, x: _grown(m, x, 0), d=lambda m, x, y: m.i1(x),
    latex=r"I_0({0})", doc="Give the modified Bessel function of the first kind, order 0.")
i0e = scalar_op("i0e", lambda m, x: _scaled(m, x, 0),
    d=lambda m, x, y: m.i1e(x) - m.sign(x) * y,
    latex=r"e^{{-|{0}|}} I_0({0})", doc="Give exp(-|x|) * i0(x), which does not overflow.")
i1 = scalar_op("i1", lambda m, x: _grown(m, x, 1), domain=(0.5, 9.0),
    d=lambda m, x, y: m.i0(x) - _half_at_0(m, x, y),
    latex=r"I_1({0})", doc="Give the modified Bessel function of the first kind, order 1.")
i1e = scalar_op("i1e", lambda m, x: _scaled(m, x, 1), domain=(0.5, 9.0),
    d=lambda m, x, y: m.i0e(x) - m.sign(x) * y - _half_at_0(m, x, y),
    latex=r"e^{{-|{0}|}} I_1({0})", doc="Give exp(-|x|) * i1(x), which does not overflow.")
j0 = scalar_op("j0", lambda m, x: _wave(m, x, 0), domain=(0.5, 9.0), d=lambda m, x, y: -m.j1(x),
    latex=r"J_0({0})", doc="Give the Bessel function of the first kind, order 0.")
j1 = scalar_op("j1", lambda m, x: _wave(m, x, 1), domain=(0.5, 9.0),
    d=lambda m, x, y: m.j0(x) - _half_at_0(m, x, y),
    latex=r"J_1({0})", doc="Give the Bessel function of the first kind, order 1.")
# fmt: on


def _sinc(m: Any, x: Any) -> Any:
    safe = m.select(m.eq(x, 0), m.like(1, x), x)
    found = sine_of_pi(m, x) / (math.pi * safe)
    found = m.select(m.eq(x, 0), m.like(1, x), found)
    return m.select(m.isinf(x), m.like(0, x), found)


sinc = scalar_op(
    "sinc",
    _sinc,
    d=lambda m, x, y: -math.pi * m.spherical_jn(1, math.pi * x),
    latex=r"\frac{{\sin \pi {0}}}{{\pi {0}}}",
    doc="Give sin(pi x) / (pi x), 1 at 0 and exactly 0 at other whole numbers, as NumPy's.",
)


@op
class SphericalJn(Elementwise):
    """The spherical Bessel function of the first kind, of a whole order."""

    order: int
    takes = "float"
    latex = r"j_n({0})"
    domain = ((0.1, 9.0),)
    samples = (
        sample(lambda x: F.spherical_jn(0, x), arg(("B", 4), low=-9, high=9)),
        sample(lambda x: F.spherical_jn(2, x), arg((17,), low=0.0, high=9), label="two"),
    )
    bad = (bad(lambda x: F.spherical_jn(-1, x), arg((3,)), error=ArgumentError, match="n must be"),)

    def run_body(self, m: Any, *operands: Any) -> Any:
        (x,) = operands
        n, end = self.order, float(self.order + 1)
        # x^n / (2n + 1)!! times the sum of (-x^2 / 2)^k / (k! (2n + 3) (2n + 5) ...)
        low = m.min(m.abs(x), m.like(end, x))
        half = -0.5 * low * low
        count = 8 if dtype_of(x) == "float32" else 14
        series = 1.0 + 0.0 * low
        for k in range(count + n, 0, -1):
            series = 1.0 + series * half / (k * (2 * n + 2 * k + 1))
        scale = 1.0 / math.prod(range(1, 2 * n + 2, 2))
        near = scale * series
        for _ in range(n):
            near = near * m.min(m.max(x, m.like(-end, x)), m.like(end, x))
        high = m.select(m.gt(m.abs(x), end), x, m.like(end, x))
        s, c = m.sin(high), m.cos(high)
        before, found = c / high, s / high  # orders -1 and 0
        for k in range(n):
            before, found = found, (2 * k + 1) / high * found - before
        found = by_size(m, x, end, found, near)
        return m.select(m.isinf(x), m.like(0, x), m.select(m.isnan(x), x, found))

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        (x,), n = xs, self.order
        if n == 0:
            return -g * m.spherical_jn(1, x)
        below, above = m.spherical_jn(n - 1, x), m.spherical_jn(n + 1, x)
        return g * ((n / (2 * n + 1)) * below - ((n + 1) / (2 * n + 1)) * above)


@function_of
def spherical_jn(n: int, x: Any) -> Value:
    """Give sqrt(pi / (2 x)) J(x) of order n + 1/2; n = 0 is sin(x) / x.

    Raises `ArgumentError` unless n >= 0.
    """
    order = plain_int("spherical_jn", "n", n)
    if order < 0:
        raise ArgumentError(f"spherical_jn: n must be >= 0, got {order}.", fix="n=0")
    return make(SphericalJn(order), *common("spherical_jn", x, floating=True))


@op
class Exprel(Elementwise):
    """The integral of exp((1 - t) x) t^(n - 1) / (n - 1)! over t from 0 to 1, n the order."""

    order: int
    takes = "float"
    latex = r"\varphi_n({0})"
    samples = (
        sample(lambda x: F.exprel(x), arg(("B", 4))),
        sample(lambda x: F.exprel(x), arg((17,), low=-0.1, high=0.1), label="near 0"),
        sample(lambda x: F.grad(F.sum(F.exprel(x)), x), arg((3, 1)), label="second"),
    )

    def run_body(self, m: Any, *operands: Any) -> Any:
        (x,) = operands
        n = self.order
        count = 10 if dtype_of(x) == "float32" else 18
        low = m.min(m.max(x, m.like(-1, x)), m.like(1, x))
        near = horner([1 / math.factorial(k + n) for k in range(count)], low)
        safe = m.select(m.eq(x, 0), m.like(1, x), x)
        half = m.exp(0.5 * x)  # the quotient is finite where exp(x) is not
        found = m.select(m.gt(x, 50), half / safe * half, m.expm1(x) / safe)
        for k in range(1, n):
            found = (found - 1 / math.factorial(k)) / safe
        found = by_size(m, x, 1, found, near)
        at_infinity = m.select(m.gt(x, 0), x, m.like(0, x))
        return m.select(m.isinf(x), at_infinity, found)

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        return g * (y - float(self.order) * make(Exprel(self.order + 1), xs[0]))


@function_of
def exprel(x: Any) -> Value:
    """Give (exp(x) - 1) / x, 1 at 0, without cancelling near 0."""
    return make(Exprel(1), *common("exprel", x, floating=True))
