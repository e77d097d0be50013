"""Random numbers as a pure function of (seed, epoch, image): nothing has state, so nothing drifts.

A draw is one block of the Philox4x64-10 generator (Salmon, Moraes, Dror, Shaw: "Parallel random
numbers: as easy as 1, 2, 3", SC 2011): four 64-bit words computed from a key and a counter. The
key is (seed, epoch), the counter is the image, so a crop does not depend on the batch size, the
number of workers or the order in which images are read. `philox_blocks` computes many blocks at
once; its bits are those of `numpy.random.Philox` with the same key and counter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from symgraph.errors import ArgumentError

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

# One stream per use, in the top word of the counter, so that no two uses share a block.
CROP_STREAM = 1
ORDER_STREAM = 2
FILE_STREAM = 3
SPLIT_STREAM = 4

_MASK = (1 << 64) - 1
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)


def check_seed(seed: int, name: str = "seed") -> int:
    """Return `seed` if it is an integer of 64 bits, else raise `ArgumentError`."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise ArgumentError(f"{name} must be an integer, got {seed!r}.")
    if not 0 <= seed <= _MASK:
        raise ArgumentError(f"{name} must lie in 0 .. 2**64 - 1, got {seed}.")
    return int(seed)


def _multiply(words: Words, factor: int) -> tuple[Words, Words]:
    """Return the high and the low 64 bits of `words * factor`, by halves of 32 bits."""
    factor_high, factor_low = np.uint64(factor >> 32), np.uint64(factor & 0xFFFFFFFF)
    high, low = words >> _HALF, words & _LOW
    middle = low * factor_high + ((low * factor_low) >> _HALF)  # below 2**64: no carry is lost
    carry = high * factor_low + (middle & _LOW)
    return high * factor_high + (middle >> _HALF) + (carry >> _HALF), words * np.uint64(factor)


def philox_blocks(indices: npt.ArrayLike, seed: int, epoch: int, stream: int) -> Words:
    """Return four random 64-bit words for each index: shape (n, 4).

    Row `k` equals `numpy.random.Philox(key=[seed, epoch], counter=[indices[k], 0, 0, stream])
    .random_raw(4)`; like NumPy, the counter is raised by one before its block is made.

    >>> philox_blocks([5], seed=1, epoch=0, stream=1).shape
    (1, 4)
    """
    key = [check_seed(seed), check_seed(epoch, "epoch")]
    first = np.asarray(indices, dtype=np.uint64) + np.uint64(1)
    zeros = np.zeros_like(first)
    words = [first, zeros, zeros, np.full_like(first, stream)]
    for _ in range(10):
        high0, low0 = _multiply(words[0], _MULTIPLIERS[0])
        high1, low1 = _multiply(words[2], _MULTIPLIERS[1])
        words = [
            high1 ^ words[1] ^ np.uint64(key[0]),
            low1,
            high0 ^ words[3] ^ np.uint64(key[1]),
            low0,
        ]
        key = [(key[0] + _WEYL[0]) & _MASK, (key[1] + _WEYL[1]) & _MASK]
    return np.stack(words, axis=-1)


def _below(words: Words, bound: int) -> Indices:
    """Map 64-bit words to 0 .. bound - 1; the bias is below bound / 2**32."""
    return (((words >> _HALF) * np.uint64(bound)) >> _HALF).astype(np.int64)


def crop_draws(
    indices: npt.ArrayLike, seed: int, epoch: int, offsets: int
) -> tuple[Indices, Indices, npt.NDArray[np.bool_]]:
    """Return (top, left, mirror) of the training crop of each global image index.

    `offsets` is the number of places along one side: image size - crop + 1. A pure function of
    its arguments; a device kernel that crops by itself uses these same draws.

    >>> top, left, mirror = crop_draws([7, 8], seed=1, epoch=0, offsets=30)
    >>> bool((top < 30).all())
    True
    """
    if offsets < 1:
        raise ArgumentError(f"crop_draws: offsets must be at least 1, got {offsets}.")
    words = philox_blocks(indices, seed, epoch, CROP_STREAM)
    mirror = (words[..., 2] >> np.uint64(63)).astype(np.bool_)
    return _below(words[..., 0], offsets), _below(words[..., 1], offsets), mirror


def permutation(count: int, seed: int, epoch: int, stream: int = ORDER_STREAM) -> Indices:
    """Return a random order of 0 .. count - 1, the same for ever for (seed, epoch, stream).

    The order sorts random 64-bit keys, so it rests on the raw generator only, whose bits NumPy
    promises to keep, and not on a sampling routine, which it may improve.

    >>> sorted(permutation(4, seed=1, epoch=0).tolist())
    [0, 1, 2, 3]
    """
    generator = np.random.Philox(
        key=np.array([check_seed(seed), check_seed(epoch, "epoch")], dtype=np.uint64),
        counter=np.array([0, 0, 0, stream], dtype=np.uint64),
    )
    keys = np.asarray(generator.random_raw(count), dtype=np.uint64)
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)
