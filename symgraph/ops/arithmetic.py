"""Arithmetic, rounding and the operations that choose: sums to powers, maximum, clip, where.

Each operation is one row: its name, its body, its derivatives. Integers meet as the promotion
table says; a whole number divided by zero, and a whole power below zero, is 0 by definition, as no
value is right and every backend must agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.errors import DTypeError, ShapeError
from symgraph.graph.dtypes import (
    DType,
    dtype_name,
    has_gradient,
    is_complex,
    is_float,
    is_integer,
    numpy_dtype,
)
from symgraph.graph.elementwise import (
    Elementwise,
    GraphMath,
    Pull,
    masked,
    require_kind,
    scalar_op,
)
from symgraph.graph.leaves import Constant, as_value, common
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import ZERO, Cotangent, op
from symgraph.graph.registry import F, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType


def _whole(x: Any) -> bool:
    """Whether a body runs on integers; formulas (SymPy symbols have no dtype) are about reals."""
    return is_integer(str(getattr(x, "dtype", "float64")))


def _floor_divide(m: Any, x: Any, y: Any) -> Any:
    if _whole(x):
        return m.idiv(x, y)
    # Not floor(x / y): 1.0 // 0.1 is 9, and 1.0 / 0.1 rounds to 10.
    exact = m.rint((x - m.fmod(x, y)) / y)
    opposite = m.ne(m.lt(x, 0), m.lt(y, 0))
    nothing = (x / y) * 0  # of the quotient's sign, in which zeros differ
    exact = m.select(m.eq(exact, 0), nothing, exact)
    below = m.select(m.and_(opposite, m.ne(x, 0)), m.like(-1, x), nothing)
    far = m.select(m.or_(m.isinf(x), m.isnan(x)), x - x, below)
    by_infinity = m.select(m.isinf(y), far, exact)
    return m.select(m.eq(y, 0), x / y, by_infinity)


def _remainder(m: Any, x: Any, y: Any) -> Any:
    return m.imod(x, y) if _whole(x) else m.fmod(x, y)


def _tie(wins: str) -> tuple[Pull, Pull]:
    """Give the gradients of maximum or minimum: all to the winner, half to each of equals."""

    def first(m: Any, g: Any, x: Any, y: Any, out: Any) -> Any:
        shared = m.select(m.eq(x, y), g * 0.5, m.like(0, g))
        return m.select(getattr(m, wins)(x, y), g, shared)

    return Pull(first), Pull(lambda m, g, x, y, out: first(m, g, y, x, out))


def _modulus(x: Value) -> Value:
    """Give |x| of complex numbers: an operation of its own, which no rule about abs looks at."""
    return F.modulus(x)


def _direction(x: Value) -> Value:
    """Give x / |x| of complex numbers, and 0 at 0."""
    zero = F.equal(x, 0)
    return F.where(zero, 0, x / F.where(zero, 1, F.abs(x)))


# fmt: off
add = scalar_op("add", lambda m, x, y: x + y, d=(1, 1), takes="number",
    latex="{0} + {1}", commutes=True, complex=True, doc="Add: x + y.")
subtract = scalar_op("subtract", lambda m, x, y: x - y, d=(1, -1), takes="number",
    latex="{0} - {1}", complex=True, doc="Subtract: x - y; unsigned integers wrap around.")
multiply = scalar_op("multiply", lambda m, x, y: x * y, takes="number",
    d=(lambda m, x, y, out: y, lambda m, x, y, out: x),
    latex=r"{0} \cdot {1}", commutes=True, complex=True, doc="Multiply: x * y.")
divide = scalar_op("divide", lambda m, x, y: x / y, domain=((-3.0, 3.0), (0.5, 3.0)),
    d=(Pull(lambda m, g, x, y, out: g / y), lambda m, x, y, out: -out / y),
    latex=r"\frac{{{0}}}{{{1}}}", complex=True, doc="Divide: x / y; integers become floats first.")
floor_divide = scalar_op("floor_divide", _floor_divide, d=(0, 0), takes="number",
    domain=((2.1, 7.9), (1.05, 2.0)), latex=r"\lfloor {0} / {1} \rfloor",
    doc="Divide and round down; for integers x // 0 is 0.")
remainder = scalar_op("remainder", _remainder, takes="number",
    d=(1, lambda m, x, y, out: -m.floor_divide(x, y)), domain=((2.1, 2.9), (1.05, 2.0)),
    latex=r"{0} \bmod {1}",
    doc="Give x - y * floor(x / y), with the sign of y; for integers x % 0 is 0.")
negative = scalar_op("negative", lambda m, x: -x, d=-1, takes="number",
    latex="-{0}", complex=True, doc="Negate: -x; unsigned integers wrap around.")
abs = scalar_op("abs", lambda m, x: m.abs(x), d=lambda m, x, y: m.sign(x), takes="number",
    latex=r"\left|{0}\right|", of_complex=_modulus, doc="Give |x|; the gradient at 0 is 0.")
sign = scalar_op("sign", lambda m, x: m.sign(x), d=0, takes="number", of_complex=_direction,
    latex=r"\operatorname{{sign}} {0}", doc="Give -1, 0 or 1 by the sign.")
square = scalar_op("square", lambda m, x: x * x, d=lambda m, x, y: 2 * x, takes="number",
    latex="{0}^2", complex=True, doc="Square: x * x.")
sqrt = scalar_op("sqrt", lambda m, x: m.sqrt(x), d=lambda m, x, y: 0.5 / y, domain=(0.2, 3.0),
    latex=r"\sqrt{{{0}}}", complex=True, doc="Take the square root; NaN below 0.")
rsqrt = scalar_op("rsqrt", lambda m, x: 1 / m.sqrt(x), domain=(0.2, 3.0),
    d=lambda m, x, y: -0.5 * y * y * y,
    latex=r"\frac{{1}}{{\sqrt{{{0}}}}}", complex=True, doc="Give 1 / sqrt(x).")
reciprocal = scalar_op("reciprocal", lambda m, x: 1 / x, d=lambda m, x, y: -y * y,
    domain=(0.4, 3.0), latex=r"\frac{{1}}{{{0}}}", complex=True, doc="Give 1 / x.")
maximum = scalar_op("maximum", lambda m, x, y: m.max(x, y), d=_tie("gt"), takes="number",
    latex=r"\max({0}, {1})",
    commutes=True, doc="Give the larger; a NaN wins, and equals get half of the gradient each.")
minimum = scalar_op("minimum", lambda m, x, y: m.min(x, y), d=_tie("lt"), takes="number",
    latex=r"\min({0}, {1})",
    commutes=True, doc="Give the smaller; a NaN wins, and equals get half of the gradient each.")
floor = scalar_op("floor", lambda m, x: m.floor(x), d=0, integers="keep", domain=(1.1, 1.9),
    latex=r"\lfloor {0} \rfloor", doc="Round down; integers stay.")
ceil = scalar_op("ceil", lambda m, x: m.ceil(x), d=0, integers="keep", domain=(1.1, 1.9),
    latex=r"\lceil {0} \rceil", doc="Round up; integers stay.")
trunc = scalar_op("trunc", lambda m, x: m.trunc(x), d=0, integers="keep", domain=(1.1, 1.9),
    latex=r"\operatorname{{trunc}} {0}", doc="Round towards zero; integers stay.")
round = scalar_op("round", lambda m, x: m.rint(x), d=0, integers="keep", domain=(1.6, 2.4),
    latex=r"\operatorname{{round}} {0}", complex=True,
    doc="Round to the nearest whole, halves to the even one.")
stop_gradient = scalar_op("stop_gradient", lambda m, x: x, takes="any",
    latex="{0}", view=True, complex=True, doc="Give x as it is, and let no gradient through.")
# fmt: on


@op
class Pow(Elementwise):
    """x to the power y."""

    takes_complex = True

    takes = "number"
    latex = "{0}^{{{1}}}"
    domain = ((0.2, 3.0), (-2.0, 3.0))
    samples = (
        sample(lambda x, y: F.pow(x, y), arg(("B", 4), low=0.2), arg(("B", 4))),
        sample(lambda x, y: F.pow(x, y), arg(("B", 1), low=0.2), arg((4,)), label="broadcast"),
        sample(lambda x, y: F.pow(x, y), arg(("B",), "int32"), arg(("B",), "int32", low=0, high=5),
               label="int"),
        *(
            sample(lambda x, n=n: F.pow(x, n), arg((3,), values=(-1.5, 0.0, 2.0)),
                   label=f"constant {n}")
            for n in (0, 1, 2, 3, 4.0)
        ),
        sample(lambda x: F.pow(x, -1.5), arg(("B",), low=0.4), label="constant -1.5"),
        sample(lambda y: F.pow(2, y), arg(("B",)), label="constant base"),
        sample(lambda x, y: F.pow(x, y), arg(("B",), "complex64", low=0.3),
               arg(("B",), "complex64"), label="complex"),
    )  # fmt: skip
    bad = (
        bad(lambda x, y: F.pow(x, y), arg((2, 3)), arg((4,)), match="cannot broadcast .*3 != 4"),
        bad(lambda x: F.pow(x, x), arg((3,), "bool"), error=DTypeError, match="takes numbers"),
    )

    def run_body(self, m: Any, *operands: Any) -> Any:
        return m.pow(*operands)

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        x, exponent = xs
        if number == 1:
            # 0 ** y is constant in y > 0, and log(1) is 0
            return g * y * m.log(m.select(m.eq(x, 0), m.like(1, x), x))
        fixed = scalar_constant(exponent)
        if fixed is None:
            # where the exponent is 0 the derivative is 0, also at x = 0
            lower = m.select(m.eq(exponent, 0), m.like(1, exponent), exponent) - 1
            return g * exponent * m.pow(x, lower)
        if fixed == 0:
            return ZERO
        if fixed == 1:
            return g
        return g * (fixed * (x if fixed == 2 else m.pow(x, fixed - 1)))


def scalar_constant(value: Value) -> float | None:
    """Give the number of a literal with one element, else None."""
    if isinstance(value.op, Constant) and value.op.array.size == 1:
        if is_complex(value.dtype):
            number = complex(value.op.array.reshape(())[()])
            return number.real if not number.imag else None
        return float(value.op.array.reshape(())[()])
    return None


@function_of
def pow(x: Any, y: Any) -> Value:
    """Raise to a power: x ** y.

    NaN for a negative float x and an exponent that is not whole; 0 for whole numbers and a
    negative exponent. The gradient by y is NaN at a negative x, and is never computed for a y that
    is a literal.
    """
    return make(Pow(), *common("pow", x, y))


@op
class Where(Elementwise):
    """x where the condition holds, y elsewhere."""

    takes_complex = True

    latex = r"\begin{{cases}} {1} & {0} \\ {2} & \text{{otherwise}} \end{{cases}}"
    domain = ((0.0, 1.0), (-3.0, 3.0), (-3.0, 3.0))
    samples = (
        sample(lambda c, x, y: F.where(c, x, y), arg(("B", 4), "bool"), arg(("B", 4)),
               arg(("B", 4)), label="float32"),
        sample(lambda c, x, y: F.where(c, x, y), arg(("B", 1), "bool"), arg((4,)),
               arg((2, 1, 1)), label="broadcast"),
        sample(lambda c, x: F.where(c, x, 0), arg((4,), "bool"), arg(("B", 4), "int32"),
               label="int"),
        sample(lambda c, x: F.where(c, x, -1.0), arg((), "bool"), arg(("B",)), label="number"),
        sample(lambda c, x: F.where(c, x, 1j), arg(("B",), "bool"), arg(("B",), "complex64"),
               label="complex"),
    )  # fmt: skip
    bad = (
        bad(lambda c, x: F.where(c, x, x), arg((3,)), arg((3,)), error=DTypeError,
            match="condition.*must be bool, not float32"),
        bad(lambda c, x, y: F.where(c, x, y), arg((3,), "bool"), arg((3,)), arg((4,)),
            error=ShapeError, match="cannot broadcast"),
    )  # fmt: skip

    def check_dtypes(self, types: Sequence[TensorType]) -> None:
        if types[0].dtype != "bool":
            raise DTypeError(
                f"the condition must be bool, not {types[0].dtype}.", fix="compare: x != 0"
            )
        if types[1].dtype != types[2].dtype:
            raise DTypeError(f"cannot choose between {types[1].dtype} and {types[2].dtype}.")

    def run_body(self, m: Any, *operands: Any) -> Any:
        return m.select(*operands)

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        zero = m.like(0, g)
        return m.select(xs[0], g, zero) if number == 1 else m.select(xs[0], zero, g)


@function_of
def where(condition: Any, x: Any, y: Any) -> Value:
    """Give x where the condition holds and y elsewhere; all three broadcast.

    The gradient of the side that was not chosen is exactly 0. Raises `DTypeError` unless the
    condition is bool.
    """
    return make(Where(), as_value(condition), *common("where", x, y))


@op
class Cast(Elementwise):
    """The same numbers in another dtype."""

    takes_complex = True

    dtype: DType
    takes = "any"
    samples = (
        sample(lambda x: F.cast(x, "float64"), arg(("B", 4)), label="up"),
        sample(lambda x: F.cast(x, "float16"), arg(("B", 4)), label="half", gradient=()),
        sample(lambda x: F.cast(x, "bfloat16"), arg(("B", 4)), label="brain", gradient=()),
        sample(lambda x: F.cast(x, "int8"), arg(("B", 4)), label="to int"),
        sample(lambda x: F.cast(x, "float32"), arg(("B", 4), "int32"), label="from int"),
        sample(lambda x: F.cast(x, "uint8"), arg(("B", 4), "int64", low=0), label="between ints"),
        sample(lambda x: F.cast(x, "bool"), arg((3,), values=(0.0, -0.5, 2.0)), label="to bool"),
        sample(lambda x: F.cast(x, "float32"), arg(("B",), "bool"), label="from bool"),
        sample(lambda x: F.cast(x, "complex128"), arg(("B",)), label="to complex"),
        sample(lambda x: F.cast(x, "complex128"), arg((2,), "complex64"), label="complex"),
    )
    bad = (
        bad(lambda x: F.cast(x, "complex256"), arg((3,)), error=DTypeError,
            match="complex256 is not supported"),
        bad(lambda x: F.cast(x, "float64"), arg((3,), "complex64"), error=DTypeError,
            match="cast: no complex64 becomes float64"),
    )  # fmt: skip

    def check_dtypes(self, types: Sequence[TensorType]) -> None:
        if is_complex(types[0].dtype) and not is_complex(self.dtype):
            raise DTypeError(
                f"no {types[0].dtype} becomes {self.dtype}: which part is meant?",
                fix="take real(x), imag(x) or abs(x)",
            )

    def result_dtype(self, dtypes: Any) -> DType:
        return self.dtype

    def run_body(self, m: Any, *operands: Any) -> Any:
        return m.cast(operands[0], self.dtype)

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        if not has_gradient(self.dtype):
            return None
        return cast(g if is_complex(xs[0].dtype) else F.real(g), xs[0].dtype)


@function_of
def cast(x: Any, dtype: Any) -> Value:
    """Convert to another dtype.

    Real numbers become complex ones, but not the other way: that is a `DTypeError`. Floats lose
    their fraction towards zero on the way to integers; NaN, infinities and what does
    not fit give a number that depends on the machine. Everything but 0 becomes True.
    """
    value = as_value(x)
    target = _dtype_of(value, dtype)
    return value if value.dtype == target else make(Cast(target), value)


def _dtype_of(value: Value, dtype: Any) -> DType:
    try:
        return dtype_name(dtype)
    except DTypeError as problem:
        raise DTypeError(
            f"cast: {problem.message}", details=operand_lines([value]), fix=problem.fix
        ) from None


@op
class Clip(Elementwise):
    """x limited to [low, high]."""

    takes = "number"
    latex = r"\operatorname{{clip}}({0}, {1}, {2})"
    domain = ((-3.0, 3.0), (-2.0, -1.0), (1.0, 2.0))
    derivatives = (
        masked(lambda m, x, low, high, y: m.and_(m.ge(x, low), m.le(x, high))),
        masked(lambda m, x, low, high, y: m.and_(m.lt(x, low), m.le(low, high))),
        masked(lambda m, x, low, high, y: m.or_(m.gt(x, high), m.gt(low, high))),
    )
    samples = (
        sample(lambda x: F.clip(x, -1, 1.5), arg(("B", 4), low=-3.0, high=3.0), label="numbers"),
        sample(lambda x: F.clip(x, low=0), arg(("B", 4)), label="low"),
        sample(lambda x: F.clip(x, max=0.5), arg(("B", 4)), label="high"),
        sample(lambda x: F.clip(x, -1, 1), arg(("B",), "int32", low=-5, high=5), label="int"),
        sample(lambda x: F.clip(x, high=1), arg(("B",), "uint8", high=5), label="uint8"),
        sample(lambda x, low, high: F.clip(x, low, high), arg(("B", 4), low=-3.0, high=3.0),
               arg((4,), low=-2.0, high=-1.0), arg(("B", 1), low=1.0), label="tensors"),
        sample(lambda x, low, high: F.clip(x, low, high), arg((9,), low=-3.0, high=3.0),
               arg((9,)), arg((9,)), label="crossed"),
    )  # fmt: skip
    bad = (
        bad(lambda x: F.clip(x, x), arg((3,), "bool"), error=DTypeError, match="takes numbers"),
        bad(lambda x, low: F.clip(x, low), arg((2, 3)), arg((4,)), match="cannot broadcast"),
    )

    def run_body(self, m: Any, *operands: Any) -> Any:
        x, low, high = operands
        return m.min(m.max(x, low), high)


@function_of
def clip(x: Any, low: Any = None, high: Any = None, *, min: Any = None, max: Any = None) -> Value:
    """Limit to [low, high]: min(max(x, low), high); None leaves a side open.

    The array API calls the bounds `min` and `max`. The gradient of x is 1 inside and on the bounds;
    outside it goes to the bound.
    """
    low, high = (low if min is None else min), (high if max is None else max)
    given = [each for each in (low, high) if each is not None]
    met = common("clip", x, *given)
    if not given:
        return met[0]
    least, most = _extremes(met[0].dtype)
    return make(
        Clip(),
        met[0],
        as_value(least, met[0].dtype) if low is None else met[1],
        as_value(most, met[0].dtype) if high is None else met[-1],
    )


def _extremes(dtype: DType) -> tuple[Any, Any]:
    if is_float(dtype):
        return -math.inf, math.inf
    if dtype == "bool":
        return False, True
    limits = np.iinfo(numpy_dtype(dtype))
    return int(limits.min), int(limits.max)


@composite(
    samples=(
        sample(lambda x: F.positive(x), arg(("B", 4))),
        sample(lambda x: F.positive(x), arg(("B", 4), "int32"), label="int"),
        sample(lambda x: F.positive(x), arg(("B",), "complex64"), label="complex"),
    ),
    bad=(bad(lambda x: F.positive(x), arg((2,), "bool"), error=DTypeError, match="takes numbers"),),
)
def positive(x: Any) -> Value:
    """Give x as it is; raises `DTypeError` for bools, as NumPy does."""
    value = as_value(x)
    try:
        require_kind("any" if is_complex(value.dtype) else "number", value.dtype)
    except DTypeError as problem:
        raise DTypeError(
            f"positive: {problem.message}", details=operand_lines([value]), fix=problem.fix
        ) from None
    return value
