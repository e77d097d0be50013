"""Elementwise functions: each a row with the dtypes that the standard lets it take."""

from __future__ import annotations

from typing import Any, Protocol

from symgraph.array_api import array
from symgraph.array_api.array import Array, call, require_array
from symgraph.array_api.kinds import (
    ANY,
    BITS,
    BOOLEAN,
    COMPLEX_FLOAT,
    FLOAT,
    INT,
    NUM,
    REAL,
    REAL_FLOAT,
    is_scalar,
    meet,
    meet_scalar,
    require,
)  # fmt: skip
from symgraph.errors import DTypeError


class Unary(Protocol):
    """An elementwise function of one array."""

    def __call__(self, x: Array, /) -> Array: ...


class Binary(Protocol):
    """An elementwise function of two arrays, one of which may be a Python number."""

    def __call__(self, x1: Any, x2: Any, /) -> Array: ...


def one(name: str, takes: str, doc: str) -> Unary:
    """Make the function of a row."""

    def function(x: Array, /) -> Array:
        return array.unary(name, takes, x)

    _name(function, name, doc)
    return function


def two(name: str, takes: str, doc: str) -> Binary:
    """Make the function of a row with two operands."""

    def function(x1: Any, x2: Any, /) -> Array:
        return array.binary(name, takes, x1, x2)

    _name(function, name, doc)
    return function


def _name(function: Any, name: str, doc: str) -> None:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc


# fmt: off
abs = one("abs", NUM, "Give |x|, a real number.")
acos = one("acos", FLOAT, "Inverse cosine, in radians.")
acosh = one("acosh", FLOAT, "Inverse hyperbolic cosine.")
add = two("add", NUM, "Add: x1 + x2.")
asin = one("asin", FLOAT, "Inverse sine, in radians.")
asinh = one("asinh", FLOAT, "Inverse hyperbolic sine.")
atan = one("atan", FLOAT, "Inverse tangent, in radians.")
atan2 = two("atan2", REAL_FLOAT, "The angle of the point (x2, x1), in radians.")
atanh = one("atanh", FLOAT, "Inverse hyperbolic tangent.")
bitwise_and = two("bitwise_and", BITS, "Combine bits by and.")
bitwise_invert = one("bitwise_invert", BITS, "Turn every bit.")
bitwise_left_shift = two("bitwise_left_shift", INT, "Shift bits left by x2.")
bitwise_or = two("bitwise_or", BITS, "Combine bits by or.")
bitwise_right_shift = two("bitwise_right_shift", INT, "Shift bits right by x2, keeping the sign.")
bitwise_xor = two("bitwise_xor", BITS, "Combine bits by exclusive or.")
ceil = one("ceil", REAL, "Round up.")
copysign = two("copysign", REAL_FLOAT, "Give |x1| with the sign of x2.")
cos = one("cos", FLOAT, "Cosine of radians.")
cosh = one("cosh", FLOAT, "Hyperbolic cosine.")
divide = two("divide", FLOAT, "Divide: x1 / x2.")
equal = two("equal", ANY, "Whether x1 == x2; a NaN equals nothing.")
exp = one("exp", FLOAT, "The exponential function.")
expm1 = one("expm1", FLOAT, "exp(x) - 1, exact near 0.")
floor = one("floor", REAL, "Round down.")
floor_divide = two("floor_divide", REAL, "Divide and round down; integers by 0 give 0.")
greater = two("greater", REAL, "Whether x1 > x2.")
greater_equal = two("greater_equal", REAL, "Whether x1 >= x2.")
hypot = two("hypot", REAL_FLOAT, "sqrt(x1*x1 + x2*x2), without overflow in between.")
imag = one("imag", COMPLEX_FLOAT, "The imaginary part.")
isfinite = one("isfinite", NUM, "Whether x is neither NaN nor infinite.")
isinf = one("isinf", NUM, "Whether x is infinite, of either sign.")
isnan = one("isnan", NUM, "Whether x is NaN.")
less = two("less", REAL, "Whether x1 < x2.")
less_equal = two("less_equal", REAL, "Whether x1 <= x2.")
log = one("log", FLOAT, "The natural logarithm.")
log10 = one("log10", FLOAT, "The logarithm to base 10.")
log1p = one("log1p", FLOAT, "log(1 + x), exact near 0.")
log2 = one("log2", FLOAT, "The logarithm to base 2.")
logaddexp = two("logaddexp", REAL_FLOAT, "log(exp(x1) + exp(x2)), without overflow in between.")
logical_and = two("logical_and", BOOLEAN, "Whether both hold.")
logical_not = one("logical_not", BOOLEAN, "Whether x does not hold.")
logical_or = two("logical_or", BOOLEAN, "Whether one holds.")
logical_xor = two("logical_xor", BOOLEAN, "Whether exactly one holds.")
maximum = two("maximum", REAL, "The larger; a NaN wins.")
minimum = two("minimum", REAL, "The smaller; a NaN wins.")
multiply = two("multiply", NUM, "Multiply: x1 * x2.")
negative = one("negative", NUM, "Negate: -x.")
nextafter = two("nextafter", REAL_FLOAT, "The neighbour of x1 in the direction of x2.")
not_equal = two("not_equal", ANY, "Whether x1 != x2; a NaN differs from everything.")
positive = one("positive", NUM, "x as it is.")
pow = two("pow", NUM, "x1 to the power x2; whole powers below 0 of integers are 0.")
reciprocal = one("reciprocal", FLOAT, "Give 1 / x.")
remainder = two("remainder", REAL, "x1 - x2 * floor(x1 / x2), with the sign of x2.")
round = one("round", NUM, "Round to whole numbers, halves to even ones.")
sign = one("sign", NUM, "-1, 0 or 1 by the sign; x / |x| of complex numbers.")
signbit = one("signbit", REAL_FLOAT, "Whether the sign is minus, of zeros and NaNs too.")
sin = one("sin", FLOAT, "Sine of radians.")
sinh = one("sinh", FLOAT, "Hyperbolic sine.")
sqrt = one("sqrt", FLOAT, "The square root.")
square = one("square", NUM, "Square: x * x.")
subtract = two("subtract", NUM, "Subtract: x1 - x2.")
tan = one("tan", FLOAT, "Tangent of radians.")
tanh = one("tanh", FLOAT, "Hyperbolic tangent.")
trunc = one("trunc", REAL, "Round toward 0.")
# fmt: on


def conj(x: Array, /) -> Array:
    """Conjugate; real numbers stay as they are."""
    return array.unary("conj", NUM, x)


def real(x: Array, /) -> Array:
    """Give the real part."""
    return array.unary("real", NUM, x)


def clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
    """Limit to [min, max]; None leaves a side open. The dtype of `x` stays.

    Raises `DTypeError` for bounds of another kind, or of a wider dtype than `x`.
    """
    require("clip", REAL, require_array("clip", x).dtype)
    for bound in (min, max):
        if bound is None:
            continue
        if is_scalar(bound):
            met = meet_scalar("clip", bound, x.dtype)
        else:
            met = meet("clip", x.dtype, require_array("clip", bound).dtype)
        if met != x.dtype:
            raise DTypeError(
                f"clip: a bound of {met} is wider than the array, which is {x.dtype}.",
                fix=f"convert the bound first: xp.astype(bound, xp.{x.dtype})",
            )
    return call("clip", x, min, max)
