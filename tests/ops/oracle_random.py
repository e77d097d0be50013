"""Oracles of random values: Philox4x32-10 written with Python's integers, one element at a time.

Even numbers and bools follow from the words by exact arithmetic; normal numbers by SciPy's inverse
of the normal distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

Array = Any
WORD = 2**32
LAWS = {
    "exponential": "expon", "gumbel": "gumbel_r", "laplace": "laplace", "logistic": "logistic",
    "cauchy": "cauchy",
}  # fmt: skip


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Ten rounds on a counter of four 32-bit words."""
    a, b, c, d = counter
    k, h = key
    for _ in range(10):
        first, second = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (second // WORD) ^ b ^ k, second % WORD, (first // WORD) ^ d ^ h, first % WORD
        k, h = (k + 0x9E3779B9) % WORD, (h + 0xBB67AE85) % WORD
    return a, b, c, d


def words(op: Any, state: Array, element: int) -> tuple[int, ...]:
    """The one or two words of an element, given its flat number in the own array."""
    seed, step, offset = (int(number) for number in state)
    if op.by_row:
        element += offset * math.prod(op.shape[1:])
    each = 2 if op.dtype == "float64" or op.name == "random_integers" else 1
    block, place = divmod(element * each, 4)
    counter = (block % WORD, block // WORD, step % WORD, op.node)
    whole = philox(counter, (seed % WORD, (seed // WORD) ^ (step // WORD)))
    return whole[place : place + each]


def draw(op: Any, state: Array, number: Callable[..., float]) -> Array:
    flat = [number(*words(op, state, i)) for i in range(math.prod(op.shape))]
    return np.array(flat, np.float64).reshape(op.shape)


def random_uniform(op: Any, state: Array) -> Array:
    bits = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}[op.dtype]

    def number(*pair: int) -> float:
        if op.dtype == "float64":  # 27 bits of the first word, then 26 of the second
            return float(Fraction((pair[0] >> 5) * 2**26 + (pair[1] >> 6), 2**53))
        return float(Fraction(pair[0] >> (32 - bits), 2**bits))

    return draw(op, state, number)


def _tail(op: Any, *pair: int) -> float:
    if op.dtype == "float64":
        return ((pair[0] >> 1) * 2**21 + (pair[1] >> 11) + 0.5) / 2**53
    return float(np.float32(pair[0] >> 1) + np.float32(0.5)) / 2**32


def random_law(op: Any, state: Array) -> Array:
    """SciPy's inverse distribution functions, from the side where they are exact."""
    chosen = getattr(scipy.stats, LAWS[op.law])

    def number(*pair: int) -> float:
        tail = _tail(op, *pair)
        return float(chosen.isf(tail) if pair[0] % 2 else chosen.ppf(tail))

    return draw(op, state, number)


def random_truncated(op: Any, state: Array) -> Array:
    def number(*pair: int) -> float:
        even = (
            ((pair[0] >> 5) * 2**26 + (pair[1] >> 6) + 0.5) / 2**53
            if pair[1:]
            else (float(np.float32(np.float32(pair[0]) + np.float32(0.5)) * np.float32(2.0**-32)))
        )
        if op.low >= 0:
            above = scipy.stats.norm.sf([op.low, op.high])
            return -float(scipy.special.ndtri(above[1] + even * (above[0] - above[1])))
        below = scipy.stats.norm.cdf([op.low, op.high])
        return float(scipy.special.ndtri(below[0] + even * (below[1] - below[0])))

    return draw(op, state, number)


def random_integers(op: Any, state: Array) -> Array:
    """low + floor(w count / 2^64), in Python's integers."""
    flat = []
    for i in range(math.prod(op.shape)):
        high, low = words(op, state, i)
        flat.append(op.low + ((high * WORD + low) * op.count >> 64))
    return np.array(flat, object).astype(op.dtype).reshape(op.shape)


def portable(op: Any, *xs: Array) -> Array:
    if op.kind in ("log", "exp"):
        return np.log(xs[0]) if op.kind == "log" else np.exp(xs[0])
    if op.kind == "boost":
        return np.where(xs[1] < 1, -xs[0] / xs[1], 0)
    if op.kind == "poisson small":
        return scipy.stats.poisson.ppf(xs[1], xs[0])
    return (_gamma_try if op.kind == "gamma" else _poisson_try)(*xs)


@np.vectorize
def _gamma_try(a: float, x: float, e: float) -> float:
    """Marsaglia and Tsang's step, in plain Python."""
    d = (a + 1 if a < 1 else a) - 1 / 3
    v = (1 + x / math.sqrt(9 * d)) ** 3
    return d * v if v > 0 and -e < x * x / 2 + d - d * v + d * math.log(v) else -1.0


@np.vectorize
def _poisson_try(lam: float, u: float, v: float) -> float:
    """Hormann's step PTRS as NumPy's generator has it, in plain Python."""
    b = 0.931 + 2.53 * math.sqrt(lam)
    a = -0.059 + 0.02483 * b
    us = max(0.5 - abs(u - 0.5), 1e-16)
    k = math.floor((2 * a / us + b) * (u - 0.5) + lam + 0.43)
    if us >= 0.07 and v <= 0.9277 - 3.6224 / (b - 2):
        return k
    if k < 0 or (us < 0.013 and v > us):
        return -1.0
    left = math.log(max(v, 1e-300) * (1.1239 + 1.1328 / (b - 3.4)) / (a / us**2 + b))
    return k if left <= k * math.log(lam) - lam - math.lgamma(k + 1) else -1.0


def random_normal(op: Any, state: Array) -> Array:
    def number(*pair: int) -> float:
        return float(scipy.special.ndtri(_tail(op, *pair))) * (1 if pair[0] % 2 else -1)

    return draw(op, state, number)


def random_bernoulli(op: Any, state: Array) -> Array:
    return draw(op, state, lambda word: word < op.threshold).astype(bool)


def _mask(x: Array, keep: float) -> Array:
    """Which elements stay: stream 7, its first value, at step 0."""

    class Coin:
        name = "random_bernoulli"
        by_row, node, dtype, shape, threshold = True, 0, "bool", x.shape, int(keep * WORD + 0.5)

    return random_bernoulli(Coin, np.array([7, 0, 0], np.uint64))


ORACLES: dict[str, Callable[..., Any]] = {
    "random_uniform": random_uniform,
    "random_normal": random_normal,
    "random_bernoulli": random_bernoulli,
    "random_law": random_law,
    "random_truncated": random_truncated,
    "random_integers": random_integers,
    "portable": portable,
    "dropout:train": lambda x: np.where(_mask(x, 0.6), x / 0.6, 0),
    "dropout:published": lambda x: np.where(_mask(x, 0.75), x, 0),
    "dropout:published test": lambda x: x * 0.75,
    "dropout:switched off": lambda x, flag: x * 0.6,
    "dropout:switched on": lambda x, flag: np.where(_mask(x, 0.6), x / 0.6, 0),
}
