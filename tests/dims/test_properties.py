"""Every operator and every three-valued answer against brute force over small sizes."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from symgraph.dims import (
    Size,
    bounds,
    ceil_div,
    codec,
    divides,
    equal,
    evaluate,
    free,
    less,
    less_equal,
    solutions,
    substitute,
)
from symgraph.errors import DimError
from tests.dims.formulas import SYMBOLS, B, Formula, box, formulas

# More of them than elsewhere: a wrong answer about a size is a wrong shape everywhere.
RELAXED = settings(
    max_examples=4 * settings().max_examples, suppress_health_check=list(HealthCheck)
)


def same(left: Size, right: Size) -> bool:
    """Whether two sizes are one object, or equal ints."""
    return left is right or (type(left) is type(right) is int and left == right)


POINTS = list(box(reach=3))


@RELAXED
@given(formulas())
def test_value_of_a_formula_is_what_python_computes(formula: Formula) -> None:
    for env in POINTS:
        assert evaluate(formula.size, env) == formula.meaning(env)


@RELAXED
@given(formulas())
def test_bounds_hold(formula: Formula) -> None:
    low, high = bounds(formula.size)
    for env in POINTS:
        value = formula.meaning(env)
        assert low is None or low <= value
        assert high is None or value <= high


@RELAXED
@given(formulas(leaves_at_most=5), formulas(leaves_at_most=5))
def test_answers_are_never_wrong(a: Formula, b: Formula) -> None:
    same, smaller, at_most = equal(a.size, b.size), less(a.size, b.size), less_equal(a.size, b.size)
    divided = divides(a.size, b.size)
    for env in POINTS:
        x, y = a.meaning(env), b.meaning(env)
        assert same is None or same == (x == y)
        assert smaller is None or smaller == (x < y)
        assert at_most is None or at_most == (x <= y)
        assert divided is None or divided == (y == 0 if x == 0 else y % x == 0)


@RELAXED
@given(formulas(symbols=(B,), extremes=False), formulas(symbols=(B,), extremes=False))
def test_one_size_answers_are_never_wrong(a: Formula, b: Formula) -> None:
    same, smaller = equal(a.size, b.size), less(a.size, b.size)
    for value in range(1, 60):
        x, y = a.meaning({B: value}), b.meaning({B: value})
        assert same is None or same == (x == y)
        assert smaller is None or smaller == (x < y)


@RELAXED
@given(formulas(), st.integers(1, 7), formulas(leaves_at_most=3))
def test_a_multiple_leaves_a_floor_division(a: Formula, q: int, m: Formula) -> None:
    assert same((a.size + q * m.size) // q, a.size // q + m.size)
    assert same((a.size + q * m.size) % q, a.size % q)


@RELAXED
@given(formulas(extremes=False), st.integers(1, 5), st.integers(1, 5))
def test_nested_floor_divisions_of_linear_formulas_merge(a: Formula, p: int, q: int) -> None:
    assert (a.size // p // q == a.size // (p * q)) in (True,) or not _linear(a)


def _linear(formula: Formula) -> bool:
    terms = getattr(formula.size, "terms", {})
    return all(len(mono) <= 1 and all(x.kind == "symbol" for x in mono) for mono in terms)


@RELAXED
@given(formulas(), st.integers(1, 7))
def test_ceil_div_rounds_up(a: Formula, q: int) -> None:
    size = ceil_div(a.size, q)
    for env in POINTS:
        assert evaluate(size, env) == -(-a.meaning(env) // q)


@RELAXED
@given(formulas(), formulas(leaves_at_most=3))
def test_substitution_commutes_with_evaluation(a: Formula, b: Formula) -> None:
    low = bounds(b.size)[0]
    if low is None or low < 1:
        return
    replaced = substitute(a.size, {B: b.size})
    for env in POINTS:
        assert evaluate(replaced, env) == a.meaning({**env, B: b.meaning(env)})


@RELAXED
@given(formulas())
def test_free_sizes_are_those_that_matter(a: Formula) -> None:
    named = free(a.size)
    for symbol in SYMBOLS:
        if symbol not in named:
            for env in POINTS[:10]:
                assert a.meaning(env) == a.meaning({**env, symbol: env[symbol] + 5})


@RELAXED
@given(formulas())
def test_the_text_is_python_and_means_the_same(a: Formula) -> None:
    written = str(a.size).replace("x.shape[0]", "N")
    for env in POINTS[:20]:
        names = {"B": env[SYMBOLS[0]], "H": env[SYMBOLS[1]], "Z": env[SYMBOLS[2]],
                 "N": env[SYMBOLS[3]], "min": min, "max": max}  # fmt: skip
        assert eval(written, {"__builtins__": {}}, names) == a.meaning(env)


@RELAXED
@given(formulas(symbols=SYMBOLS[:3]))
def test_codec_gives_the_same_object(a: Formula) -> None:
    (again,) = codec.decode(codec.encode([a.size]))
    assert same(again, a.size)


@RELAXED
@given(formulas(symbols=(B,), extremes=False), st.integers(-3, 12))
def test_solutions_are_exactly_the_sizes_that_solve(a: Formula, value: int) -> None:
    try:
        found = solutions(a.size, value, B)
    except DimError:
        return
    for size in range(1, 120):
        assert any(size in run for run in found) == (a.meaning({B: size}) == value)
