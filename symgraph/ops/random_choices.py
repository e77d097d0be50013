"""Random choices: counts of successes, classes, members of a set, and orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.dims import Dim, Size
from symgraph.errors import ArgumentError
from symgraph.graph.arguments import normal_axis, plain_int, plain_size, shape_argument
from symgraph.graph.leaves import as_value, common
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.ops.random import Stream, bernoulli, uniform
from symgraph.ops.random_laws import RandomIntegers, drawn, law

Probabilities = Sequence[float] | np.ndarray[Any, Any]


def binomial(
    n: int, p: Any = 0.5, shape: Any = None, *, dtype: Any = "int64", by_row: bool = False,
    stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw how many of n independent trials succeed, each with probability p.

    p is a number or a value of the result's `shape`. The trials are drawn and counted, so that the
    law holds exactly (to 2**-32 of p) and the cost grows with n. Raises `ArgumentError` unless
    n >= 0 and 0 <= p <= 1.

    >>> binomial(4, 1.0, shape=(2,)).eval().tolist()
    [4, 4]
    """
    trials = plain_int("binomial", "n", n)
    if trials < 0:
        raise ArgumentError(f"binomial: n must be >= 0, got {trials}.", fix="n=10")
    if isinstance(p, Value):
        sizes = tuple(p.shape) if shape is None else shape_argument("binomial", shape)
        chance: Any = F.expand_dims(F.broadcast_to(p, sizes), -1)
    else:
        sizes, chance = shape_argument("binomial", () if shape is None else shape), p
    if not sizes and by_row:
        raise ArgumentError("binomial: by_row needs an axis of rows; the shape is ().")
    found = bernoulli((*sizes, trials), chance, by_row=by_row, stream=stream)
    return F.cast(F.sum(found, axis=-1), dtype)


def _shares(name: str, p: Any) -> np.ndarray[Any, Any]:
    """Give probabilities as numbers that add up to 1, or raise `ArgumentError`."""
    if isinstance(p, Value):
        raise ArgumentError(
            f"{name}: p must be numbers, not a value of the graph.",
            fix="categorical(log(p)) draws from values",
        )
    shares = np.asarray(p, np.float64)
    if shares.ndim != 1 or not shares.size or not (shares >= 0).all():
        raise ArgumentError(f"{name}: p must be one list of numbers >= 0.", fix="p=[0.5, 0.5]")
    if not abs(float(shares.sum()) - 1) < 1e-6:
        raise ArgumentError(
            f"{name}: the probabilities add up to {float(shares.sum()):g}, not to 1.",
            fix="divide them by their sum",
        )
    return shares


def _by_table(
    name: str, shares: np.ndarray[Any, Any], sizes: tuple[Size, ...], by_row: bool,
    stream: Stream | None,
) -> Value:  # fmt: skip
    """Draw numbers of a list of probabilities: how many ends an even number has passed."""
    ends = np.cumsum(shares)[:-1] / float(shares.sum())
    even = uniform(sizes, dtype="float64", by_row=by_row, stream=stream)
    passed = F.greater_equal(F.expand_dims(even, -1), F.constant(ends))
    return F.sum(passed, axis=-1)


