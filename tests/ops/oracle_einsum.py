"""Oracles of einsum: NumPy's own, without its search for an order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def summed(subscripts: str) -> Callable[..., Array]:
    return lambda *arrays: np.einsum(subscripts, *arrays, optimize=False)


ORACLES: dict[str, Callable[..., Any]] = {
    "einsum:matmul": summed("ij,jk->ik"),
    "einsum:stack": summed("bij,bj"),
    "einsum:diagonal": summed("iji->j"),
    "einsum:turned": summed("ji"),
    "einsum:ellipsis": summed("...ij,...j->...i"),
    "einsum:chain": summed("ab,bc,cd->da"),
    "einsum:inner": summed("i,i->"),
    "einsum:outer": summed("i,j"),
    "einsum:numbers": lambda x, y: np.einsum(x, [0, 1], y, [0, 1], [1]),
    "einsum:whole": summed("ij,j->i"),
}
