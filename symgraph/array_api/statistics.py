"""Reductions and running totals, and the questions `all` and `any`."""

from __future__ import annotations

import builtins
from typing import Any

from symgraph.array_api.array import Array, call, require_array
from symgraph.array_api.kinds import ANY, FLOAT, NUM, REAL, REAL_FLOAT, meet, require
from symgraph.array_api.manipulation import Axes
from symgraph.graph.dtypes import DType, dtype_name


def _over(name: str, takes: str, x: Array, axis: Any, **options: Any) -> Array:
    require(name, takes, require_array(name, x).dtype)
    return call(name, x, axis, **options)


def _dtype(dtype: Any) -> DType | None:
    return None if dtype is None else dtype_name(dtype)


def sum(
    x: Array, /, *, axis: Axes = None, dtype: Any = None, keepdims: builtins.bool = False
) -> Array:
    """Sum over axes; integers in 64 bits unless `dtype` says otherwise."""
    return _over("sum", NUM, x, axis, dtype=_dtype(dtype), keepdims=keepdims)


def prod(
    x: Array, /, *, axis: Axes = None, dtype: Any = None, keepdims: builtins.bool = False
) -> Array:
    """Multiply over axes; integers in 64 bits unless `dtype` says otherwise."""
    return _over("prod", NUM, x, axis, dtype=_dtype(dtype), keepdims=keepdims)


def max(x: Array, /, *, axis: Axes = None, keepdims: builtins.bool = False) -> Array:
    """Find the largest over axes; a NaN wins."""
    return _over("max", REAL, x, axis, keepdims=keepdims)


def min(x: Array, /, *, axis: Axes = None, keepdims: builtins.bool = False) -> Array:
    """Find the smallest over axes; a NaN wins."""
    return _over("min", REAL, x, axis, keepdims=keepdims)


def mean(x: Array, /, *, axis: Axes = None, keepdims: builtins.bool = False) -> Array:
    """Average over axes."""
    return _over("mean", FLOAT, x, axis, keepdims=keepdims)


def var(
    x: Array, /, *, axis: Axes = None, correction: float = 0.0, keepdims: builtins.bool = False
) -> Array:
    """Variance over axes, divided by (count - correction)."""
    return _over("var", REAL_FLOAT, x, axis, correction=correction, keepdims=keepdims)


def std(
    x: Array, /, *, axis: Axes = None, correction: float = 0.0, keepdims: builtins.bool = False
) -> Array:
    """Standard deviation over axes: the root of `var`."""
    return _over("std", REAL_FLOAT, x, axis, correction=correction, keepdims=keepdims)


def cumulative_sum(
    x: Array, /, *, axis: int | None = None, dtype: Any = None,
    include_initial: builtins.bool = False,
) -> Array:  # fmt: skip
    """Sum along an axis up to each place; with `include_initial` a 0 stands in front."""
    return _running("cumulative_sum", x, axis, dtype, include_initial)


def cumulative_prod(
    x: Array, /, *, axis: int | None = None, dtype: Any = None,
    include_initial: builtins.bool = False,
) -> Array:  # fmt: skip
    """Multiply along an axis up to each place; with `include_initial` a 1 stands in front."""
    return _running("cumulative_prod", x, axis, dtype, include_initial)


def _running(name: str, x: Array, axis: int | None, dtype: Any, initial: builtins.bool) -> Array:
    return _over(name, NUM, x, axis, dtype=_dtype(dtype), include_initial=initial)


def all(x: Array, /, *, axis: Axes = None, keepdims: builtins.bool = False) -> Array:
    """Whether all elements are true (not zero)."""
    return _over("all", ANY, x, axis, keepdims=keepdims)


def any(x: Array, /, *, axis: Axes = None, keepdims: builtins.bool = False) -> Array:
    """Whether any element is true (not zero)."""
    return _over("any", ANY, x, axis, keepdims=keepdims)


def count_nonzero(x: Array, /, *, axis: Axes = None, keepdims: builtins.bool = False) -> Array:
    """Count the elements that are not zero."""
    return _over("count_nonzero", ANY, x, axis, keepdims=keepdims)


def argmax(x: Array, /, *, axis: int | None = None, keepdims: builtins.bool = False) -> Array:
    """Find the position of the first largest element along an axis, or of all."""
    return _over("argmax", REAL, x, axis, keepdims=keepdims)


def argmin(x: Array, /, *, axis: int | None = None, keepdims: builtins.bool = False) -> Array:
    """Find the position of the first smallest element along an axis, or of all."""
    return _over("argmin", REAL, x, axis, keepdims=keepdims)


def diff(
    x: Array, /, *, axis: int = -1, n: int = 1, prepend: Array | None = None,
    append: Array | None = None,
) -> Array:  # fmt: skip
    """Subtract from each element along an axis the one before it, n times."""
    require("diff", NUM, require_array("diff", x).dtype)
    for other in (prepend, append):
        if other is not None:
            meet("diff", x.dtype, require_array("diff", other).dtype)
    return call("diff", x, axis=axis, n=n, prepend=prepend, append=append)
