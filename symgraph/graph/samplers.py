"""Random bits to random numbers, as bodies that run on arrays and trace to scalar code alike.

Only IEEE additions, multiplications, divisions, square roots, integer operations and tables of
numbers are used, each rounded once: no library's log or cos, nothing that may be contracted. So
the bits of a sample agree between NumPy, generated CPU code and a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from symgraph.graph.dtypes import DType, itemsize
from symgraph.graph.scalar import compute_dtype

# The inverse normal distribution as rational functions, after the plan of Wichura's AS 241
# (Applied Statistics 37, 1988), fitted anew: interpolation at Chebyshev points in 60 digits.
# With q = 1/2 - p and t = sqrt(-log p), for a tail probability 0 < p <= 1/2:
#   p >= 0.075:  z = q * C(0.180625 - q*q)        p < 0.075:  z = T(t - 1.6)
# Ascending coefficients, (numerator, denominator). Relative error of the float32 pair: 6e-9 down
# to p = 2**-33; of the float64 pair: 1e-16 down to p = 2**-54.
# fmt: off
CENTRE: dict[DType, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "float32": (
        (3.3871328595, 68.5552801756, 386.87697254, 593.143981088, 117.813902562),
        (1.0, 23.2451681963, 162.019954233, 357.532535637, 168.805627227),
    ),
    "float64": (
        (3.387132872796366623, 148.7565407706315087, 2548.224857302262754, 21627.48116049055936,
         95692.7355126975901, 213550.1624843821322, 214247.380198423803, 74060.81462563902196,
         3907.007639023815841),
        (1.0, 46.92338689522055429, 871.2838940641986121, 8176.878340636071172,
         41169.98166790856536, 109244.705554588169, 140376.827236125449, 72342.69749284587286,
         9398.464517206590849),
    ),
}
TAIL: dict[DType, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "float32": (
        (1.42343711918, 3.19436300748, 2.1154231531, 0.510285551066, 0.0369416581491),
        (1.0, 1.04438380519, 0.319608005837, 0.0261127002717),
    ),
    "float64": (
        (1.423437110749683669, 4.786573712352987902, 6.310393715599262391, 4.384360754550148434,
         1.791055741988680124, 0.4475016115812576979, 0.06758139126453168046,
         0.005744548718481248015, 0.000234306837311499574, 3.184667447991089474e-6),
        (1.0, 2.162951211389745337, 1.924695559522441316, 0.9187678500562576924,
         0.2562587973213734973, 0.04207825198403376269, 0.003809826824064282474,
         0.0001620860070853598295, 2.251869091150548522e-6),
    ),
}
# fmt: on

#          word, bits of the fraction, bias of the exponent, terms of the series
_LAYOUT = {"float32": ("uint32", 23, 127, 5), "float64": ("uint64", 52, 1023, 11)}
_FRACTION_BITS = {"float16": 11, "bfloat16": 8, "float32": 24}


def words_per_element(dtype: DType) -> int:
    """Give how many 32-bit words one random number of a dtype takes: 2 for float64, else 1."""
    return 2 if itemsize(dtype) == 8 else 1


def uniform_body(m: Any, dtype: DType, *words: Any) -> Any:
    """Map words evenly to [0, 1): k / 2**n for n bits of fraction, exact in the dtype.

    n is 53 for float64, 24 for float32, 11 for float16 and 8 for bfloat16.
    """
    if dtype == "float64":
        high, low = (m.cast(word, "uint64") for word in words)
        return m.cast(((high >> 5) << 26) | (low >> 6), "float64") * 2.0**-53
    bits = _FRACTION_BITS[dtype]
    return m.cast(m.cast(words[0] >> (32 - bits), "float32") * 2.0**-bits, dtype)


def bernoulli_body(m: Any, threshold: int, word: Any) -> Any:
    """Give true for `threshold` of the 2**32 words: with probability threshold / 2**32."""
    return m.cast(word, "uint64") < threshold


def normal_body(m: Any, dtype: DType, *words: Any) -> Any:
    """Map words to a standard normal number by the inverse of its distribution.

    One bit is the sign; the others are a tail probability p = (k + 1/2) / 2**n, n = 32 for float32
    (|z| <= 6.4) and n = 53 for float64 (|z| <= 8.3). Half precisions are rounded from float32.
    """
    wide = compute_dtype(dtype)
    negative, tail = tail_body(m, wide, *words)
    size = normal_quantile(m, wide, tail)
    return m.cast(m.select(negative, -size, size), dtype)


def tail_body(m: Any, wide: DType, *words: Any) -> tuple[Any, Any]:
    """Map words to a side and a tail probability (k + 1/2) / 2**n, n = 32 or 53, at most 1/2."""
    side = (words[0] & 1) == 1
    if wide == "float64":
        high, low = (m.cast(word, "uint64") for word in words)
        return side, (m.cast(((high >> 1) << 21) | (low >> 11), wide) + 0.5) * 2.0**-53
    return side, (m.cast(words[0] >> 1, wide) + 0.5) * 2.0**-32


def normal_quantile(m: Any, dtype: DType, tail: Any) -> Any:
    """Give the z >= 0 above which a normal number lies with probability `tail`, 0 < tail <= 1/2."""
    q = 0.5 - tail
    centre = q * ratio(CENTRE[dtype], 0.180625 - q * q)
    outer = ratio(TAIL[dtype], m.sqrt(-natural_log(m, dtype, tail)) - 1.6)
    return m.select(tail < 0.075, outer, centre)


def natural_log(m: Any, dtype: DType, x: Any) -> Any:
    """Give log x of a positive normal number from its bits, to about one unit in the last place.

    x = 2**e * f with f in [sqrt(1/2), sqrt 2), and log f = 2 (s + s**3/3 + s**5/5 + ...) with
    s = (f - 1) / (f + 1), |s| < 0.172.
    """
    word, bits, bias, terms = _LAYOUT[dtype]
    pattern = m.bitcast(x, word)
    exponent = m.cast(pattern >> bits, dtype) - float(bias)
    fraction = m.bitcast((pattern & ((1 << bits) - 1)) | (bias << bits), dtype)
    upper = fraction > math.sqrt(2.0)
    fraction = m.select(upper, fraction * 0.5, fraction)
    exponent = m.select(upper, exponent + 1.0, exponent)
    s = (fraction - 1.0) / (fraction + 1.0)
    series = polynomial([1 / (2 * k + 1) for k in range(terms)], s * s)
    return exponent * math.log(2.0) + (2.0 * s) * series


def ratio(coefficients: tuple[Sequence[float], Sequence[float]], x: Any) -> Any:
    """Give a rational function at x."""
    top, bottom = coefficients
    return polynomial(top, x) / polynomial(bottom, x)


def polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """Give a polynomial with ascending coefficients at x, by Horner's rule."""
    value = coefficients[-1] * x
    for number in coefficients[-2:0:-1]:
        value = (value + number) * x
    return value + coefficients[0]
