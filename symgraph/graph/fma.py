"""a*b + c rounded once, of arrays: what `fma` means, on machines and NumPy versions without it.

Sums and products are split without error (Knuth, Dekker, Veltkamp), and the rest is rounded to odd
before the last addition, so that rounding twice is rounding once (Boldo and Melquiond: "Emulation
of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008). What could
overflow or underflow on the way is computed with fractions.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

Array = Any

SPLIT = 2.0**27 + 1  # Veltkamp's: halves of 26 bits, whose products are exact
LARGEST = 2.0**480  # of a factor, so that splitting and multiplying stay finite
SMALLEST = 2.0**-900  # of a product, so that its error is no subnormal number


def fma(xp: ModuleType, a: Array, b: Array, c: Array) -> Array:
    """Give a*b + c, rounded once, in the dtype of the operands.

    >>> fma(np, np.float32(1 + 2**-20), np.float32(1 - 2**-20), np.float32(-1)).item() == -(2**-40)
    True
    """
    if xp is not np:
        return _device_kernel()(a, b, c)
    a, b, c = np.broadcast_arrays(a, b, c)
    if a.dtype.kind in "iub":
        return a * b + c
    with np.errstate(all="ignore"):
        if a.dtype == np.float64:
            return _double(a, b, c)
        # narrower products are exact in float64
        product, wide = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
        return _odd_sum(product, wide).astype(a.dtype)


@cache
def _device_kernel() -> Any:
    from cupy import ElementwiseKernel  # late: CuPy is optional

    return ElementwiseKernel("T a, T b, T c", "T y", "y = fma(a, b, c)", "symgraph_fma")


def _double(a: Array, b: Array, c: Array) -> Array:
    plain = a * b + c
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    whole = finite & (a != 0) & (b != 0)  # with a factor of 0 the plain sum is exact
    size = np.abs(a * b)
    safe = (np.abs(a) < LARGEST) & (np.abs(b) < LARGEST) & (np.abs(c) < LARGEST * LARGEST)
    easy = whole & safe & (size > SMALLEST)
    high, low = _product(np.where(easy, a, 1), np.where(easy, b, 1))
    upper, tail = _sum(np.where(easy, c, 0), low)
    first, second = _sum(high, upper)
    found = np.where(easy, first + _odd_sum(tail, second), plain)
    # infinite c with a product that overflows: the product is finite
    found = np.where(np.isinf(c) & np.isfinite(a) & np.isfinite(b), c, found)
    for place in zip(*np.nonzero(whole & ~easy)):
        found[place] = _exact(float(a[place]), float(b[place]), float(c[place]))
    return found


def _exact(a: float, b: float, c: float) -> float:
    total = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        found = total.numerator / total.denominator  # correctly rounded, subnormal numbers too
    except OverflowError:
        return float("inf") if total > 0 else float("-inf")
    return -0.0 if total < 0 and found == 0 else found


def _sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Give the rounded sum and its error (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _product(a: Array, b: Array) -> tuple[Array, Array]:
    """Give the rounded product and its error (Dekker)."""
    product = a * b
    (ah, al), (bh, bl) = _split(a), _split(b)
    return product, ((ah * bh - product) + ah * bl + al * bh) + al * bl


def _split(a: Array) -> tuple[Array, Array]:
    scaled = SPLIT * a
    high = scaled - (scaled - a)
    return high, a - high


def _odd_sum(a: Array, b: Array) -> Array:
    """Give the sum rounded to odd: where it is inexact, the last bit is set."""
    total, error = _sum(a, b)
    bits = np.asarray(total).view(np.int64)
    inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    step = np.where((error > 0) == (total > 0), 1, -1)  # bits grow with the distance from zero
    return np.where(inexact, bits + step, bits).view(np.float64)
