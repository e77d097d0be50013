"""Laws of random numbers beyond the even and the normal one, as bodies of exact operations.

As in `samplers.py` only IEEE additions, multiplications, divisions, square roots, roundings,
integers and tables are used, so that the bits agree on every backend. Continuous laws invert their
distribution; gamma and Poisson numbers are accepted or rejected, attempt by attempt, by
bodies of this file, which tell with a negative result that an attempt is rejected.
"""

from __future__ import annotations

import math
from typing import Any

from symgraph.graph.dtypes import DType
from symgraph.graph.samplers import natural_log, polynomial, tail_body
from symgraph.graph.scalar import compute_dtype

LOW = 0xFFFFFFFF
#          word, bits of the fraction, bias of the exponent, terms of the series, its ends
_EXP = {
    "float32": ("uint32", 23, 127, 8, -87.0, 88.0),
    "float64": ("uint64", 52, 1023, 14, -708.0, 709.0),
}
# log 2 in two parts: the first has few bits, so that its multiples are exact
_LN2 = {
    "float32": (0.693359375, -2.12194440054690583e-4),
    "float64": (0.693147180369123816490, 1.90821492927058770002e-10),
}
_LOG1P_TERMS = {"float32": 5, "float64": 10}

# tan(pi x) / x for 0 <= x <= 1/4 as a polynomial in y = 32 x^2 - 1, interpolated at Chebyshev
# points in 60 digits; relative errors 3e-9 and 1e-17
# fmt: off
TANGENT: dict[DType, tuple[float, ...]] = {
    "float32": (
        3.510105899, 0.4205413612, 0.05945318791, 0.008485579449, 0.001211459523, 0.0001730309651,
        2.577620185e-5, 3.701295767e-6,
    ),
    "float64": (
        3.510105903116792355, 0.4205413638613609738, 0.05945305610247698528,
        0.008485544010844591941, 0.001212115405734713155, 0.0001731578803435873688,
        0.00002473681958699049598, 3.533831086938465942e-6, 5.048327619572052652e-7,
        7.21189511944536899e-8, 1.030323296386429332e-8, 1.471909722290361266e-9,
        2.096515933518346022e-10, 2.993736169333702646e-11, 4.659057721149212968e-12,
        6.690105886769216189e-13,
    ),
}
# fmt: on


def natural_exp(m: Any, dtype: DType, x: Any) -> Any:
    """Give exp(x) = 2**n exp(r), |r| <= log(2) / 2, to about two units in the last place.

    0 below the logarithm of the least normal number; the largest exponent counts above.
    """
    word, bits, bias, terms, low, high = _EXP[dtype]
    inside = m.min(m.max(x, m.like(low, x)), m.like(high, x))
    n = m.rint(inside * (1 / math.log(2.0)))
    first, second = _LN2[dtype]
    r = (inside - n * first) - n * second
    series = polynomial([1 / math.factorial(k) for k in range(terms)], r)
    power = m.bitcast(m.cast(m.cast(n, "int64") + bias, word) << bits, dtype)
    return m.select(x < low, m.like(0, x), m.select(m.isnan(x), x, series * power))


def log_sides(m: Any, dtype: DType, tail: Any) -> tuple[Any, Any]:
    """Give log(tail) and log(1 - tail), 0 < tail <= 1/2; the second does not cancel."""
    s = -tail / (2.0 - tail)
    terms = [1 / (2 * k + 1) for k in range(_LOG1P_TERMS[dtype])]
    near = (2.0 * s) * polynomial(terms, s * s)
    other = m.select(tail < 0.25, near, natural_log(m, dtype, 1.0 - tail))
    return natural_log(m, dtype, tail), other


def law_body(m: Any, law: str, dtype: DType, *words: Any) -> Any:
    """Map words to a number of a standard law, by the inverse of its distribution at p.

    exponential -log(1 - p), gumbel -log(-log p), logistic log p - log(1 - p), laplace and cauchy by
    their tails. p is a tail (k + 1/2) / 2**n or 1 minus one, as for `normal_body`.
    """
    wide = compute_dtype(dtype)
    upper, tail = tail_body(m, wide, *words)
    if law == "cauchy":
        near = tail < 0.25
        x = m.select(near, tail, 0.5 - tail)
        tangent = x * polynomial(TANGENT[wide], 32.0 * (x * x) - 1.0)
        size = m.select(near, 1.0 / m.select(near, tangent, m.like(1, tangent)), tangent)
        return m.cast(m.select(upper, size, -size), dtype)
    if law == "laplace":
        size = -natural_log(m, wide, 2.0 * tail)
        return m.cast(m.select(upper, size, -size), dtype)
    low, high = log_sides(m, wide, tail)
    if law == "logistic":
        size = high - low
        return m.cast(m.select(upper, size, -size), dtype)
    if law == "exponential":
        return m.cast(m.select(upper, -low, -high), dtype)
    return m.cast(-natural_log(m, wide, m.select(upper, -high, -low)), dtype)


