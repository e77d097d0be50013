"""Random formulas of sizes, each with a plain Python function that says what it means."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from symgraph.dims import Dim, Size, anonymous, bounds, dim, maximum, minimum

B, H = dim("B"), dim("H")
Z = dim("Z", min=0)
N = anonymous("x.shape[0]")
SYMBOLS = (B, H, Z, N)

Env = dict[Dim, int]


@dataclass(frozen=True, eq=False)
class Formula:
    """A size and its meaning, computed by Python ints only."""

    size: Size
    meaning: Callable[[Env], int]

    def __repr__(self) -> str:
        return f"<{self.size}>"


def least(symbol: Dim) -> int:
    return 1 if symbol in (B, H) else 0


def box(symbols: tuple[Dim, ...] = SYMBOLS, reach: int = 4) -> Iterator[Env]:
    """All admissible small sizes, and a few large ones that no small pattern explains."""
    ranges = [range(least_of(s), least_of(s) + reach) for s in symbols]
    for values in itertools.product(*ranges):
        yield dict(zip(symbols, values))
    for values in ((97, 64, 31, 50), (30, 101, 0, 7), (12, 1, 60, 60), (1, 77, 5, 0)):
        yield dict(zip(symbols, values))


def least_of(symbol: Dim) -> int:
    return 1 if symbol is B or symbol is H else 0


def leaves(symbols: tuple[Dim, ...]) -> st.SearchStrategy[Formula]:
    numbers = st.integers(-6, 9).map(lambda n: Formula(n, lambda env: n))
    names = st.sampled_from(symbols).map(lambda s: Formula(s, lambda env: env[s]))
    return names | numbers


def _grow(inner: st.SearchStrategy[Formula], extremes: bool) -> st.SearchStrategy[Formula]:
    def pair(make: Callable[[Formula, Formula], Formula]) -> st.SearchStrategy[Formula]:
        return st.builds(make, inner, inner)

    def by_number(make: Callable[[Formula, int], Formula]) -> st.SearchStrategy[Formula]:
        return st.builds(make, inner, st.sampled_from([1, 2, 3, 4, 6, -2, -3]))

    kinds = [
        pair(lambda a, b: Formula(a.size + b.size, lambda e: a.meaning(e) + b.meaning(e))),
        pair(lambda a, b: Formula(a.size - b.size, lambda e: a.meaning(e) - b.meaning(e))),
        pair(lambda a, b: Formula(a.size * b.size, lambda e: a.meaning(e) * b.meaning(e))),
        by_number(lambda a, q: Formula(a.size // q, lambda e: a.meaning(e) // q)),
        by_number(lambda a, q: Formula(a.size % q, lambda e: a.meaning(e) % q)),
        by_number(lambda a, q: Formula(a.size * q, lambda e: a.meaning(e) * q)),
        pair(_divided),
    ]
    if extremes:
        kinds += [
            pair(lambda a, b: Formula(minimum(a.size, b.size),
                                      lambda e: min(a.meaning(e), b.meaning(e)))),
            pair(lambda a, b: Formula(maximum(a.size, b.size),
                                      lambda e: max(a.meaning(e), b.meaning(e)))),
            st.builds(lambda a, b, c: Formula(
                maximum(a.size, b.size, c.size),
                lambda e: max(a.meaning(e), b.meaning(e), c.meaning(e))), inner, inner, inner),
        ]  # fmt: skip
    return st.one_of(kinds)


def _divided(a: Formula, b: Formula) -> Formula:
    """Division by a formula, where it is proven positive; else by that plus a named size."""
    low = bounds(b.size)[0]
    if low is not None and low >= 1:
        return Formula(a.size // b.size, lambda e: a.meaning(e) // b.meaning(e))
    if low == 0:
        return Formula(a.size // (b.size + B), lambda e: a.meaning(e) // (b.meaning(e) + e[B]))
    return a


def formulas(
    symbols: tuple[Dim, ...] = SYMBOLS, extremes: bool = True, leaves_at_most: int = 7
) -> st.SearchStrategy[Formula]:
    return st.recursive(
        leaves(symbols), lambda inner: _grow(inner, extremes), max_leaves=leaves_at_most
    )
