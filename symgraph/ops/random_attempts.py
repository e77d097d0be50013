"""Random numbers that are accepted or rejected: gamma, beta, Dirichlet and Poisson laws.

Attempts are an axis of their own: attempt j of element i has words of its own, so that the result
is a function of (seed, step, node, element) whatever is computed beside it; the first accepted one
counts. There is a fixed number of attempts, which all fail with a probability below 1e-14 for an
element (a gamma attempt with less than 0.05, a Poisson attempt with less than 0.25): it then gets
the middle of the law. The parameters are numbers or values; there is no gradient by them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.dims import broadcast_shapes
from symgraph.errors import ArgumentError
from symgraph.graph.arguments import shape_argument
from symgraph.graph.laws import SMALL_MEAN
from symgraph.graph.leaves import as_value, cast_to
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.scalar import compute_dtype
from symgraph.graph.types import Shape
from symgraph.ops.random import Stream, normal, uniform
from symgraph.ops.random_laws import float_argument, law, number_argument

GAMMA_ATTEMPTS = 12
POISSON_ATTEMPTS = 24
_AT = "float64"  # in which Poisson numbers are computed


def _first_accepted(tries: Value, otherwise: Value) -> Value:
    """Give along the last axis the first number that is not negative."""
    good = F.cast(F.greater_equal(tries, 0), "int8")
    place = F.argmax(good, axis=-1, keepdims=True)
    chosen = F.squeeze(F.take_along_axis(tries, place, -1), -1)
    return F.where(F.greater_equal(chosen, 0), chosen, otherwise)


def _parameters(name: str, shape: Any, dtype: str, **given: Any) -> tuple[Shape, list[Value]]:
    """Give the shape of the result and the parameters, broadcast to it."""
    for what, value in given.items():
        number_argument(name, what, value)
    values = [cast_to(as_value(value), dtype) for value in given.values()]
    if shape is None:
        sizes = broadcast_shapes(*(value.shape for value in values))
    else:
        sizes = shape_argument(name, shape)
    return sizes, [F.broadcast_to(value, sizes) for value in values]


def _pieces(
    name: str, sizes: Shape, shape: Value, by_row: bool, stream: Stream | None
) -> tuple[Value, Value]:
    """Give gamma numbers of a shape from 1 on, and the logarithm of what they are multiplied by."""
    dtype = shape.dtype
    many = (*sizes, GAMMA_ATTEMPTS)
    x = normal(many, dtype=dtype, by_row=by_row, stream=stream)
    e = law(name, many, "exponential", dtype, by_row, stream)
    tries = F.portable("gamma", F.broadcast_to(F.expand_dims(shape, -1), many), x, e)
    large = _first_accepted(tries, F.where(F.greater(shape, 0), F.maximum(shape, 1.0), np.nan))
    boost = law(name, sizes, "exponential", dtype, by_row, stream)
    return large, F.portable("boost", boost, shape)


def gamma(
    concentration: Any, scale: Any = 1.0, shape: Any = None, *, dtype: Any = None,
    by_row: bool = False, stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw numbers of the gamma law: density x^(k - 1) exp(-x / scale), k the concentration.

    Concentration and scale are numbers or values that broadcast to `shape`, which is theirs unless
    given. NaN where the concentration is not > 0. With `by_row`, row i depends on `offset` + i of
    the stream. Raises `ArgumentError` for numbers that are not > 0, `DTypeError` unless the dtype
    is a float. Source: Marsaglia and Tsang (2000), with their boost below 1.

    >>> gamma(2.0, shape=(3,)).type.shape
    (3,)
    """
    found = float_argument("gamma", dtype)
    wide = compute_dtype(found)
    sizes, (k, factor) = _parameters("gamma", shape, wide, concentration=concentration, scale=scale)
    large, boost = _pieces("gamma", sizes, k, by_row, stream)
    value = F.where(F.less(k, 1), large * F.portable("exp", boost), large)
    return cast_to(value * factor, found)


def beta(
    a: Any, b: Any, shape: Any = None, *, dtype: Any = None, by_row: bool = False,
    stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw numbers of the beta law: density x^(a - 1) (1 - x)^(b - 1) in [0, 1].

    Two gamma numbers, the share of the first, by their logarithms, so that small a and b do no
    harm. Arguments and errors are those of `gamma`.
    """
    found = float_argument("beta", dtype)
    wide = compute_dtype(found)
    sizes, parameters = _parameters("beta", shape, wide, a=a, b=b)
    logs = []
    for each in parameters:
        large, boost = _pieces("beta", sizes, each, by_row, stream)
        logs.append(F.portable("log", large) + boost)
    apart = logs[0] - logs[1]
    less = F.portable("exp", -F.abs(apart))
    share = F.where(F.greater_equal(apart, 0), F.ones_like(less), less) / (1 + less)
    return cast_to(share, found)


def dirichlet(
    concentration: Any, shape: Any = (), *, dtype: Any = None, by_row: bool = False,
    stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw points with positive coordinates that add up to 1, of the Dirichlet law.

    `concentration` has one number for each coordinate along its last axis, whose size must be a
    plain number; the result is (*shape, *its shape). The sum of the gamma numbers is taken from
    the first to the last, so that its bits agree too. Raises as `gamma` does.
    """
    found = float_argument("dirichlet", dtype)
    wide = compute_dtype(found)
    if not isinstance(concentration, Value):
        numbers = np.asarray(concentration, np.float64)
        if not (numbers > 0).all():
            raise ArgumentError("dirichlet: all concentrations must be > 0.", fix="[1.0, 1.0]")
    k = cast_to(as_value(concentration), wide)
    if k.ndim < 1 or not isinstance(k.shape[-1], int) or k.shape[-1] < 1:
        raise ArgumentError(
            "dirichlet: the last axis of concentration must have a plain size >= 1, "
            f"it is {k.type}.",
            fix="one number for each coordinate",
        )
    sizes = (*shape_argument("dirichlet", shape), *k.shape)
    large, boost = _pieces("dirichlet", sizes, F.broadcast_to(k, sizes), by_row, stream)
    logs = F.portable("log", large) + boost
    parts = F.portable("exp", logs - F.max(logs, axis=-1, keepdims=True))
    columns = F.split(parts, k.shape[-1], -1)
    total = columns[0]
    for column in columns[1:]:
        total = total + column
    return cast_to(parts / total, found)


def poisson(
    mean: Any, shape: Any = None, *, dtype: Any = "int64", by_row: bool = False,
    stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw counts of the Poisson law with a mean, a number or a value of the result's `shape`.

    Below a mean of 10 by the inverse of the distribution, above it by rejection. -1 where the mean
    is not >= 0. Raises `ArgumentError` for a number that is not > 0, `DTypeError` for other dtypes.
    Source: Hormann (1993), algorithm PTRS.
    """
    sizes, (lam,) = _parameters("poisson", shape, _AT, mean=mean)
    many = (*sizes, POISSON_ATTEMPTS)
    first, second = (uniform(many, dtype=_AT, by_row=by_row, stream=stream) for _ in range(2))
    tries = F.portable("poisson", F.broadcast_to(F.expand_dims(lam, -1), many), first, second)
    large = _first_accepted(tries, F.floor(lam))
    even = uniform(sizes, dtype=_AT, by_row=by_row, stream=stream)
    found = F.where(F.less(lam, SMALL_MEAN), F.portable("poisson small", lam, even), large)
    found = F.where(F.greater_equal(lam, 0), found, -1.0)
    return F.cast(found, dtype)
