"""Exponentials, logarithms, trigonometric and hyperbolic functions, and the error function.

Each operation is one row: its name, its body, its derivative by the operands and the result `y`.
Functions that the scalar table lacks are written so that nothing overflows or cancels on the way.
"""

from __future__ import annotations

import math
from typing import Any

from symgraph.graph.dtypes import is_complex
from symgraph.graph.elementwise import scalar_op

_LN2 = math.log(2.0)
_LN10 = math.log(10.0)
_TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)
_HUGE = 1e10  # above it, 1 + x**2 is x**2 in every dtype


def _logaddexp(m: Any, x: Any, y: Any) -> Any:
    # where both are the same infinity, x - y would be NaN
    apart = m.max(x, y) + m.log1p(m.exp(-m.abs(x - y)))
    return m.select(m.eq(x, y), x + _LN2, apart)


def _share(m: Any, x: Any, y: Any) -> Any:
    """Give exp(x) / (exp(x) + exp(y)), a half where both are the same infinity."""
    apart = m.select(m.and_(m.eq(x, y), m.isinf(x)), m.like(0, x), x - y)
    return m.sigmoid(apart)


def _odd(m: Any, x: Any, of_size: Any) -> Any:
    """Extend a function of |x| to an odd one, keeping -0.0."""
    return m.select(m.gt(x, 0), of_size, m.select(m.eq(x, 0), x, -of_size))


def _asinh(m: Any, x: Any) -> Any:
    a = m.abs(x)
    near = m.log1p(a + a * (a / (1 + m.sqrt(a * a + 1))))
    return _odd(m, x, m.select(m.gt(a, _HUGE), m.log(a) + _LN2, near))


def _asinh_derivative(m: Any, x: Any, y: Any) -> Any:
    """Give 1 / sqrt(1 + x * x) without squaring anything above 1."""
    if is_complex(x.dtype):
        return m.rsqrt(1 + x * x)
    a = m.abs(x)
    inverse = 1 / m.maximum(a, 1)
    return inverse * m.rsqrt(m.square(m.minimum(a, 1)) + m.square(inverse))


def _acosh(m: Any, x: Any) -> Any:
    t = x - 1
    near = m.log1p(t + m.sqrt(t) * m.sqrt(t + 2))
    return m.select(m.gt(x, _HUGE), m.log(x) + _LN2, near)


def _atanh(m: Any, x: Any) -> Any:
    a = m.abs(x)
    return _odd(m, x, 0.5 * m.log1p(2 * a / (1 - a)))


# fmt: off
exp = scalar_op("exp", lambda m, x: m.exp(x), d=lambda m, x, y: y,
    latex="e^{{{0}}}", complex=True, doc="Give e to the power x.")
expm1 = scalar_op("expm1", lambda m, x: m.expm1(x), d=lambda m, x, y: y + 1,
    latex="e^{{{0}}} - 1", complex=True, doc="Give exp(x) - 1, exact for small x.")
exp2 = scalar_op("exp2", lambda m, x: m.pow(m.like(2.0, x), x), d=lambda m, x, y: _LN2 * y,
    latex="2^{{{0}}}", complex=True, doc="Give 2 to the power x.")
log = scalar_op("log", lambda m, x: m.log(x), d=lambda m, x, y: 1 / x, domain=(0.2, 3.0),
    latex=r"\ln {0}", complex=True, doc="Take the natural logarithm; -inf at 0, NaN below.")
log1p = scalar_op("log1p", lambda m, x: m.log1p(x), d=lambda m, x, y: 1 / (1 + x),
    domain=(-0.8, 3.0), latex=r"\ln(1 + {0})", complex=True,
    doc="Give log(1 + x), exact for small x.")
log2 = scalar_op("log2", lambda m, x: m.log(x) / _LN2, d=lambda m, x, y: 1 / (_LN2 * x),
    domain=(0.2, 3.0), latex=r"\log_2 {0}", complex="log2", doc="Take the logarithm of base 2.")
log10 = scalar_op("log10", lambda m, x: m.log(x) / _LN10, d=lambda m, x, y: 1 / (_LN10 * x),
    domain=(0.2, 3.0), latex=r"\log_{{10}} {0}", complex="log10",
    doc="Take the logarithm of base 10.")
