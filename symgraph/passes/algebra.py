"""Algebra: signs outwards, neutral elements away, powers as products, numbers together.

What holds bit for bit is `exact`, for floats and for integers that wrap around; what holds for real
numbers only, or differs in the sign of a zero, is `real`; what would hide a NaN or an infinity, or
overflow where the expression as written does not, is `fast` and off unless asked for.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np

from symgraph.graph.dtypes import DType, is_float, is_integer, numpy_dtype
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.samples import arg
from symgraph.ops.shape import same_shape
from symgraph.passes.patterns import P, attribute, number_of, wild
from symgraph.passes.rules import Rule, local_rule, rule

_FINFO: Any = ml_dtypes.finfo  # NumPy's own does not know bfloat16

x, y, z = wild("x y z")
A, K = attribute("A K")

POSITIVE = arg((2, 3), low=0.2, high=3.0)
WHOLE = arg((2, 3), "int32", low=-9, high=9)
BOOL = arg((2, 3), "bool")


def ring(name: str, old: Any, new: Any, **options: Any) -> Rule:
    """Make a rule that holds bit for bit, for floats and for integers that wrap around."""
    return rule(name, old, new, sound="exact", dtypes="number", **options)


def logic(name: str, old: Any, new: Any, **options: Any) -> Rule:
    """Make a rule about bools, or about any dtype under a condition."""
    return rule(name, old, new, sound="exact", dtypes="any", **options)


# fmt: off
SIGNS = (
    ring("negative_negative", P.negative(-x), x, before_grad=True),
    ring("add_negative", x + (-y), x - y, before_grad=True),
    ring("subtract_negative", x - (-y), x + y, before_grad=True),
    rule("negative_minus", (-x) - y, -(x + y), dtypes="number", ulps=0, before_grad=True,
         about="The sign of a zero may differ."),
    ring("negative_times", (-x) * y, -(x * y), before_grad=True),
    rule("negative_over", (-x) / y, -(x / y), sound="exact", before_grad=True),
    rule("over_negative", x / (-y), -(x / y), sound="exact", before_grad=True),
    ring("negative_square", P.square(-x), P.square(x), before_grad=True),
    rule("negative_abs", P.abs(-x), P.abs(x), sound="exact"),
    rule("negative_cos", P.cos(-x), P.cos(x), ulps=2, before_grad=True),
    rule("negative_cosh", P.cosh(-x), P.cosh(x), ulps=2, before_grad=True),
    rule("negative_of_difference", -(x - y), y - x, ulps=0, before_grad=True,
         about="The sign of a zero may differ."),
    rule("negative_sum", P.sum(-x, axis=A, keepdims=K), -P.sum(x, axis=A, keepdims=K), ulps=0,
         before_grad=True, example={"A": (1,), "K": False}, about="The sign of a zero may differ."),
    rule("negative_matmul", P.matmul(-x, y), -P.matmul(x, y), ulps=0, before_grad=True,
         example={"y": arg((3, 2))}, about="The sign of a zero may differ."),
    rule("matmul_negative", P.matmul(x, -y), -P.matmul(x, y), ulps=0, before_grad=True,
         example={"y": arg((3, 2))}, about="The sign of a zero may differ."),
)

NEUTRAL = (
    ring("times_one", x * 1, x, before_grad=True),
    rule("over_one", x / 1, x, sound="exact", before_grad=True),
    ring("minus_zero", x - 0, x, before_grad=True),
    rule("add_zero", x + 0, x, dtypes="number", ulps=0, before_grad=True,
         about="-0 + 0 is 0, here it stays -0."),
    rule("add_negative_zero", x + -0.0, x, sound="exact", before_grad=True),
    rule("zero_minus", 0 - x, -x, dtypes="number", ulps=0, before_grad=True,
         about="0 - 0 is 0, here it becomes -0."),
    ring("times_minus_one", x * -1, -x, before_grad=True),
    rule("over_minus_one", x / -1, -x, sound="exact", before_grad=True),
    rule("times_zero_whole", x * 0, lambda F, x: F.zeros_like(x), sound="exact", dtypes="integer",
         example={"x": WHOLE}),
    rule("minus_itself_whole", x - x, lambda F, x: F.zeros_like(x), sound="exact",
         dtypes="integer", example={"x": WHOLE}),
    rule("times_zero", x * 0, lambda F, x: F.zeros_like(x), sound="fast",
         about="Infinity times 0 is NaN."),
    rule("minus_itself", x - x, lambda F, x: F.zeros_like(x), sound="fast",
         about="Infinity minus infinity is NaN."),
    rule("over_itself", x / x, lambda F, x: F.ones_like(x), sound="fast", about="0 / 0 is NaN."),
)

POWERS = (
    ring("times_itself", x * x, P.square(x), before_grad=True),
    rule("one_over", 1 / x, P.reciprocal(x), sound="exact", before_grad=True,
         example={"x": POSITIVE}),
    rule("power_zero", x ** 0, lambda F, x: F.ones_like(x), sound="exact", dtypes="number"),
    ring("power_one", x ** 1, x, before_grad=True),
    rule("power_two", x ** 2, P.square(x), dtypes="number", ulps=1, before_grad=True),
    rule("power_three", x ** 3, P.square(x) * x, dtypes="number", ulps=2, before_grad=True),
    rule("power_four", x ** 4, P.square(P.square(x)), dtypes="number", ulps=3, before_grad=True),
    rule("power_half", x ** 0.5, P.sqrt(x), ulps=1, before_grad=True, example={"x": POSITIVE}),
    rule("power_minus_half", x ** -0.5, P.rsqrt(x), ulps=2, before_grad=True,
         example={"x": POSITIVE}),
    rule("power_minus_one", x ** -1, P.reciprocal(x), ulps=1, before_grad=True,
         example={"x": POSITIVE}),
    rule("power_minus_two", x ** -2, P.square(P.reciprocal(x)), ulps=2, before_grad=True,
         example={"x": POSITIVE}),
    rule("one_over_sqrt", P.reciprocal(P.sqrt(x)), P.rsqrt(x), ulps=2, before_grad=True,
         example={"x": POSITIVE}),
    rule("one_over_one_over", P.reciprocal(P.reciprocal(x)), x, ulps=2, before_grad=True,
         example={"x": POSITIVE}),
    rule("times_one_over", x * P.reciprocal(y), x / y, ulps=1, before_grad=True,
         example={"y": POSITIVE}),
    rule("over_one_over", x / P.reciprocal(y), x * y, ulps=1, before_grad=True,
         example={"y": POSITIVE}),
    rule("over_quotient", x / (y / z), (x * z) / y, sound="fast", about="x * z may overflow.",
         example={"y": POSITIVE, "z": POSITIVE}),
    rule("quotient_over", (x / y) / z, x / (y * z), sound="fast", about="y * z may overflow.",
         example={"y": POSITIVE, "z": POSITIVE}),
    rule("product_over", (x * y) / y, x, sound="fast", about="0 * x / 0 is NaN.",
         example={"y": POSITIVE}),
    rule("sqrt_times_sqrt", P.sqrt(x) * P.sqrt(y), P.sqrt(x * y), sound="fast",
         about="x * y may overflow.", example={"x": POSITIVE, "y": POSITIVE}),
    rule("square_sqrt", P.square(P.sqrt(x)), x, sound="fast", about="The root of -1 is NaN.",
         example={"x": POSITIVE}),
    rule("exp_log", P.exp(P.log(x)), x, sound="fast", about="The logarithm of -1 is NaN.",
         example={"x": POSITIVE}),
    rule("exp_times_exp", P.exp(x) * P.exp(y), P.exp(x + y), sound="fast",
         about="x + y rounds, and the exponential makes much of it."),
    rule("exp_over_exp", P.exp(x) / P.exp(y), P.exp(x - y), sound="fast",
         about="x - y rounds, and the exponential makes much of it."),
)

FACTORS = (
    rule("common_factor", x * y + x * z, x * (y + z), sound="fast", about="y + z may cancel."),
    rule("common_divisor", x / z + y / z, (x + y) / z, sound="fast", about="x + y may overflow.",
         example={"z": POSITIVE}),
)

CHOICES = (
    logic("maximum_same", P.maximum(x, x), x),
    logic("minimum_same", P.minimum(x, x), x),
    rule("maximum_zero", P.maximum(x, 0), P.relu(x), sound="exact", dtypes="number"),
    logic("where_same", P.where(z, x, x), x, example={"z": BOOL}),
    logic("where_not", P.where(P.logical_not(z), x, y), P.where(z, y, x), example={"z": BOOL}),
    logic("where_true", P.where(True, x, y), x),
    logic("where_false", P.where(False, x, y), y),
    logic("not_not", P.logical_not(P.logical_not(x)), x, example={"x": BOOL}),
    logic("and_same", P.logical_and(x, x), x, example={"x": BOOL}),
    logic("or_same", P.logical_or(x, x), x, example={"x": BOOL}),
    logic("and_true", P.logical_and(x, True), x, example={"x": BOOL}),
    logic("or_false", P.logical_or(x, False), x, example={"x": BOOL}),
    logic("and_false", P.logical_and(x, False), lambda F, x: F.zeros_like(x), example={"x": BOOL}),
    logic("or_true", P.logical_or(x, True), lambda F, x: F.ones_like(x), example={"x": BOOL}),
)

TWICE = (
    *(rule(f"{name}_twice", getattr(P, name)(getattr(P, name)(x)), getattr(P, name)(x),
           sound="exact")
      for name in ("abs", "relu", "sign", "floor", "ceil", "trunc", "round")),
    rule("square_abs", P.square(P.abs(x)), P.square(x), sound="exact", before_grad=True),
    rule("abs_square", P.abs(P.square(x)), P.square(x), sound="exact", before_grad=True),
)
# fmt: on


# -- what a pattern cannot say --------------------------------------------------------------------


def _normal(number: float, dtype: DType) -> bool:
    """Tell whether a number is finite, not 0 and not tiny in a dtype."""
    limits = _FINFO(numpy_dtype(dtype))
    return float(limits.tiny) <= abs(number) <= float(limits.max)


def number_and_rest(value: Value) -> tuple[Any, Value] | None:
    """Split `number op rest` or `rest op number`; None where neither operand is a number."""
    first, second = value.inputs
    number = number_of(second)
    if number is not None:
        return number, first
    number = number_of(first)
    return None if number is None else (number, second)


def scale_of(value: Value) -> tuple[float, Value]:
    """Split a value into a factor and the rest: x * 3 is (3, x), x / 2 is (0.5, x), x is (1, x)."""
    name = value.op.name
    if name == "negative":
        return -1.0, value.inputs[0]
    if name == "multiply":
        split = number_and_rest(value)
        return split or (1.0, value)
    if name == "divide":
        number = number_of(value.inputs[1])
        if number:
            return 1.0 / number, value.inputs[0]
    return 1.0, value


@local_rule(
    "multiply", "divide", "negative",
    example=lambda x: (x * 3.0) / 7.0,
    operands={"x": arg((2, 3))},
    more=[
        (lambda x: 2.5 * (x * 3.0), {"x": arg((2, 3))}),
        (lambda x: -(x / 3.0), {"x": arg((2, 3))}),
    ],
    sound="real",
    ulps=2,
    dtypes="float",
    before_grad=True,
)  # fmt: skip
def numbers_multiplied(value: Value) -> Value | None:
    """Multiply two numbers, or a number and a sign, with each other."""
    outer, inner = scale_of(value)
    factor, rest = scale_of(inner)
    if rest is inner or inner is value or inner.op.name == "negative":
        return None
    joined = outer * factor
    if not _normal(joined, value.dtype):
        return None
    return rest * F.constant(joined, value.dtype)


@local_rule(
    "add", "subtract",
    example=lambda x: (x + 3.0) - 7.0,
    operands={"x": arg((2, 3))},
    more=[
        (lambda x: 2.5 - (x - 3.0), {"x": arg((2, 3))}),
        (lambda x: 2.5 + (4.0 - x), {"x": arg((2, 3))}),
    ],
    sound="real",
    ulps=2,
    dtypes="float",
    before_grad=True,
)  # fmt: skip
def numbers_added(value: Value) -> Value | None:
    """Add two numbers with each other, where a float holds their sum exactly."""
    outer = _terms(value)
    inner = None if outer is None else _terms(outer[2])
    if outer is None or inner is None:
        return None
    number, sign, _ = outer
    below, under, rest = inner
    if not (math.isfinite(number) and math.isfinite(below)):
        return None
    # whoever adds a large number and takes it away again means to round
    if max(abs(number), abs(below)) * float(_FINFO(numpy_dtype(value.dtype)).eps) >= 0.25:
        return None
    joined = Fraction(number) + sign * Fraction(below)
    # a sum that rounds would be wrong by that much, however small the result is
    if not _is_float(joined, value.dtype):
        return None
    literal = F.constant(float(joined), value.dtype)
    return rest + literal if sign * under > 0 else literal - rest


def _is_float(number: Fraction, dtype: DType) -> bool:
    """Tell whether a dtype holds a number exactly."""
    kind = numpy_dtype(dtype)
    if abs(number) > Fraction(float(_FINFO(kind).max)):
        return False
    return Fraction(float(kind.type(float(number)))) == number


def _terms(value: Value) -> tuple[float, int, Value] | None:
    """Split number + sign * rest; None where there is no number."""
    if value.op.name not in ("add", "subtract"):
        return None
    first, second = value.inputs
    number = number_of(second)
    if number is not None and number_of(first) is None:
        return (number if value.op.name == "add" else -number), 1, first
    number = number_of(first)
    if number is None or number_of(second) is not None:
        return None
    return number, (1 if value.op.name == "add" else -1), second


@local_rule(
    "sum",
    example=lambda x: F.sum(x * 0.3, axis=1, keepdims=True),
    operands={"x": arg((2, 3))},
    sound="fast",
    dtypes="float",
)
def sum_of_scaled(value: Value) -> Value | None:
    """Multiply the sum by a number instead of each summand: that sum may overflow."""
    (product,) = value.inputs
    split = number_and_rest(product) if product.op.name == "multiply" else None
    # a number that also repeats its operand belongs to the sum
    if split is None or not same_shape(split[1].shape, product.shape):
        return None
    number, x = split
    axis, keepdims = value.op.axis, value.op.keepdims  # type: ignore[attr-defined]
    return F.sum(x, axis=axis, keepdims=keepdims) * F.constant(number, value.dtype)


@local_rule(
    "divide",
    example=lambda x: x / 4.0,
    operands={"x": arg((2, 3))},
    dtypes="float",
    before_grad=True,
    sound="exact",
)
def over_power_of_two(value: Value) -> Value | None:
    """Multiply by 1/4 instead of dividing by 4: both are exact."""
    number = number_of(value.inputs[1])
    if not number or not math.isfinite(number) or math.frexp(abs(number))[0] != 0.5:
        return None
    # both must be normal numbers: 1 / 2**127 is, in float32, the last that is not
    if not (_normal(number, value.dtype) and _normal(1.0 / number, value.dtype)):
        return None
    return value.inputs[0] * F.constant(1.0 / number, value.dtype)


@local_rule(
    "cast",
    example=lambda x: F.cast(F.cast(x, "float64"), "float32"),
    operands={"x": arg((2, 3))},
    more=[(lambda x: F.cast(F.cast(x, "int32"), "float64"), {"x": arg((2, 3), "int8")})],
    before_grad=True,
    sound="exact",
)
def cast_of_cast(value: Value) -> Value | None:
    """Convert once, where the dtype in between holds everything."""
    (between,) = value.inputs
    if between.op.name != "cast":
        return None
    (source,) = between.inputs
    return F.cast(source, value.dtype) if _holds(between.dtype, source.dtype) else None


def _holds(wide: DType, narrow: DType) -> bool:
    """Tell whether a dtype holds every number of another."""
    if narrow == "bool":
        return True
    if wide == "bool" or (is_float(narrow) and not is_float(wide)):
        return False
    big, small = numpy_dtype(wide), numpy_dtype(narrow)
    if is_integer(wide):
        return bool(np.can_cast(small, big))
    bits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
    if is_integer(narrow):
        return small.itemsize * 8 <= bits[wide] and wide != "float16"
    return bits[narrow] <= bits[wide] and (wide, narrow) != ("float16", "bfloat16")


RULES = (
    *SIGNS, *NEUTRAL, *POWERS, *FACTORS, *CHOICES, *TWICE,
    numbers_multiplied, numbers_added, sum_of_scaled, over_power_of_two, cast_of_cast,
)  # fmt: skip
