"""`minimum` and `maximum` of sizes in normal form."""

from __future__ import annotations

from functools import reduce
from math import gcd
from typing import Literal

from symgraph.dims.arithmetic import cached
from symgraph.dims.bounds import bounds, lower
from symgraph.dims.core import (
    Dim,
    Range,
    Size,
    Terms,
    as_size,
    atom,
    operations,
    polynomial,
    terms_of,
)
from symgraph.dims.polynomial import common_factor, leave_out, plus, times, without
from symgraph.errors import DimError

Extreme = Literal["min", "max"]

_MAX_CASES = 32  # nested min and max are taken apart into at most about this many arguments


def minimum(*sizes: Size) -> Size:
    """The least of sizes; arguments that never are the least disappear.

    >>> from symgraph.dims import dims
    >>> B, C = dims("B C")
    >>> minimum(B, B + 1), minimum(B + 1, C + 1) is minimum(B, C) + 1
    (B, True)
    """
    return _extreme("min", sizes)


def maximum(*sizes: Size) -> Size:
    """The greatest of sizes; arguments that never are the greatest disappear.

    >>> from symgraph.dims import dim
    >>> maximum(dim("B"), 1)
    B
    """
    return _extreme("max", sizes)


def _extreme(kind: Extreme, sizes: tuple[Size, ...]) -> Size:
    if not sizes:
        raise DimError(f"{kind} of no sizes.")
    checked = [as_size(size) for size in sizes]
    numbers = [size for size in checked if type(size) is int]
    formulas = [size for size in checked if type(size) is not int]
    if numbers:
        number = min(numbers) if kind == "min" else max(numbers)
        if not formulas:
            return number
        formulas.append(number)
    return _normal(kind, tuple(dict.fromkeys(formulas)))


@cached
def _normal(kind: Extreme, sizes: tuple[Size, ...]) -> Size:
    cases = [terms_of(size) for size in sizes]
    shared: Terms = {}
    while True:
        flat = {polynomial(c): c for case in cases for c in _cases(kind, case, len(cases))}
        cases = _not_dominated(kind, list(flat.values()))
        if len(cases) == 1:
            return polynomial(plus(cases[0], shared))
        moved, cases = _without_shared(cases)
        shared = plus(shared, moved)
        # Moving `-min(..)` out of one argument may put a nested min into another.
        if all(len(_cases(kind, case, len(cases))) == 1 for case in cases):
            break
    factor, cases = _without_factor(cases)
    inner: Terms
    if kind == "max" and len(cases) == 2:
        # max(a, b) = a + b - min(a, b): one form for both
        least = _normal("min", (polynomial(cases[0]), polynomial(cases[1])))
        inner = plus(plus(cases[0], cases[1]), terms_of(least), -1)
    else:
        inner = {(_atom(kind, cases),): 1}
    return polynomial(plus(times(inner, factor), shared))


def _atom(kind: Extreme, cases: list[Terms]) -> Dim:
    args = tuple(polynomial(case) for case in cases)

    def ends() -> Range:
        ranges = [bounds(arg) for arg in args]
        lows = [low for low, _ in ranges if low is not None]
        highs = [high for _, high in ranges if high is not None]
        all_low, all_high = len(lows) == len(args), len(highs) == len(args)
        if kind == "min":
            return min(lows) if all_low else None, min(highs, default=None)
        return max(lows, default=None), max(highs) if all_high else None

    return atom(kind, args, ends)


def _cases(kind: Extreme, terms: Terms, others: int) -> list[Terms]:
    """The arguments that a nested min (or max) in `terms` stands for; else `terms` alone."""
    if others > _MAX_CASES:
        return [terms]
    nested = [
        (mono, value)
        for mono, value in terms.items()
        if len(mono) == 1 and mono[0].kind in ("min", "max")
    ]
    if len(nested) != 1:
        return [terms]
    mono, value = nested[0]
    inner = mono[0]
    opposite = value < 0
    if (inner.kind == kind) == opposite:
        return [terms]
    rest = leave_out(terms, inner)
    return [
        case
        for arg in inner.args
        for case in _cases(kind, plus(rest, terms_of(arg), value), others * len(inner.args))
    ]  # fmt: skip


def _not_dominated(kind: Extreme, cases: list[Terms]) -> list[Terms]:
    kept: list[Terms] = []
    for case in cases:
        if any(_covers(kind, other, case) for other in kept):
            continue
        kept = [other for other in kept if not _covers(kind, case, other)]
        kept.append(case)
    return kept


def _covers(kind: Extreme, strong: Terms, weak: Terms) -> bool:
    """Whether `weak` is never less (greater) than `strong`, so that it can be left out."""
    difference = plus(weak, strong, -1) if kind == "min" else plus(strong, weak, -1)
    low = lower(difference)
    return low is not None and low >= 0


def _without_shared(cases: list[Terms]) -> tuple[Terms, list[Terms]]:
    """Moves terms out until the least coefficient of each product over all cases is 0."""
    monos = dict.fromkeys(mono for case in cases for mono in case)
    shared: Terms = {}
    for mono in monos:
        least = min(case.get(mono, 0) for case in cases)
        if least:
            shared[mono] = least
    return shared, [plus(case, shared, -1) for case in cases] if shared else cases


def _without_factor(cases: list[Terms]) -> tuple[Terms, list[Terms]]:
    """Moves out a number and sizes >= 0 that divide all cases."""
    number = reduce(gcd, (value for case in cases for value in case.values()))
    common = None
    for case in cases:
        if case:
            common = common_factor(case, common)
    common = tuple(
        factor
        for factor in common or ()
        if factor.range is not None and factor.range[0] is not None and factor.range[0] >= 0
    )
    if number == 1 and not common:
        return {(): 1}, cases
    reduced = [
        {without(mono, common) or (): value // number for mono, value in case.items()}
        for case in cases
    ]
    return {common: number}, reduced


operations.minimum = minimum
operations.maximum = maximum
