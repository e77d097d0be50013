"""The maximum of many formulas as the maximum of few: those that are never the largest go.

Coefficients are compared first, which decides nearly all; what is left is compared exactly, and
straight lines in one product of sizes keep only their upper hull.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from symgraph.dims import Size, bounds, less_equal, product, total
from symgraph.dims.core import Mono, Terms, polynomial, terms_of

MOST_EXACT = 24  # formulas of which each pair is compared exactly


class Polynomial:
    """A sum that changes term by term, without making a size of each state."""

    __slots__ = ("terms",)

    def __init__(self, terms: Terms | None = None) -> None:
        self.terms: Terms = {} if terms is None else terms

    @staticmethod
    def of(size: Size) -> Polynomial:
        """Take a size apart."""
        return Polynomial(terms_of(size))

    def add(self, other: Polynomial, factor: int = 1) -> None:
        """Add a multiple of another one."""
        terms = self.terms
        for mono, coefficient in other.terms.items():
            value = terms.get(mono, 0) + factor * coefficient
            if value:
                terms[mono] = value
            else:
                terms.pop(mono, None)

    def copy(self) -> Polynomial:
        """Give one that does not change with this."""
        return Polynomial(self.terms.copy())


def envelope(formulas: Iterable[Polynomial], plus: Size = 0) -> tuple[Size, ...]:
    """Give the formulas, each `plus` a size, that are the largest for some sizes.

    >>> from symgraph.dims import dim
    >>> B = dim("B")
    >>> envelope(map(Polynomial.of, (2 * B, B + 5, B + 1, 3)))
    (2*B, B + 5)
    """
    lowest = _Lowest()
    distinct = {frozenset(each.terms.items()): each.terms for each in formulas}
    kept: list[Terms] = []
    for terms in distinct.values():
        if not any(lowest.covers(other, terms) for other in kept):
            kept = [other for other in kept if not lowest.covers(terms, other)]
            kept.append(terms)
    kept = _hull(kept, lowest)
    sizes = [total((polynomial(terms), plus)) for terms in kept] or [plus]
    if 1 < len(sizes) <= MOST_EXACT:
        sizes = _exact(sizes)
    return tuple(sorted(sizes, key=_degree, reverse=True))


class _Lowest:
    """The least values of products of sizes, looked up once."""

    def __init__(self) -> None:
        self.known: dict[Mono, int | None] = {}

    def of(self, mono: Mono) -> int | None:
        """Give the least value of a product of sizes; None where it may be negative."""
        if mono not in self.known:
            low = bounds(product(mono))[0]
            self.known[mono] = low if low is not None and low >= 0 else None
        return self.known[mono]

    def covers(self, strong: Terms, weak: Terms) -> bool:
        """Tell whether term by term `strong` is never less than `weak`; False where not seen."""
        slack = 0
        for mono, coefficient in strong.items():
            more = coefficient - weak.get(mono, 0)
            if not mono:
                slack += more
            elif more:
                low = self.of(mono)
                if low is None or more < 0:
                    return False
                slack += more * low
        for mono, coefficient in weak.items():
            if mono in strong:
                continue
            low = self.of(mono) if mono else 1
            if low is None or (mono and coefficient > 0):
                return False
            slack -= coefficient * low
        return slack >= 0


def _hull(kept: list[Terms], lowest: _Lowest) -> list[Terms]:
    """Of straight lines `a + b*product` keep those on the upper hull, where the product can be."""
    products = {mono for terms in kept for mono in terms if mono}
    if len(kept) < 3 or len(products) != 1:
        return kept
    (mono,) = products
    start = lowest.of(mono)
    if start is None:
        return kept
    lines = sorted(kept, key=lambda terms: terms.get(mono, 0))  # no two have the same slope
    hull: list[Terms] = []
    begins: list[int] = []  # the first whole number from which on each line is the largest
    for line in lines:
        begin = start
        while hull:
            begin = _meet(hull[-1], line, mono)
            if begin > begins[-1]:
                break
            hull.pop()
            begins.pop()
        begins.append(begin if hull else start)
        hull.append(line)
    return hull


def _meet(flat: Terms, steep: Terms, mono: Mono) -> int:
    """Give the first whole number at which the steeper line is not below the other."""
    rise = steep.get(mono, 0) - flat.get(mono, 0)
    return -((steep.get((), 0) - flat.get((), 0)) // rise)


def _exact(sizes: Sequence[Size]) -> list[Size]:
    kept: list[Size] = []
    for size in sizes:
        if any(less_equal(size, other) is True for other in kept):
            continue
        kept = [other for other in kept if less_equal(other, size) is not True]
        kept.append(size)
    return kept


def _degree(size: Size) -> tuple[int, int]:
    """Sort by the highest degree and its coefficient: what is largest for large sizes first."""
    terms = terms_of(size)
    degree = max(map(len, terms), default=0)
    return degree, sum(value for mono, value in terms.items() if len(mono) == degree)
