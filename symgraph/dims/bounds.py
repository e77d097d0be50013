"""Proven bounds of polynomials: what decides every comparison of sizes.

Four ways, the best result counts: interval arithmetic; the same after moving every size to its
least value (`B*C - B` with `B = b + 1`, `C = c + 1` has no negative term left); replacing `p//q` by
`p/q` or `(p - q + 1)/q`; and looking at each case of a `min` or `max`.
None stands for "no bound known".
"""

from __future__ import annotations

from symgraph.dims.core import Dim, Mono, Range, Size, Terms, terms_of
from symgraph.dims.polynomial import plus, scaled, times

_MAX_STEPS = 160  # terms looked at in replacements, per question
_MAX_SHIFTED = 6  # highest degree that is expanded around the least values


def bounds(size: Size) -> Range:
    """(least, greatest) value that could be proven; None where there is no bound.

    >>> from symgraph.dims import dim
    >>> bounds(dim("B") % 8)
    (0, 7)
    """
    if type(size) is not Dim:
        return size, size  # type: ignore[return-value]
    if size.range is None:
        size.range = bounds_of(size.terms)
    return size.range


def bounds_of(terms: Terms) -> Range:
    """The bounds of a polynomial given by its terms."""
    return lower(terms), upper(terms)


def lower(terms: Terms) -> int | None:
    """The greatest proven lower bound."""
    return _lower(terms, [_MAX_STEPS])


def upper(terms: Terms) -> int | None:
    """The least proven upper bound."""
    low = _lower(scaled(terms, -1), [_MAX_STEPS])
    return None if low is None else -low


def _lower(terms: Terms, steps: list[int]) -> int | None:
    best = _interval_low(terms)
    if not _mixed(terms):
        return best
    if any(len(mono) > 1 for mono in terms):
        best = _greatest(best, _shifted_low(terms))
    for candidate in _compound_atoms(terms):
        if steps[0] <= 0:
            return best
        split = _split(terms, candidate)
        if split is None:
            continue
        steps[0] -= len(terms)
        factor, rest = split
        by_case = _low_of_floor if candidate.kind == "//" else _low_of_extreme
        found = by_case(candidate, factor, rest, steps)
        if found is not None:
            return _greatest(best, found[0])
    return best


def _mixed(terms: Terms) -> bool:
    """Whether terms of both signs could cancel; if not, intervals already say all."""
    signs = {coefficient > 0 for mono, coefficient in terms.items() if mono}
    return len(signs) == 2


def _compound_atoms(terms: Terms) -> list[Dim]:
    found = {factor for mono in terms for factor in mono if factor.kind != "symbol"}
    return sorted(found, key=lambda factor: factor.order, reverse=True) if found else []


def _split(terms: Terms, atom: Dim) -> tuple[Terms, Terms] | None:
    """(factor, rest) with `terms = atom*factor + rest`; None if a power of `atom` occurs."""
    factor: Terms = {}
    rest: Terms = {}
    for mono, coefficient in terms.items():
        count = sum(1 for other in mono if other is atom)
        if count > 1:
            return None
        if count:
            factor[tuple(other for other in mono if other is not atom)] = coefficient
        else:
            rest[mono] = coefficient
    return factor, rest


def _sign(terms: Terms) -> int:
    """1 if never negative, -1 if never positive, 0 if not known."""
    if len(terms) == 1 and () in terms:
        return 1 if terms[()] > 0 else -1
    low = _greatest(_interval_low(terms), _shifted_low(terms))
    if low is not None and low >= 0:
        return 1
    minus = scaled(terms, -1)
    low = _greatest(_interval_low(minus), _shifted_low(minus))
    return -1 if low is not None and low >= 0 else 0


def _low_of_floor(
    floor: Dim, factor: Terms, rest: Terms, steps: list[int]
) -> tuple[int | None] | None:
    """Uses `p - q + 1 <= q*(p//q) <= p`, multiplied by a factor of known sign."""
    sign = _sign(factor)
    if not sign:
        return None
    top, bottom = terms_of(floor.args[0]), terms_of(floor.args[1])
    if sign > 0:
        top = plus(plus(top, bottom, -1), {(): 1})
    low = _lower(plus(times(factor, top), times(rest, bottom)), steps)
    if low is None:
        return (None,)
    if type(floor.args[1]) is int:
        return (-(-low // floor.args[1]),)
    # value >= low/q with q >= 1: a negative low only gets nearer to 0, a positive one stays >= 1
    return (min(low, 1),)


def _low_of_extreme(
    extreme: Dim, factor: Terms, rest: Terms, steps: list[int]
) -> tuple[int | None] | None:
    """The value equals one of the cases; with a known sign it is often bounded by each of them."""
    lows = [_lower(plus(times(factor, terms_of(case)), rest), steps) for case in extreme.args]
    sign = _sign(factor)
    every_case_is_below = sign == (-1 if extreme.kind == "min" else 1)
    if every_case_is_below:
        known = [low for low in lows if low is not None]
        return (max(known, default=None),)
    if None in lows:
        return (None,)
    return (min(low for low in lows if low is not None),)


def _greatest(first: int | None, second: int | None) -> int | None:
    if first is None:
        return second
    return first if second is None else max(first, second)


# Interval arithmetic.


def _interval_low(terms: Terms) -> int | None:
    low = 0
    for mono, coefficient in terms.items():
        if not mono:
            low += coefficient
            continue
        ends = _range_of(mono[0]) if len(mono) == 1 else _product_range(mono)
        end = ends[0] if coefficient > 0 else ends[1]
        if end is None:
            return None
        low += coefficient * end
    return low


def _range_of(atom: Dim) -> Range:
    return atom.range or (None, None)


def _product_range(mono: Mono) -> Range:
    result: Range = (1, 1)
    for factor in mono:
        result = _multiply(result, _range_of(factor))
    return result


def _multiply(left: Range, right: Range) -> Range:
    (a, b), (c, d) = left, right
    if a is not None and c is not None and a >= 0 and c >= 0:
        if b == 0 or d == 0:
            return 0, 0
        return a * c, None if b is None or d is None else b * d
    if a is None or b is None or c is None or d is None:
        return None, None
    corners = (a * c, a * d, b * c, b * d)
    return min(corners), max(corners)


# The same around the least values.


def _shifted_low(terms: Terms) -> int | None:
    """The lower bound after `atom = least + distance`, in which products of distances are >= 0."""
    moved: Terms = {}
    for mono, coefficient in terms.items():
        if len(mono) > _MAX_SHIFTED:
            return None
        parts: Terms = {(): coefficient}
        for factor in mono:
            least = _range_of(factor)[0]
            if least is None:
                return None
            grown = {(*done, factor): value for done, value in parts.items()}
            parts = plus(grown, parts, least)
        moved = plus(moved, parts)
    low = moved.pop((), 0)
    for mono, coefficient in moved.items():
        if coefficient > 0:
            continue
        for factor in mono:
            least, most = _range_of(factor)
            if least is None or most is None:
                return None
            coefficient *= most - least
        low += coefficient
    return low
