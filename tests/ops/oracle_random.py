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

Array = Any
WORD = 2**32


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
    each = 2 if op.dtype == "float64" else 1
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


def random_normal(op: Any, state: Array) -> Array:
    def number(*pair: int) -> float:
        if op.dtype == "float64":
            tail = ((pair[0] >> 1) * 2**21 + (pair[1] >> 11) + 0.5) / 2**53
        else:
            tail = float(np.float32(pair[0] >> 1) + np.float32(0.5)) / 2**32
        return float(scipy.special.ndtri(tail)) * (1 if pair[0] % 2 else -1)

    return draw(op, state, number)


def random_bernoulli(op: Any, state: Array) -> Array:
    return draw(op, state, lambda word: word < op.threshold).astype(bool)


def _mask(x: Array, keep: float) -> Array:
    """Which elements stay: stream 7, its first value, at step 0."""

    class Coin:
        by_row, node, dtype, shape, threshold = True, 0, "bool", x.shape, int(keep * WORD + 0.5)

    return random_bernoulli(Coin, np.array([7, 0, 0], np.uint64))


ORACLES: dict[str, Callable[..., Any]] = {
    "random_uniform": random_uniform,
    "random_normal": random_normal,
    "random_bernoulli": random_bernoulli,
    "dropout:train": lambda x: np.where(_mask(x, 0.6), x / 0.6, 0),
    "dropout:published": lambda x: np.where(_mask(x, 0.75), x, 0),
    "dropout:published test": lambda x: x * 0.75,
    "dropout:switched off": lambda x, flag: x * 0.6,
    "dropout:switched on": lambda x, flag: np.where(_mask(x, 0.6), x / 0.6, 0),
}
