"""Solving for sizes against trying all sizes."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from symgraph.dims import (
    Progression,
    anonymous,
    dim,
    dims,
    evaluate,
    maximum,
    solutions,
    solve,
    solve_all,
)
from symgraph.dims.roots import integer_roots
from symgraph.errors import DimError, GuardError
from tests.dims.formulas import SYMBOLS, Formula, formulas

B, C, H = dims("B C H")
Z = dim("Z", min=0)


def test_solve() -> None:
    for expression, value, symbol, expected in [
        (B, 5, B, 5), (2 * B + 1, 9, B, 4), (2 * B, 9, B, None), (B, 0, B, None), (Z, 0, Z, 0),
        (B * H, 12, B, None), (B * H * 3, 6 * H, B, 2), (B * H + H, C * H, B, C - 1),
        (H // 2, 5, H, None), (4 * H // 2 + 1, 7, H, 3), (B * B, 49, B, 7), (B * B, 50, B, None),
        (B * B - B, 0, B, 1), (B + H // 2, 3 + H // 2, B, 3), (B + B // 2, 4, B, 3),
        (B + B // 2, 5, B, None), (maximum(B, 3), 5, B, None), (H, C // 2, H, C // 2),
        (B - B % 3 + 2 * (B % 3), 7, B, 5), (3, 3, B, None),
    ]:  # fmt: skip
        found = solve(expression, value, symbol)
        assert found is expected or found == expected, (expression, value)
    with pytest.raises(DimError, match="can only solve for a named size"):
        solve(B, 3, B + 1)


def test_solutions() -> None:
    for expression, value, expected in [
        ((H - 3) // 2 + 1, 5, [Progression(11, 1, 13)]),
        ((H - 3) % 4, 0, [Progression(3, 4, None)]),
        (H % 2, 1, [Progression(1, 2, None)]),
        (H % 4 * (H % 4 - 1), 0, [Progression(1, 4, None), Progression(4, 4, None)]),
        (H - H, 0, [Progression(1, 1, None)]),
        (H * H, 36, [Progression(6, 1, 7)]),
        (H * H, 37, []),
        (H % 3, 5, []),
        (H * H * H - 6 * H * H + 11 * H, 6, [Progression(1, 1, 4)]),
        (3 * (H // 2), 7, []),
    ]:
        assert list(solutions(expression, value, H)) == expected
    with pytest.raises(DimError, match="`B\\*H` depends on B too, not only on H"):
        solutions(B * H, 3, H)
    with pytest.raises(DimError, match="cannot be listed"):
        solutions(maximum(H, 3), 3, H)
    with pytest.raises(DimError, match="cannot be listed"):
        solutions(H // 5000 + H // 4999, 3, H)


def test_progression() -> None:
    endless = Progression(3, 4, None)
    assert list(islice(endless, 3)) == [3, 7, 11]
    assert str(endless) == "3, 7, 11, ..."
    assert 63 in endless
    assert 64 not in endless
    assert -1 not in endless
    assert list(Progression(10, 1, 12)) == [10, 11]
    assert str(Progression(10, 1, 12)) == "10, 11"
    assert 12 not in Progression(10, 1, 12)


@given(st.lists(st.integers(-9, 9), max_size=4), st.integers(-3, 3), st.integers(0, 2))
def test_integer_roots(roots: list[int], scale: int, rootless: int) -> None:
    polynomial = np.array([scale], dtype=object)
    for root in roots:
        polynomial = np.convolve(polynomial, [-root, 1])
    for _ in range(rootless):
        polynomial = np.convolve(polynomial, [2, 0, 1])  # t*t + 2
    coefficients = [int(c) for c in polynomial]
    found = integer_roots(coefficients)
    assert found == (sorted(set(roots)) if scale else [])


def test_solve_all() -> None:
    n = anonymous("n")
    for pairs, expected in [
        ([(B, 3), (H, 8)], {B: 3, H: 8}),
        ([(B * H, 24), (B, 3)], {B: 3, H: 8}),
        ([(B + H, 11), (2 * B, 6)], {B: 3, H: 8}),
        ([(B, 3), (3, 3), (B, 3), (B + 1, 4)], {B: 3}),
        ([((H - 3) // 2 + 1, 5)], {}),
        ([((H - 3) // 2 + 1, 5), (H, 11)], {H: 11}),
        ([(B * H, 24)], {}),
        ([(n, 0), (n * B, 0)], {n: 0}),
        ([(maximum(H, 3), 3)], {}),
        ([(B, np.int64(3))], {B: 3}),
        ([], {}),
    ]:  # fmt: skip
        assert solve_all(pairs) == expected


def test_contradictions() -> None:
    for pairs, words in [
        ([(B, 3), (B, 4)], "size `B` must be 3 with B = 3, but is 4"),
        ([(3, 4)], "size `3` must be 3, but is 4"),
        ([(B, 0)], "size `B` must be >= 1, but is 0"),
        ([(B + 1, 1)], "size `B + 1` is 1 in the given arrays, but no `B` >= 1 gives that"),
        ([(2 * B, 7)], "size `2*B` is 7 in the given arrays, but no `B` >= 1 gives that"),
        ([(B * H, 25), (B, 3)], "size `B*H` is 25 in the given arrays, but no `H` >= 1 gives that"
         " with B = 3"),
        ([(H // 2 + 1, 5), (H, 11)], "size `H//2 + 1` must be 6 with H = 11, but is 5"),
        ([(Z * B, 2), (Z, 0)], "size `B*Z` must be 0 with Z = 0, but is 2"),
    ]:  # fmt: skip
        with pytest.raises(GuardError) as error:
            solve_all(pairs)
        assert words in str(error.value)
    with pytest.raises(DimError, match="must be a number"):
        solve_all([(B, H)])


@settings(suppress_health_check=list(HealthCheck))
@given(
    st.lists(formulas(leaves_at_most=3), max_size=4),
    st.lists(st.sampled_from(SYMBOLS), max_size=2),
    st.lists(st.integers(1, 5), min_size=4, max_size=4),
)
def test_solve_all_finds_what_was_there(
    given_formulas: list[Formula], bare: list[object], values: list[int]
) -> None:
    env = dict(zip(SYMBOLS, values))
    pairs = [(f.size, f.meaning(env)) for f in given_formulas]
    pairs += [(symbol, env[symbol]) for symbol in bare]
    for symbol, value in solve_all(pairs).items():
        assert env[symbol] == value


@settings(suppress_health_check=list(HealthCheck))
@given(formulas(symbols=(B,), extremes=False), st.integers(1, 20))
def test_a_single_solution_is_the_only_one(a: Formula, size: int) -> None:
    value = a.meaning({B: size})
    found = solve(a.size, value, B)
    if found is not None:
        assert evaluate(found, {}) == size
        assert all(a.meaning({B: other}) != value for other in range(1, 60) if other != size)
