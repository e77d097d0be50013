"""Functions of floats that look at signs and neighbours, and a few that NumPy users expect.

Each scalar operation is one row: its name, its body, its derivatives.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import broadcast_shapes, collect_guards
from symgraph.errors import DTypeError
from symgraph.graph.dtypes import is_float, is_integer
from symgraph.graph.elementwise import Pull, fit, masked, scalar_op
from symgraph.graph.index import Compute, axes, broadcast_load
from symgraph.graph.index import m as trace
from symgraph.graph.leaves import common
from symgraph.graph.node import Value, make
from symgraph.graph.op import ZERO, Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, compute_dtype
from symgraph.graph.types import TensorType, Type

_BITS = {"float32": "int32", "float64": "int64"}


def _negative(m: Any, x: Any) -> Any:
    """Whether the sign bit is set, also of -0.0 and of a NaN; symbols are just below zero."""
    dtype = str(getattr(x, "dtype", ""))
    return m.lt(m.bitcast(x, _BITS[dtype]), 0) if dtype in _BITS else m.lt(x, 0)


def _copysign(m: Any, x: Any, y: Any) -> Any:
    size = m.abs(x)
    return m.select(_negative(m, y), -size, size)


def _same_sign(m: Any, x: Any, y: Any, out: Any) -> Any:
    return m.select(m.eq(m.signbit(x), m.signbit(out)), m.like(1, x), m.like(-1, x))


def _hypot(m: Any, x: Any, y: Any) -> Any:
    # the larger one is taken out, so that no square overflows or vanishes
    a, b = m.abs(x), m.abs(y)
    large, small = m.max(a, b), m.min(a, b)
    zero = m.eq(large, 0)
    ratio = small / m.select(zero, m.like(1, large), large)
    infinite = m.or_(m.isinf(x), m.isinf(y))
    return m.select(infinite, m.like(math.inf, large), large * m.sqrt(1 + ratio * ratio))


def _cosine(m: Any, x: Any, out: Any) -> Any:
    """Give x / hypot(x, y), 0 at the origin."""
    return m.select(m.eq(out, 0), m.like(0, x), x / out)


def _fmod(m: Any, x: Any, y: Any) -> Any:
    if is_integer(str(getattr(x, "dtype", ""))):
        floored = m.imod(x, y)
        other = m.and_(m.ne(floored, 0), m.ne(m.lt(floored, 0), m.lt(x, 0)))
        return m.select(other, floored - y, floored)
    size = m.fmod(m.abs(x), m.abs(y))
    return m.select(m.lt(x, 0), -size, size)


def _heaviside(m: Any, x: Any, at_zero: Any) -> Any:
    step = m.select(m.lt(x, 0), m.like(0, x), m.like(1, x))
    return m.select(m.isnan(x), x, m.select(m.eq(x, 0), at_zero, step))


# fmt: off
signbit = scalar_op("signbit", _negative, result="bool",
    latex=r"\operatorname{{signbit}} {0}", doc="Whether the sign bit is set, also in -0.0 and NaN.")
copysign = scalar_op("copysign", _copysign, d=(_same_sign, 0), domain=((0.5, 3.0), (0.5, 3.0)),
    latex=r"\operatorname{{copysign}}({0}, {1})", doc="Give the size of x with the sign of y.")
hypot = scalar_op("hypot", _hypot, latex=r"\sqrt{{{0}^2 + {1}^2}}",
    d=(lambda m, x, y, out: _cosine(m, x, out), lambda m, x, y, out: _cosine(m, y, out)),
    domain=((0.5, 3.0), (-3.0, -0.5)),
    doc="Give sqrt(x^2 + y^2) without overflow; the gradient at the origin is 0.")
fmod = scalar_op("fmod", _fmod, takes="number", domain=((2.1, 2.9), (1.05, 2.0)),
    d=(1, lambda m, x, y, out: -m.trunc(x / y)), latex=r"\operatorname{{fmod}}({0}, {1})",
    doc="Give x - y * trunc(x / y), with the sign of x; for integers fmod(x, 0) is 0.")
deg2rad = scalar_op("deg2rad", lambda m, x: x * (math.pi / 180),
    d=lambda m, x, y: m.like(math.pi / 180, x),
    latex=r"\frac{{\pi}}{{180}} {0}", doc="Convert degrees to radians.")
rad2deg = scalar_op("rad2deg", lambda m, x: x * (180 / math.pi),
    d=lambda m, x, y: m.like(180 / math.pi, x),
    latex=r"\frac{{180}}{{\pi}} {0}", doc="Convert radians to degrees.")
heaviside = scalar_op("heaviside", _heaviside, domain=((0.5, 3.0), (0.0, 1.0)),
    d=(0, masked(lambda m, x, h, out: m.eq(x, 0))), latex=r"\Theta({0}, {1})",
    doc="Give 0 below 0, 1 above, and y at 0.")
lerp = scalar_op("lerp", lambda m, x, y, t: x + t * (y - x),
    d=(Pull(lambda m, g, x, y, t, out: g * (1 - t)), lambda m, x, y, t, out: t,
       lambda m, x, y, t, out: y - x),
    domain=((-3.0, 3.0), (-3.0, 3.0), (0.0, 1.0)), latex=r"{0} + {2} ({1} - {0})",
    doc="Go from x to y by a share: x + t * (y - x).")
# fmt: on


@op
class NextAfter(Op):
    """The next number after x in the direction of y, in the dtype of both."""

    name = "nextafter"
    samples = (
        sample(lambda x, y: F.nextafter(x, y), arg(("B", 4)), arg(("B", 4))),
        sample(lambda x, y: F.nextafter(x, y), arg((4,), "float16"), arg((2, 1), "float16")),
        sample(lambda x, y: F.nextafter(x, y), arg((3,), "bfloat16"), arg((), "bfloat16")),
    )
    bad = (bad(lambda x, y: F.nextafter(x, y), arg((2, 3)), arg((4,)), match="cannot broadcast"),)

    def infer(self, x: TensorType, y: TensorType) -> Type:
        if x.dtype != y.dtype or not is_float(x.dtype):
            raise DTypeError(f"needs floats of one dtype, not {x.dtype} and {y.dtype}.")
        return x.with_shape(broadcast_shapes(x.shape, y.shape))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        x, y = arrays
        with np.errstate(all="ignore"):
            moved = xp.where(x == y, y, xp.nextafter(x, y))  # of equal zeros the second's sign
        return xp.asarray(moved).astype(x.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return fit(F, g, xs[0]), ZERO

    def expand(self, F: Functions, *xs: Value) -> Compute:
        with collect_guards():  # they belong to the node
            out = axes(broadcast_shapes(*(x.shape for x in xs)))
        loads = [broadcast_load(number, x.type, out) for number, x in enumerate(xs)]
        return Compute(out, self.step(*loads))

    def step(self, first: Scalar, second: Scalar) -> Scalar:
        """Count the bits up or down; a half precision has some of the bits of float32."""
        result = first.dtype
        wide = compute_dtype(result)
        x, y = (trace.cast(one, wide) for one in (first, second))
        unit = {"bfloat16": 1 << 16, "float16": 1 << 13}.get(result, 1)
        bits = trace.bitcast(x, _BITS[wide])
        away = trace.eq(y > x, x > 0)
        moved = trace.bitcast(trace.select(away, bits + unit, bits - unit), wide)
        tiny = trace.bitcast(trace.like(unit, bits), wide)
        if result == "float16":
            # its range is smaller: there are numbers below 2^-14 that float32 spaces otherwise
            tiny = trace.like(2.0**-24, x)
            size, edge = trace.abs(x), 2.0**-14
            small = (size < edge) | (trace.eq(size, edge) & ~away)
            largest = trace.select(x > 0, trace.like(65504.0, x), trace.like(-65504.0, x))
            moved = trace.select(trace.isinf(x), largest, moved)
            near = trace.select(y > x, x + tiny, x - tiny)
            near = trace.select(trace.eq(near, 0), x * 0, near)  # a zero keeps the sign
            moved = trace.select(small, near, moved)
        from_zero = trace.select(y > 0, tiny, -tiny)
        moved = trace.select(trace.eq(x, 0), from_zero, moved)
        stays = trace.isnan(x) | trace.isnan(y)
        found = trace.select(stays, x + y, trace.select(trace.eq(x, y), y, moved))
        return trace.cast(found, result)


@function_of
def nextafter(x: Any, y: Any) -> Value:
    """Give the next number after x in the direction of y; y itself where both are equal."""
    return make(NextAfter(), *common("nextafter", x, y, floating=True))


@composite(
    samples=[
        sample(
            lambda x, y: F.isclose(x, y), arg(("B", 4), values=(1, 2, math.inf, math.nan)),
            arg((4,), values=(1.000001, 2.1, math.inf, math.nan)), label="plain",
        ),
        sample(
            lambda x: F.isclose(x, [1.0, -math.inf, math.nan], rtol=0.1, equal_nan=True),
            arg((3,), values=(1.05, math.inf, math.nan)), label="nan",
        ),
        sample(lambda x, y: F.isclose(x, y), arg((3,), "int32"), arg((3,), "int32"), label="whole"),
    ],
    bad=[bad(lambda x, y: F.isclose(x, y), arg((2,)), arg((3,)), match="cannot broadcast")],
)  # fmt: skip
def isclose(
    x: Any, y: Any, *, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Value:
    """Tell where x is about y: |x - y| <= atol + rtol * |y|; infinities only if they are equal."""
    first, second = common("isclose", x, y, floating=True)
    near = F.abs(first - second) <= atol + rtol * F.abs(second)
    found = F.equal(first, second) | (near & F.isfinite(first) & F.isfinite(second))
    return found | (F.isnan(first) & F.isnan(second)) if equal_nan else found


@composite(
    samples=[
        sample(lambda x, y: F.allclose(x, y), arg(("B", 2)), arg((2,)), label="differ"),
        sample(lambda x: F.allclose(x, x + 1e-7), arg(("B",), low=1.0), label="equal"),
    ],
    bad=[bad(lambda x, y: F.allclose(x, y), arg((2,)), arg((3,)), match="cannot broadcast")],
)
def allclose(
    x: Any, y: Any, *, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Value:
    """Tell whether all of x is about y, as `isclose` says."""
    return F.all(F.isclose(x, y, rtol=rtol, atol=atol, equal_nan=equal_nan))
