"""What NumPy lacks of LAPACK, on stacks of matrices: LU, triangular solving, the exponential."""

from __future__ import annotations

import math
from types import ModuleType

from symgraph.graph.op import Array

BLOCK = 32  # columns that are done one by one; everything else is a product of matrices


def lu(xp: ModuleType, x: Array) -> tuple[Array, Array]:
    """Give L and U in one array, and the row that each step exchanged with its own (getrf).

    A pivot of 0 is not divided by: U is then singular, and all else is right.
    """
    work = xp.array(x)
    rows, columns = x.shape[-2:]
    count = min(rows, columns)
    flat = work.reshape((math.prod(x.shape[:-2]), rows, columns))
    stack = xp.arange(flat.shape[0])
    pivots = xp.zeros((flat.shape[0], count), xp.int32)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        for k in range(start, stop):
            best = k + xp.argmax(xp.abs(flat[:, k:, k]), axis=-1)
            pivots[:, k] = best
            chosen = flat[stack, best].copy()
            flat[stack, best] = flat[:, k]
            flat[:, k] = chosen
            pivot = flat[:, k, k, None]
            divisor = xp.where(pivot == 0, xp.ones_like(pivot), pivot)
            flat[:, k + 1 :, k] = flat[:, k + 1 :, k] / divisor
            panel = flat[:, k + 1 :, k + 1 : stop]
            panel -= flat[:, k + 1 :, k, None] * flat[:, k, None, k + 1 : stop]
        top = triangular_solve(
            xp, flat[:, start:stop, start:stop], flat[:, start:stop, stop:], True, True
        )
        flat[:, start:stop, stop:] = top
        flat[:, stop:, stop:] -= xp.matmul(flat[:, stop:, start:stop], top)
    return flat.reshape(work.shape), pivots.reshape((*x.shape[:-2], count))


def order(xp: ModuleType, pivots: Array, rows: int) -> Array:
    """Give the row of the original that stands in each row after all exchanges."""
    flat = pivots.reshape((math.prod(pivots.shape[:-1]), pivots.shape[-1]))
    stack = xp.arange(flat.shape[0])
    found = xp.broadcast_to(xp.arange(rows), (flat.shape[0], rows)).copy()
    for k in range(flat.shape[1]):
        other = flat[:, k]
        kept = found[:, k].copy()
        found[:, k] = found[stack, other]
        found[stack, other] = kept
    return found.reshape((*pivots.shape[:-1], rows))


def triangular_solve(xp: ModuleType, a: Array, b: Array, lower: bool, unit: bool) -> Array:
    """Give x where a @ x = b, from the first row on (lower) or from the last; stacks are equal.

    A 0 on the diagonal divides as numbers do: the result is infinite or NaN.
    """
    size = a.shape[-1]
    x = xp.array(b)
    for start in range(0, size, BLOCK) if lower else range((size - 1) // BLOCK * BLOCK, -1, -BLOCK):
        stop = min(start + BLOCK, size)
        done = slice(0, start) if lower else slice(stop, size)
        x[..., start:stop, :] -= xp.matmul(a[..., start:stop, done], x[..., done, :])
        for k in range(start, stop) if lower else range(stop - 1, start - 1, -1):
            inner = slice(start, k) if lower else slice(k + 1, stop)
            x[..., k, :] -= xp.matmul(a[..., k, None, inner], x[..., inner, :])[..., 0, :]
            if not unit:
                x[..., k, :] /= a[..., k, k, None]
    return x


# The coefficients of the Padé approximant of degree 13, and the largest 1-norm for which it is as
# exact as float64 (Higham 2005, "The scaling and squaring method for the matrix exponential
# revisited", table 2.3).
PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0,
    129060195264000.0, 10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0,
    960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
LARGEST = 5.371920351148152


def expm(xp: ModuleType, x: Array) -> Array:
    """Give the exponential of matrices: scaled by a power of two, approximated, and squared."""
    size = x.shape[-1]
    if not size:
        return x.copy()
    norm = xp.max(xp.sum(xp.abs(x), axis=-2), axis=-1)
    finite = xp.isfinite(norm)
    ratio = xp.where(finite, norm, 0.0) / LARGEST
    squarings = xp.maximum(xp.ceil(xp.log2(xp.maximum(ratio, 1.0))), 0.0).astype(int)
    small = x * (0.5**squarings).astype(norm.dtype)[..., None, None]
    one = xp.eye(size, dtype=x.dtype)
    second = xp.matmul(small, small)
    fourth = xp.matmul(second, second)
    sixth = xp.matmul(second, fourth)
    c = PADE

    def even(first: int) -> Array:
        high = c[first + 12] * sixth if first + 12 <= 13 else 0 * sixth
        high = high + c[first + 10] * fourth + c[first + 8] * second
        low = c[first + 6] * sixth + c[first + 4] * fourth + c[first + 2] * second
        return xp.matmul(sixth, high) + low + c[first] * one

    odd, rest = xp.matmul(small, even(1)), even(0)
    found = xp.linalg.solve(rest - odd, rest + odd)
    for number in range(int(squarings.max()) if squarings.size else 0):
        more = (squarings > number)[..., None, None]
        found = xp.where(more, xp.matmul(found, found), found)
    return found
