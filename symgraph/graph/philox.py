"""Philox4x32-10, the counter-based generator: four random words are a pure function of a counter
and a key (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

It is the meaning of the scalar operation `philox`; nothing has state, so any element of a random
array can be computed alone, in any order, on any device.
"""

from __future__ import annotations

from typing import Any

Array = Any
ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the key after each round
LOW = 0xFFFFFFFF


def philox4x32(
    c0: Array, c1: Array, c2: Array, c3: Array, k0: Array, k1: Array
) -> tuple[Array, Array, Array, Array]:
    """Give four uint32 arrays from a counter of four uint32 words and a key of two.

    The arguments are NumPy or CuPy arrays of uint32 and are broadcast. One round is
    (c0, c1, c2, c3) -> (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)).

    >>> import numpy as np
    >>> zero = np.zeros(1, np.uint32)
    >>> [hex(word[0]) for word in philox4x32(*[zero] * 6)]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    # Words are held in uint64, so that a product of two keeps both halves.
    words = [word.astype("uint64") for word in (c0, c1, c2, c3)]
    key = [word.astype("uint64") for word in (k0, k1)]
    for _ in range(ROUNDS):
        first, second = words[0] * MULTIPLIERS[0], words[2] * MULTIPLIERS[1]
        words = [
            (second >> 32) ^ words[1] ^ key[0],
            second & LOW,
            (first >> 32) ^ words[3] ^ key[1],
            first & LOW,
        ]
        key = [(word + step) & LOW for word, step in zip(key, WEYL)]
    w0, w1, w2, w3 = (word.astype("uint32") for word in words)
    return w0, w1, w2, w3
