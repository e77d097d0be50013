"""What the bodies are made of: polynomials, clamps, signs, and the two halves of a float.

Coefficients in this folder were computed by Remez exchanges on 300 or more Chebyshev points with 50
digits (mpmath), minimising the error relative to the function. They are rounded to the dtype one
after another, from the lowest power, each time fitting the others anew, so that their rounding
costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.frozen import frozen
from symgraph.graph.dtypes import DType
from symgraph.graph.scalar import Scalar, Trace, const

m = Trace()


@frozen
class Layout:
    """How a float dtype lies in its bits."""

    bits: DType  # unsigned integers of the same width
    whole: DType  # signed ones
    mantissa: int  # bits after the point
    bias: int  # of the exponent

    @property
    def sign(self) -> int:
        """The bit of the sign."""
        return 1 << (63 if self.bits == "uint64" else 31)

    @property
    def magic(self) -> float:
        """A number whose neighbours are 1 apart: adding it rounds to whole numbers."""
        return 1.5 * 2.0**self.mantissa


LAYOUTS = {
    "float32": Layout("uint32", "int32", 23, 127),
    "float64": Layout("uint64", "int64", 52, 1023),
}


def horner(x: Scalar, coefficients: Sequence[float]) -> Scalar:
    """Give the polynomial in x whose coefficients are listed from the constant one up."""
    value = const(coefficients[-1], x.dtype)
    for coefficient in reversed(coefficients[:-1]):
        value = m.fma(value, x, const(coefficient, x.dtype))
    return value


def at_most(x: Scalar, bound: float) -> Scalar:
    """Give min(x, bound), and a NaN as it is: one instruction, which `min` is not."""
    limit = const(bound, x.dtype)
    return m.select(limit < x, limit, x)


def at_least(x: Scalar, bound: float) -> Scalar:
    """Give max(x, bound), and a NaN as it is."""
    limit = const(bound, x.dtype)
    return m.select(x < limit, limit, x)


def sign_of(x: Scalar) -> Scalar:
    """Give the sign of a float, as bits."""
    layout = LAYOUTS[x.dtype]
    return m.bitand(m.bitcast(x, layout.bits), const(layout.sign, layout.bits))


def flip(value: Scalar, sign: Scalar) -> Scalar:
    """Give a float with its sign changed where the sign bit is set."""
    bits = m.bitxor(m.bitcast(value, sign.dtype), sign)
    return m.bitcast(bits, value.dtype)


def two_sum(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """Give the rounded sum and its error (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def fast_two_sum(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """Give the rounded sum and its error where |a| >= |b| (Dekker)."""
    total = a + b
    return total, b - (total - a)


def two_product(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """Give the rounded product and its error."""
    product = a * b
    return product, m.fma(a, b, -product)
