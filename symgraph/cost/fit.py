"""The largest size for which a maximum of formulas stays within a limit, exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from symgraph.cost.formulas import compiled
from symgraph.dims import Dim, Size, bounds, less_equal, substitute
from symgraph.errors import ArgumentError

FAR = 1 << 62  # no size of an array is as large as this
MOST_TRIES = 1_000_000  # sizes tried one by one where formulas rise and fall


def largest_fit(
    peaks: Sequence[Size], symbol: Dim, others: Mapping[Dim, int], limit: int
) -> int | None:
    """Give the largest `symbol` with every formula <= `limit`, or None where there is none.

    `others` are numbers for the other sizes. Where every formula rises with the size, bisection;
    where one may fall again, all sizes are tried below a proven bound. Raises `ArgumentError` when
    no size is too large, or when no bound can be proven.

    >>> from symgraph.dims import dim
    >>> B = dim("B")
    >>> largest_fit([100 * B + 7, 900], B, {}, 1000)
    9
    """
    fixed = [substitute(size, dict(others)) for size in peaks]
    compute = compiled([symbol], (), fixed)
    least = (symbol.range or (0, None))[0] or 0

    def fits(number: int) -> bool:
        return compute(number)[0] <= limit

    if all(_rises(size, symbol) for size in fixed):
        return _bisect(fits, least, symbol)
    above = _bound(fixed, symbol, limit, least)
    return next((number for number in range(above - 1, least - 1, -1) if fits(number)), None)


def _rises(size: Size, symbol: Dim) -> bool:
    """Tell whether a formula is proven never to fall when the size grows."""
    return less_equal(size, substitute(size, {symbol: symbol + 1})) is True


def _bisect(fits: Callable[[int], bool], least: int, symbol: Dim) -> int | None:
    if not fits(least):
        return None
    low, step = least, 1
    while fits(low + step):
        low += step
        step *= 2
        if low > FAR:
            raise _endless(symbol)
    high = low + step  # the largest that fits is at least `low` and below `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _bound(sizes: Sequence[Size], symbol: Dim, limit: int, least: int) -> int:
    """Give a number from which on every size is proven to be too large."""
    above = least + 1
    while above - least <= MOST_TRIES:
        for size in sizes:
            low = bounds(substitute(size, {symbol: symbol + (above - least)}))[0]
            if low is not None and low > limit:
                return above
        above = least + 2 * (above - least)
    if all(_at_most(size, limit) for size in sizes):
        raise _endless(symbol)
    raise ArgumentError(
        f"max_dim: no {symbol} can be proven to be too large: the peak does not rise with it."
    )


def _at_most(size: Size, limit: int) -> bool:
    high = bounds(size)[1]
    return high is not None and high <= limit


def _endless(symbol: Dim) -> ArgumentError:
    return ArgumentError(f"max_dim: every {symbol} fits.", fix="give a smaller limit")
