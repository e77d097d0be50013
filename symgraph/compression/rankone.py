"""Filters as products of one vector for each axis, as near as such products come."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from symgraph.errors import ArgumentError

Numbers = npt.NDArray[np.float64]

ROUNDS = 100  # at most; each solves for one vector after the other
ENOUGH = 1e-12  # of the filter's square, gained in a round


class RankOne(NamedTuple):
    """`lateral[o, c] vertical[o, i] horizontal[o, j]`, and how far it is from the filters.

    `error` is that of all filters together, as a part of their length (Frobenius).
    """

    lateral: Numbers
    vertical: Numbers
    horizontal: Numbers
    error: float

    def dense(self) -> Numbers:
        """Multiply the vectors out: (filters, channels, height, width)."""
        product: Numbers = np.einsum("oc,oi,oj->ocij", self.lateral, self.vertical, self.horizontal)
        return product


def rank_one(filters: npt.ArrayLike) -> RankOne:
    """Give for each of the filters (filters, channels, height, width) a product near to it.

    Least squares, one vector after the other, from the leading singular vectors of each axis: the
    higher-order power method (De Lathauwer, De Moor, Vandewalle: "On the best rank-1 and
    rank-(R1, ..., RN) approximation of higher-order tensors", 2000). Of a filter that is such a
    product it is found; of others a local optimum. The vectors of a filter are of equal length.
    Raises `ArgumentError` for another number of axes, and where numbers are not finite.
    """
    dense: Numbers = np.asarray(filters, np.float64)
    if dense.ndim != 4 or not np.isfinite(dense).all():
        raise ArgumentError(
            "rank_one: filters are (filters, channels, height, width), all numbers finite; "
            f"got shape {dense.shape}."
        )
    whole = np.sqrt((dense**2).sum())
    if not dense.size or whole == 0:
        a, b, c = (np.zeros((len(dense), size)) for size in dense.shape[1:])
        return RankOne(a, b, c, 0.0)
    a, b, c = (_leading(dense, axis) for axis in (1, 2, 3))
    before = np.full(len(dense), -np.inf)
    for _ in range(ROUNDS):
        a = _unit(np.einsum("ocij,oi,oj->oc", dense, b, c))
        b = _unit(np.einsum("ocij,oc,oj->oi", dense, a, c))
        c = np.einsum("ocij,oc,oi->oj", dense, a, b)
        caught = (c**2).sum(axis=1)
        if (caught - before <= ENOUGH * caught).all():
            break
        before = caught
        c = _unit(c)
    length = np.sqrt((c**2).sum(axis=1, keepdims=True))
    share = np.cbrt(length)
    found = RankOne(a * share, b * share, _unit(c) * share, 0.0)
    return found._replace(error=float(np.sqrt(((dense - found.dense()) ** 2).sum()) / whole))


def _leading(dense: Numbers, axis: int) -> Numbers:
    """Give the leading left singular vector of each filter, unfolded along an axis."""
    rows = np.moveaxis(dense, axis, 1).reshape(len(dense), dense.shape[axis], -1)
    _, vectors = np.linalg.eigh(rows @ rows.transpose(0, 2, 1))
    leading: Numbers = vectors[:, :, -1]
    return leading


def _unit(rows: Numbers) -> Any:
    length = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