logaddexp = scalar_op("logaddexp", _logaddexp, latex=r"\ln(e^{{{0}}} + e^{{{1}}})",
    d=(lambda m, x, y, out: _share(m, x, y), lambda m, x, y, out: _share(m, y, x)),
    doc="Give log(exp(x) + exp(y)) without overflow.")

sin = scalar_op("sin", lambda m, x: m.sin(x), d=lambda m, x, y: m.cos(x),
    latex=r"\sin {0}", complex=True, doc="Take the sine (radians).")
cos = scalar_op("cos", lambda m, x: m.cos(x), d=lambda m, x, y: -m.sin(x),
    latex=r"\cos {0}", complex=True, doc="Take the cosine (radians).")
tan = scalar_op("tan", lambda m, x: m.tan(x), d=lambda m, x, y: 1 + y * y, domain=(-1.2, 1.2),
    latex=r"\tan {0}", complex=True, doc="Take the tangent (radians).")
asin = scalar_op("asin", lambda m, x: m.asin(x), d=lambda m, x, y: m.rsqrt((1 - x) * (1 + x)),
    domain=(-0.9, 0.9), latex=r"\arcsin {0}", complex=True,
    doc="Invert the sine; NaN outside [-1, 1].")
acos = scalar_op("acos", lambda m, x: m.acos(x), d=lambda m, x, y: -m.rsqrt((1 - x) * (1 + x)),
    domain=(-0.9, 0.9), latex=r"\arccos {0}", complex=True,
    doc="Invert the cosine; NaN outside [-1, 1].")
atan = scalar_op("atan", lambda m, x: m.atan(x), d=lambda m, x, y: 1 / (1 + x * x),
    latex=r"\arctan {0}", complex=True, doc="Invert the tangent, to (-pi/2, pi/2).")
atan2 = scalar_op("atan2", lambda m, y, x: m.atan2(y, x), domain=((0.3, 3.0), (-3.0, 3.0)),
    d=(lambda m, y, x, out: x / (x * x + y * y), lambda m, y, x, out: -y / (x * x + y * y)),
    latex=r"\operatorname{{atan2}}({0}, {1})",
    doc="Give the angle of the point (x, y), y first; the gradient at the origin is NaN.")

sinh = scalar_op("sinh", lambda m, x: m.sinh(x), d=lambda m, x, y: m.cosh(x),
    latex=r"\sinh {0}", complex=True, doc="Take the hyperbolic sine.")
cosh = scalar_op("cosh", lambda m, x: m.cosh(x), d=lambda m, x, y: m.sinh(x),
    latex=r"\cosh {0}", complex=True, doc="Take the hyperbolic cosine.")
tanh = scalar_op("tanh", lambda m, x: m.tanh(x), d=lambda m, x, y: 1 - y * y,
    latex=r"\tanh {0}", complex=True, doc="Take the hyperbolic tangent.")
asinh = scalar_op("asinh", _asinh, d=_asinh_derivative,
    latex=r"\operatorname{{arsinh}} {0}", complex="arcsinh", doc="Invert the hyperbolic sine.")
acosh = scalar_op("acosh", _acosh, d=lambda m, x, y: m.rsqrt(x - 1) * m.rsqrt(x + 1),
    domain=(1.2, 4.0), latex=r"\operatorname{{arcosh}} {0}",
    complex="arccosh", doc="Invert the hyperbolic cosine; NaN below 1.")
atanh = scalar_op("atanh", _atanh, d=lambda m, x, y: 1 / ((1 - x) * (1 + x)),
    domain=(-0.9, 0.9), latex=r"\operatorname{{artanh}} {0}",
    complex="arctanh", doc="Invert the hyperbolic tangent; NaN outside [-1, 1].")

erf = scalar_op("erf", lambda m, x: m.erf(x), latex=r"\operatorname{{erf}} {0}",
    d=lambda m, x, y: _TWO_OVER_SQRT_PI * m.exp(-x * x),
    doc="Give the error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.")
erfc = scalar_op("erfc", lambda m, x: m.erfc(x), latex=r"\operatorname{{erfc}} {0}",
    d=lambda m, x, y: -_TWO_OVER_SQRT_PI * m.exp(-x * x),
    doc="Give 1 - erf(x), exact for large x.")
# fmt: on
