"""The activation functions of neural nets, finite for every finite input and right at infinity.

Where a formula multiplies something that vanishes with something that grows, the operand is first
limited to where the vanishing factor is exactly 0 in every dtype; so no 0 * inf makes a NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from symgraph.errors import ArgumentError
from symgraph.graph.elementwise import Elementwise, GraphMath, masked, scalar_op
from symgraph.graph.leaves import common
from symgraph.graph.node import Value, make
from symgraph.graph.op import Cotangent, op
from symgraph.graph.registry import F, function_of
from symgraph.graph.samples import arg, bad, sample

_SILU_END = 1000.0  # sigmoid(-1000) is 0
_GELU_END = 100.0  # the normal distribution beyond 100 deviations is 0
_SQRT_HALF = math.sqrt(0.5)
_SQRT_TWO_PI = math.sqrt(2 * math.pi)
_TANH_SCALE = math.sqrt(2 / math.pi)
_TANH_CUBIC = 0.044715


def _sigmoid(m: Any, x: Any) -> Any:
    e = m.exp(-m.abs(x))
    return m.select(m.ge(x, 0), m.like(1, x), e) / (1 + e)


def _silu(m: Any, x: Any) -> Any:
    z = m.max(x, m.like(-_SILU_END, x))
    return z * _sigmoid(m, z)


def _silu_derivative(m: Any, x: Any, y: Any) -> Any:
    z = m.clip(x, -_SILU_END, _SILU_END)
    s = m.sigmoid(z)
    return s * (1 + z * m.sigmoid(-z))


# fmt: off
relu = scalar_op("relu", lambda m, x: m.max(x, m.like(0, x)), takes="number",
    d=masked(lambda m, x, y: m.gt(y, 0)), latex=r"\operatorname{{relu}} {0}",
    doc="Give max(x, 0); the gradient at 0 is 0.")
sigmoid = scalar_op("sigmoid", _sigmoid, d=lambda m, x, y: y * (1 - y),
    latex=r"\sigma({0})", doc="Give 1 / (1 + exp(-x)).")
softplus = scalar_op("softplus", lambda m, x: m.max(x, m.like(0, x)) + m.log1p(m.exp(-m.abs(x))),
    d=lambda m, x, y: m.sigmoid(x),
    latex=r"\ln(1 + e^{{{0}}})", doc="Give log(1 + exp(x)).")
silu = scalar_op("silu", _silu, d=_silu_derivative,
    latex=r"{0} \, \sigma({0})", doc="Give x * sigmoid(x), also called swish.")
# fmt: on


@op
class LeakyRelu(Elementwise):
    """x where it is positive, slope * x elsewhere."""

    slope: float
    takes = "float"
    latex = r"\operatorname{{leaky\_relu}} {0}"
    samples = (
        sample(lambda x: F.leaky_relu(x), arg(("B", 4))),
        sample(lambda x: F.leaky_relu(x, slope=0.3), arg(("B", 4)), label="slope"),
    )

    def run_body(self, m: Any, *operands: Any) -> Any:
        (x,) = operands
        return m.select(m.gt(x, 0), x, self.slope * x)

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        return m.select(m.gt(xs[0], 0), g, g * self.slope)


@function_of
def leaky_relu(x: Any, slope: float = 0.01) -> Value:
    """Give x where it is positive and slope * x elsewhere; the gradient at 0 is the slope."""
    return make(LeakyRelu(float(slope)), *common("leaky_relu", x, floating=True))


@op
class Elu(Elementwise):
    """x where it is positive, alpha * (exp(x) - 1) elsewhere."""

    alpha: float
    takes = "float"
    latex = r"\operatorname{{elu}} {0}"
    samples = (
        sample(lambda x: F.elu(x), arg(("B", 4))),
        sample(lambda x: F.elu(x, alpha=0.7), arg(("B", 4)), label="alpha"),
    )

    def run_body(self, m: Any, *operands: Any) -> Any:
        (x,) = operands
        return m.select(m.gt(x, 0), x, self.alpha * m.expm1(x))

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        return m.select(m.gt(xs[0], 0), g, g * (y + self.alpha))


@function_of
def elu(x: Any, alpha: float = 1.0) -> Value:
    """Give x where it is positive and alpha * (exp(x) - 1) elsewhere.

    Source: Clevert et al., "Fast and accurate deep network learning by ELUs" (2015), equation 15.
    """
    return make(Elu(float(alpha)), *common("elu", x, floating=True))


@op
class Gelu(Elementwise):
    """x times the normal distribution function of x, exact or by a tanh."""

    approximate: bool
    takes = "float"
    latex = r"\operatorname{{gelu}} {0}"
    samples = (
        sample(lambda x: F.gelu(x), arg(("B", 4))),
        sample(lambda x: F.gelu(x, approximate=True), arg(("B", 4)), label="approximate"),
        sample(lambda x: F.gelu(x, approximate="tanh"), arg((17,)), label="word"),
    )
    bad = (
        bad(lambda x: F.gelu(x, "erf"), arg((3,)), error=ArgumentError, match='"tanh" or "none"'),
    )

    def run_body(self, m: Any, *operands: Any) -> Any:
        z = m.max(operands[0], m.like(-_GELU_END, operands[0]))
        if self.approximate:
            # 1 + tanh(u) is 2 * sigmoid(2 * u), which does not cancel for negative u
            return z * _sigmoid(m, (2 * _TANH_SCALE) * (z + _TANH_CUBIC * z * z * z))
        return 0.5 * z * m.erfc(-_SQRT_HALF * z)

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        z = m.clip(xs[0], -_GELU_END, _GELU_END)
        if self.approximate:
            s = m.sigmoid((2 * _TANH_SCALE) * (z + _TANH_CUBIC * z * z * z))
            slope = (2 * _TANH_SCALE) * (1 + (3 * _TANH_CUBIC) * z * z)
            return g * (s + z * (s * (1 - s)) * slope)
        return g * (0.5 * m.erfc(-_SQRT_HALF * z) + z * m.exp(-0.5 * z * z) / _SQRT_TWO_PI)


@function_of
def gelu(x: Any, approximate: bool | str = False) -> Value:
    """Give x * P(X <= x) for a standard normal X.

    With `approximate`, True or "tanh", by 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    Raises `ArgumentError` for another word than "tanh" or "none".
    Source: Hendrycks and Gimpel, "Gaussian error linear units" (2016), section 2.
    """
    if isinstance(approximate, str) and approximate not in ("tanh", "none"):
        raise ArgumentError(
            f'gelu: approximate must be "tanh" or "none", got "{approximate}".',
            fix='approximate="tanh"',
        )
    by_tanh = approximate != "none" and bool(approximate)
    return make(Gelu(by_tanh), *common("gelu", x, floating=True))
