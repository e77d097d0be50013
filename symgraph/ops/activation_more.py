"""Further activation functions: those with corners first, then the smooth ones.

As in `activation.py`, operands are limited to where a vanishing factor is exactly 0 before it is
multiplied by something that grows, so that results are right at infinity too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from symgraph.errors import ArgumentError, ArgumentTypeError, ShapeError
from symgraph.graph.arguments import normal_axis
from symgraph.graph.elementwise import Elementwise, GraphMath, Pull, masked, scalar_op
from symgraph.graph.leaves import cast_to, common
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import Cotangent, op
from symgraph.graph.precision import wide
from symgraph.graph.registry import F, composite, function_of
from symgraph.graph.samples import arg, bad, sample

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946
_END = 1000.0  # exp(-1000) is 0 in every dtype
_SERIES_END = 1.25  # below it x - tanh(x) would cancel
_FRACTIONS = 10  # levels of the continued fraction: 1e-17 at the end


def _hard_sigmoid(m: Any, x: Any) -> Any:
    return m.min(m.max(x + 3.0, m.like(0, x)), m.like(6, x)) / 6.0


def _hard_swish(m: Any, x: Any) -> Any:
    z = m.max(x, m.like(-3, x))
    return z * _hard_sigmoid(m, z)


def _hard_swish_pull(m: Any, g: Any, x: Any, y: Any) -> Any:
    z = m.clip(x, -3.0, 3.0)
    inner = m.select(m.lt(x, -3), m.like(0, g), g * ((2 * z + 3) / 6))
    return m.select(m.gt(x, 3), g, inner)


def _selu(m: Any, x: Any) -> Any:
    return m.select(m.gt(x, 0), _SELU_SCALE * x, (_SELU_SCALE * _SELU_ALPHA) * m.expm1(x))


def _soft_sign(m: Any, x: Any) -> Any:
    return m.select(m.isinf(x), m.sign(x), x / (1 + m.abs(x)))


def _mish(m: Any, x: Any) -> Any:
    """Give x tanh(ln(1 + e^x)) by e = exp(-|x|), which neither overflows nor cancels."""
    z = m.max(x, m.like(-_END, x))
    e = m.exp(-m.abs(z))
    right, left = (1 + 2 * e) / (1 + 2 * e + 2 * e * e), e * (e + 2) / (e * (e + 2) + 2)
    return z * m.select(m.ge(z, 0), right, left)


def _mish_derivative(m: Any, x: Any, y: Any) -> Any:
    z = m.clip(x, -_END, _END)
    t = m.tanh(m.softplus(z))
    return t + z * (m.sigmoid(z) * (1 - t * t))


def _tanh_shrink(m: Any, x: Any) -> Any:
    """Give x - tanh(x); near 0 as x q / (1 + q) with q = x^2 / (3 + x^2 / (5 + ...))."""
    near = m.min(m.abs(x), m.like(_SERIES_END, x))
    square = near * near
    below = m.like(2 * _FRACTIONS + 1, x)
    for odd in range(2 * _FRACTIONS - 1, 1, -2):
        below = odd + square / below
    q = square / below
    return m.select(m.gt(m.abs(x), _SERIES_END), x - m.tanh(x), x * (q / (1 + q)))


# fmt: off
relu6 = scalar_op("relu6", lambda m, x: m.min(m.max(x, m.like(0, x)), m.like(6, x)),
    d=masked(lambda m, x, y: m.and_(m.gt(y, 0), m.lt(y, 6))), domain=(-3.0, 9.0),
    takes="number", latex=r"\min(\max({0}, 0), 6)",
    doc="Give x limited to [0, 6]; the gradient at both ends is 0.")
hardsigmoid = scalar_op("hardsigmoid", _hard_sigmoid, domain=(-4.0, 4.0),
    d=Pull(lambda m, g, x, y: m.select(m.and_(m.gt(x, -3), m.lt(x, 3)), g / 6, m.like(0, g))),
    latex=r"\frac{{\min(\max({0} + 3, 0), 6)}}{{6}}",
    doc="Give (x + 3) / 6 limited to [0, 1]; the gradient at both ends is 0.")
hardswish = scalar_op("hardswish", _hard_swish, d=Pull(_hard_swish_pull), domain=(-4.0, 4.0),
    latex=r"{0} \frac{{\min(\max({0} + 3, 0), 6)}}{{6}}",
    doc="Give x * hardsigmoid(x). Source: Howard et al., MobileNetV3 (2019), section 5.2.")
selu = scalar_op("selu", _selu,
    d=lambda m, x, y: m.select(m.gt(x, 0), m.like(_SELU_SCALE, x), y + _SELU_SCALE * _SELU_ALPHA),
    latex=r"\operatorname{{selu}} {0}",
    doc="""Give s x where x > 0 and s a (exp(x) - 1) elsewhere, s = 1.0507, a = 1.6733.

    Source: Klambauer et al., "Self-normalizing neural networks" (2017), equation 2.
    """)
softsign = scalar_op("softsign", _soft_sign,
    d=lambda m, x, y: m.square(1 / (1 + m.abs(x))),
    latex=r"\frac{{{0}}}{{1 + |{0}|}}", doc="Give x / (1 + |x|), 1 and -1 at infinity.")
mish = scalar_op("mish", _mish, d=_mish_derivative,
    latex=r"{0} \tanh \ln(1 + e^{{{0}}})",
    doc="Give x * tanh(softplus(x)). Source: Misra, \"Mish\" (2019).")
tanhshrink = scalar_op("tanhshrink", _tanh_shrink, d=lambda m, x, y: m.square(m.tanh(x)),
    latex=r"{0} - \tanh {0}", doc="Give x - tanh(x), without cancelling near 0.")
log_sigmoid = scalar_op("log_sigmoid",
    lambda m, x: m.min(x, m.like(0, x)) - m.log1p(m.exp(-m.abs(x))),
    d=lambda m, x, y: m.sigmoid(-x), latex=r"\ln \sigma({0})",
    doc="Give log(sigmoid(x)), right for large negative x too.")
# fmt: on


@op
class Celu(Elementwise):
    """x where it is positive, alpha * (exp(x / alpha) - 1) elsewhere."""

    alpha: float
    takes = "float"
    latex = r"\operatorname{{celu}} {0}"
    samples = (
        sample(lambda x: F.celu(x), arg(("B", 4))),
        sample(lambda x: F.celu(x, alpha=0.7), arg(("B", 4)), label="alpha"),
    )
    bad = (
        bad(lambda x: F.celu(x, alpha=0), arg((3,)), error=ArgumentError, match="alpha must be"),
    )

    def run_body(self, m: Any, *operands: Any) -> Any:
        (x,) = operands
        return m.select(m.gt(x, 0), x, self.alpha * m.expm1(x / self.alpha))

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        return m.select(m.gt(xs[0], 0), g, g * (1 + y / self.alpha))


@function_of
def celu(x: Any, alpha: float = 1.0) -> Value:
    """Give x where it is positive and alpha * (exp(x / alpha) - 1) elsewhere.

    Raises `ArgumentError` unless alpha > 0.
    Source: Barron, "Continuously differentiable exponential linear units" (2017).
    """
    if not alpha > 0 or math.isinf(alpha):
        raise ArgumentError(f"celu: alpha must be > 0, got {alpha}.", fix="alpha=1.0")
    return make(Celu(float(alpha)), *common("celu", x, floating=True))


@composite(
    samples=[
        sample(lambda x: F.swish(x), arg(("B", 4))),
        sample(lambda x: F.swish(x), arg((17,), "int32"), label="int"),
    ],
)
def swish(x: Any) -> Value:
    """Give x * sigmoid(x): another name of `silu`."""
    return F.silu(x)


_WIDE_RANGE = arg(("B", 4), low=-4.0, high=4.0)


@composite(
    samples=[
        sample(lambda x: F.hardtanh(x), _WIDE_RANGE),
        sample(lambda x: F.hardtanh(x, -2, 0.5), arg((3, 0)), label="limits"),
        sample(lambda x: F.hardtanh(x, -1, 2), arg((17,), "int32", low=-5, high=5), label="int"),
    ],
    bad=[
        bad(lambda x: F.hardtanh(x, 1, 1), arg((3,)), error=ArgumentError, match="must be below"),
    ],
)
def hardtanh(x: Any, low: float = -1.0, high: float = 1.0) -> Value:
    """Give x limited to [low, high]; outside and at both ends the gradient is 0.

    Raises `ArgumentError` unless low < high.
    """
    if not low < high:
        raise ArgumentError(
            f"hardtanh: low must be below high, got {low} and {high}.", fix="low=-1, high=1"
        )
    value, least, most = common("hardtanh", x, low, high)
    inner = F.where(F.less(value, most), value, most)
    return F.where(F.greater(value, least), inner, least)


@composite(
    samples=[
        sample(lambda x: F.threshold(x, 0.5, -3.0), _WIDE_RANGE),
        sample(lambda x: F.threshold(x, 2, 0), arg((17,), "int32", low=0, high=5), label="int"),
    ],
    bad=[
        bad(
            lambda x: F.threshold(x, "a", 0.0), arg((3,)),
            error=ArgumentTypeError, match="must be a number",
        )
    ],
)  # fmt: skip
def threshold(x: Any, limit: float, value: float) -> Value:
    """Give x where it is above the limit, and `value` elsewhere, without a gradient."""
    _number("threshold", "limit", limit)
    operand, above, other = common("threshold", x, limit, value)
    return F.where(F.greater(operand, above), operand, other)


@composite(
    samples=[
        sample(lambda x: F.softshrink(x), _WIDE_RANGE),
        sample(lambda x: F.softshrink(x, 1.25), arg((3, 1)), label="limit"),
    ],
    bad=[
        bad(lambda x: F.softshrink(x, -1), arg((3,)), error=ArgumentError, match="must be >= 0"),
    ],
)
def softshrink(x: Any, limit: float = 0.5) -> Value:
    """Move x by `limit` towards 0, and give 0 within: sign(x) max(|x| - limit, 0).

    Raises `ArgumentError` unless limit >= 0.
    """
    number = _not_negative("softshrink", limit)
    (value,) = common("softshrink", x, floating=True)
    near = F.less_equal(F.abs(value), number)
    moved = F.where(F.greater(value, 0), value - number, value + number)
    return F.where(near, F.zeros_like(value), moved)


@composite(
    samples=[
        sample(lambda x: F.hardshrink(x), _WIDE_RANGE),
        sample(lambda x: F.hardshrink(x, 1.25), arg((3, 1)), label="limit"),
    ],
    bad=[
        bad(lambda x: F.hardshrink(x, -1), arg((3,)), error=ArgumentError, match="must be >= 0"),
    ],
)
def hardshrink(x: Any, limit: float = 0.5) -> Value:
    """Give x where |x| > limit, and 0 elsewhere; raises `ArgumentError` unless limit >= 0."""
    number = _not_negative("hardshrink", limit)
    (value,) = common("hardshrink", x, floating=True)
    return F.where(F.less_equal(F.abs(value), number), F.zeros_like(value), value)


@composite(
    samples=[
        sample(lambda x, w: F.prelu(x, w), arg(("B", 3, 2)), arg((3,)), label="channels"),
        sample(lambda x, w: F.prelu(x, w), arg(("B", 4)), arg(()), label="one"),
        sample(lambda x, w: F.prelu(x, w), arg((17,)), arg((1,)), label="vector"),
    ],
    bad=[
        bad(lambda x, w: F.prelu(x, w), arg((2, 3)), arg((4,)), match="cannot broadcast"),
        bad(lambda x, w: F.prelu(x, w), arg((2, 3)), arg((3, 1)), match="at most one axis"),
    ],
)
def prelu(x: Any, slope: Any) -> Value:
    """Give x where it is positive and slope * x elsewhere, with one slope or one for each channel.

    Channels are axis 1. Raises `ShapeError` when the slopes are neither.
    Source: He et al., "Delving deep into rectifiers" (2015), equation 1.
    """
    value, slopes = common("prelu", x, slope, floating=True)
    if slopes.ndim > 1:
        raise ShapeError(
            f"prelu: `{slopes.label}` must have at most one axis, it has {slopes.ndim}.",
            details=operand_lines([value, slopes]),
            fix="give one slope, or one for each channel",
        )
    if slopes.ndim and value.ndim > 1:
        slopes = F.reshape(slopes, (slopes.shape[0],) + (1,) * (value.ndim - 2))
    return F.where(F.greater(value, 0), value, slopes * value)


@composite(
    samples=[
        sample(lambda x: F.glu(x), arg(("B", 4))),
        sample(lambda x: F.glu(x, axis=1), arg((2, 6, "B")), label="axis"),
        sample(lambda x: F.glu(x, axis=0), arg((0, 3)), label="none"),
    ],
    bad=[
        bad(lambda x: F.glu(x), arg((2, 3)), match="glu: .*3 % 2 != 0"),
        bad(lambda x: F.glu(x, axis=2), arg((2, 4)), error=ArgumentError, match="axis 2"),
    ],
)
def glu(x: Any, axis: int = -1) -> Value:
    """Give a * sigmoid(b), a and b the two halves of x along an axis.

    Raises `ShapeError` when its size is odd, `ArgumentError` when it does not exist.
    Source: Dauphin et al., "Language modeling with gated convolutional networks" (2016).
    """
    (value,) = common("glu", x, floating=True)
    place = normal_axis("glu", axis, value.ndim)
    first, second = F.split(wide(value), 2, place)
    return cast_to(first * F.sigmoid(second), value.dtype)


def _number(name: str, what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentTypeError(
            f"{name}: {what} must be a number, got {type(value).__name__}.", fix=f"{what}=0.5"
        )
    return float(value)


def _not_negative(name: str, limit: Any) -> float:
    number = _number(name, "limit", limit)
    if not number >= 0:
        raise ArgumentError(f"{name}: limit must be >= 0, got {limit}.", fix="limit=0.5")
    return number