def categorical(
    logits: Any, shape: Any = (), axis: int = -1, *, by_row: bool = False,
    stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw class numbers (int64) with probabilities softmax(logits) along an axis.

    The result is (*shape, *the shape of logits without the axis): argmax(logits + Gumbel numbers).
    With `by_row`, row i depends on `offset` + i of the stream. Raises `ArgumentError` for a wrong
    axis. Source: Gumbel, "Statistical theory of extreme values" (1954).
    """
    (value,) = common("categorical", logits, floating=True)
    place = normal_axis("categorical", axis, value.ndim)
    before = shape_argument("categorical", shape)
    noise = law("categorical", (*before, *value.shape), "gumbel", value.dtype, by_row, stream)
    return F.argmax(value + noise, axis=place + len(before))


def multinomial(
    n: int, p: Probabilities, shape: Any = (), *, by_row: bool = False,
    stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw how often each of len(p) outcomes happens in n trials: int64, (*shape, len(p)).

    The trials are drawn and counted. Raises `ArgumentError` unless n >= 0 and p are numbers that
    add up to 1.
    """
    trials, shares = plain_int("multinomial", "n", n), _shares("multinomial", p)
    if trials < 0:
        raise ArgumentError(f"multinomial: n must be >= 0, got {trials}.", fix="n=10")
    sizes = (*shape_argument("multinomial", shape), trials)
    found = _by_table("multinomial", shares, sizes, by_row, stream)
    same = F.equal(F.expand_dims(found, -1), F.arange(len(shares)))
    return F.sum(same, axis=-2)


def _order(count: Size, stream: Stream | None) -> Value:
    """Give a random order of 0 to count - 1: the rank of each of as many random numbers."""
    keys = drawn(
        stream, lambda node: RandomIntegers((count,), "int64", node, False, -(2**63), 2**64)
    )
    mine, other = F.expand_dims(keys, 1), F.expand_dims(keys, 0)
    places = F.arange(count)
    earlier = F.less(F.expand_dims(places, 0), F.expand_dims(places, 1))
    before = F.logical_or(F.less(other, mine), F.logical_and(F.equal(other, mine), earlier))
    return F.sum(before, axis=1)


def permutation(x: Any, axis: int = 0, *, stream: Stream | None = None) -> Value:
    """Draw a random order: of 0 to x - 1 for a size, of the parts of a value along an axis.

    All orders are equally likely, to 2**-64. The rank of each of as many random numbers is
    counted, which takes as many comparisons as the square of their number. Raises `ArgumentError`
    for a wrong axis.

    >>> sorted(permutation(4).eval().tolist())
    [0, 1, 2, 3]
    """
    if isinstance(x, int | np.integer | Dim):
        count = plain_size("permutation", "the size", x)
        if isinstance(count, int) and count < 0:
            raise ArgumentError(f"permutation: the size must be >= 0, got {count}.", fix="10")
        return _order(count, stream)
    value = as_value(x)
    place = normal_axis("permutation", axis, value.ndim)
    return F.take(value, _order(value.shape[place], stream), axis=place)


def shuffle(x: Any, axis: int = 0, *, stream: Stream | None = None) -> Value:
    """Give the parts of a value along an axis in a random order; it is `permutation` of a value."""
    return permutation(as_value(x), axis, stream=stream)


def choice(
    x: Any, shape: Any = (), replace: bool = True, p: Probabilities | None = None,
    *, by_row: bool = False, stream: Stream | None = None,
) -> Value:  # fmt: skip
    """Draw members of 0 to x - 1, or of a value along its first axis, with probabilities p.

    Without `replace` no member comes twice; with p these are the first of the order by
    log(p) + Gumbel numbers. p are numbers. Raises `ArgumentError` for a wrong p, an empty set, or
    more members than there are.
    Source: Efraimidis, Spirakis, "Weighted random sampling with a reservoir" (2006).

    >>> sorted(choice(3, (3,), replace=False).eval().tolist())
    [0, 1, 2]
    """
    value = None if isinstance(x, int | np.integer) else as_value(x)
    members = x if value is None else _first_size(value)
    count = plain_int("choice", "the number of members", members)
    sizes = shape_argument("choice", shape)
    if count < 1:
        raise ArgumentError("choice: there is nothing to choose from.", fix="give at least one")
    shares = None if p is None else _shares("choice", p)
    if shares is not None and len(shares) != count:
        raise ArgumentError(
            f"choice: there must be one probability for each: {len(shares)} != {count}."
        )
    if replace:
        if shares is None:
            places = drawn(
                stream, lambda node: RandomIntegers(sizes, "int64", node, bool(by_row), 0, count)
            )
        else:
            places = _by_table("choice", shares, sizes, by_row, stream)
    else:
        places = _without(count, sizes, shares, stream)
    return places if value is None else F.take(value, places, axis=0)


def _first_size(value: Value) -> Any:
    if not value.ndim:
        raise ArgumentError("choice: a scalar has no members.", fix="give a size or an array")
    return value.shape[0]


def _without(
    count: int, sizes: tuple[Size, ...], shares: np.ndarray[Any, Any] | None,
    stream: Stream | None,
) -> Value:  # fmt: skip
    """Draw different numbers below a count."""
    wanted = 1
    for size in sizes:
        wanted *= plain_int("choice", "a size without replacement", size)
    possible = count if shares is None else int(np.count_nonzero(shares))
    if wanted > possible:
        raise ArgumentError(
            f"choice: {wanted} different members are asked for, there are {possible}.",
            fix="replace=True",
        )
    if shares is None:
        return F.reshape(_order(count, stream)[:wanted], sizes)
    with np.errstate(divide="ignore"):
        logs = np.log(shares)
    noise = law("choice", (count,), "gumbel", "float64", False, stream)
    return F.reshape(F.topk(F.constant(logs) + noise, wanted)[1], sizes)