def integer_body(m: Any, low: int, count: int, high_word: Any, low_word: Any) -> Any:
    """Map two words to low + floor(w count / 2**64), w the 64 bits of both, as uint64.

    No number is more likely than another by more than count / 2**64 of its probability.
    """
    first, second = m.cast(high_word, "uint64"), m.cast(low_word, "uint64")
    if count == 1 << 64:
        chosen = (first << 32) | second
    else:
        upper, lower = count >> 32, count & LOW
        middle = first * lower + ((second * lower) >> 32)
        other = second * upper + (middle & LOW)
        chosen = first * upper + (middle >> 32) + (other >> 32)
    return chosen + (low % (1 << 64))


def gamma_attempt(m: Any, dtype: DType, shape: Any, normal: Any, exponential: Any) -> Any:
    """Give a number of the gamma law of max(shape, shape + 1 where it is below 1), or -1.

    Marsaglia, Tsang: "A simple method for generating gamma variables" (2000), section 2: for
    shape >= 1 an attempt fails with a probability below 0.05. log u is minus an exponential number.
    """
    a = m.select(shape < 1.0, shape + 1.0, shape)
    d = a - 1.0 / 3.0
    t = 1.0 + normal / m.sqrt(9.0 * d)
    good = t > 0.0
    v = m.select(good, t * t * t, m.like(1, t))
    bound = 0.5 * (normal * normal) + d * ((1.0 - v) + natural_log(m, dtype, v))
    return m.select(good & (-exponential < bound), d * v, m.like(-1, d))


_SMALL_ENDS = 52  # P(X >= 52) < 1e-19 for a mean below 10
SMALL_MEAN = 10.0


def poisson_small(m: Any, mean: Any, uniform: Any) -> Any:
    """Give the Poisson number whose distribution function passes an even number; mean < 10."""
    inside = m.min(mean, m.like(SMALL_MEAN, mean))
    term = natural_exp(m, "float64", -inside)
    total, count = term, m.like(0, mean)
    for k in range(1, _SMALL_ENDS):
        count = m.select(uniform >= total, m.like(k, mean), count)
        term = term * inside / float(k)
        total = total + term
    return count


def poisson_attempt(m: Any, mean: Any, first: Any, second: Any) -> Any:
    """Give a Poisson number from two even numbers, or -1: mean >= 10.

    Hormann: "The transformed rejection method for generating Poisson random variables" (1993),
    algorithm PTRS; an attempt fails with a probability below 0.25.
    """
    lam = m.max(mean, m.like(SMALL_MEAN, mean))
    b = 0.931 + 2.53 * m.sqrt(lam)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    limit = 0.9277 - 3.6224 / (b - 2.0)
    u = first - 0.5
    us = 0.5 - m.abs(u)
    us = m.max(us, m.like(1e-16, us))
    k = m.floor((2.0 * a / us + b) * u + lam + 0.43)
    quick = (us >= 0.07) & (second <= limit)
    wrong = (k < 0.0) | ((us < 0.013) & (second > us))
    v = m.max(second, m.like(1e-300, second))
    left = natural_log(m, "float64", v * inverse_alpha / (a / (us * us) + b))
    right = k * natural_log(m, "float64", lam) - lam - _log_factorial(m, m.max(k, m.like(0, k)))
    return m.select(quick | (~wrong & (left <= right)), k, m.like(-1, k))


def _log_factorial(m: Any, k: Any) -> Any:
    """Give log k! for whole k: sums of logarithms up to 9, Stirling's series above."""
    small = m.like(0, k)
    for number in range(2, 10):
        small = small + m.select(k >= float(number), m.like(math.log(number), k), m.like(0, k))
    z = m.max(k, m.like(9, k)) + 1.0
    square = 1.0 / (z * z)
    terms = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
    series = polynomial(terms, square) / z
    log = natural_log(m, "float64", z)
    far = (z - 0.5) * log - z + (0.5 * math.log(2 * math.pi)) + series
    return m.select(k < 9.5, small, far)
