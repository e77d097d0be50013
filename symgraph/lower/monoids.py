"""How reductions combine, as scalars: what a loop's accumulator does, and a window written out."""

from __future__ import annotations

import math

import numpy as np

from symgraph.errors import LoweringError
from symgraph.graph.dtypes import DType, is_float, numpy_dtype
from symgraph.graph.index import Monoid, m
from symgraph.graph.scalar import Scalar, const

Parts = tuple[Scalar, ...]


def combine(monoid: Monoid, first: Parts, second: Parts) -> Parts:
    """Combine two partial results; `first` is of the earlier elements."""
    if monoid.name in ("argmax", "argmin"):
        return _best(monoid.name == "argmax", first, second)
    (a,), (b,) = first, second
    table = {"sum": m.add, "prod": m.mul, "max": m.max, "min": m.min, "any": m.or_, "all": m.and_}
    if monoid.name not in table:
        raise LoweringError(f"lower: the reduction `{monoid}` has no loop.")
    if a.dtype == "bool" and monoid.name in ("sum", "max"):
        return (m.or_(a, b),)
    if a.dtype == "bool" and monoid.name in ("prod", "min"):
        return (m.and_(a, b),)
    return (table[monoid.name](a, b),)


def _best(largest: bool, first: Parts, second: Parts) -> Parts:
    """The better value, the earlier of equals; the first NaN wins."""
    (a, i), (b, j) = first, second
    better = (b > a) if largest else (b < a)
    earlier = (a == b) & (j < i)
    if is_float(a.dtype):
        nan_a, nan_b = m.isnan(a), m.isnan(b)
        both = nan_a & nan_b
        better = (better & ~nan_a) | (nan_b & ~nan_a)
        earlier = (earlier | both) & (j < i)
    swap = better | earlier
    return m.select(swap, b, a), m.select(swap, j, i)


def neutral(monoid: Monoid, dtypes: tuple[DType, ...]) -> Parts:
    """Give what a reduction starts from; nothing changes when it is combined with something."""
    name, dtype = monoid.name, dtypes[0]
    if name in ("sum", "any"):
        return (const(0, dtype),)
    if name in ("prod", "all"):
        return (const(1, dtype),)
    low = name in ("max", "argmax")
    worst = const(_extreme(dtype, low), dtype)
    if name in ("max", "min"):
        return (worst,)
    return worst, const(np.iinfo(np.int64).max, "int64")


def _extreme(dtype: DType, low: bool) -> float:
    if dtype == "bool":
        return not low
    if is_float(dtype):
        return -math.inf if low else math.inf
    limits = np.iinfo(numpy_dtype(dtype))
    return int(limits.min if low else limits.max)
