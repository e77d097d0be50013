"""Affine forms: what is equal has one form, and a form means what it was made from."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symgraph.dims import Dim, dim, evaluate
from symgraph.graph.index import Axis, axes, axis, load, m, position
from symgraph.graph.scalar import Scalar, const, scalar_order
from symgraph.lower.linear import Linear, highest, linear, replaced, substitute

N, M = dim("linear_n"), dim("linear_m")


def value_of(root: Scalar, at: Mapping[Axis, int], env: Mapping[Dim, int]) -> int:
    """Compute an integer scalar: floor division, and nothing is x // 0."""
    found: dict[Scalar, int] = {}
    for node in scalar_order([root]):
        args = [found[argument] for argument in node.args]
        if node.op == "axis":
            found[node] = at[node.attr]
        elif node.op == "size":
            found[node] = evaluate(node.attr, env)
        elif node.op == "const":
            found[node] = node.attr
        elif node.op in ("idiv", "imod"):
            a, b = args
            found[node] = 0 if b == 0 else a // b if node.op == "idiv" else a % b
        else:
            a, b = (*args, 0)[:2]
            found[node] = {"add": a + b, "sub": a - b, "mul": a * b, "neg": -a}[node.op]
    return found[root]


# -- equal forms -----------------------------------------------------------------------------------


def test_equal_sums_are_one_object() -> None:
    i, j = axes((4, 5))
    one, other = (i * 5 + j) * 2 + 3, j * 2 + i * 10 + (2 + position(1))
    assert one is not other
    assert linear(one).key() == linear(other).key()
    assert linear(one).terms == {i.scalar(): 10, j.scalar(): 2}
    assert linear(one).constant == 3
    assert linear(linear(one).scalar()).scalar() is linear(one).scalar()
    assert linear(one).key() != linear(one + 1).key()
    assert linear(one).key() != linear(one + i.scalar()).key()


def test_what_cancels_is_gone() -> None:
    i, j = axes((4, N))
    assert linear(i * 3 - i.scalar() * 3).terms == {}
    assert linear(i + j - i.scalar()).terms == {j.scalar(): 1}
    backwards = -i.scalar()
    assert linear(-backwards).terms == {i.scalar(): 1}
    assert linear(i * 0).scalar() is position(0)
    assert linear(j * N - N * j + 4).scalar() is position(4)


def test_sizes_are_coefficients() -> None:
    i, j = axes((M, N))
    form = linear((i * N + j) * 3 + position(N))
    assert form.terms[i.scalar()] == 3 * N
    assert form.terms[j.scalar()] == 3
    assert form.constant == N
    assert linear(i * (N * M)).terms[i.scalar()] == N * M
    assert linear(i * (N + 1) - i * N).terms == {i.scalar(): 1}


def test_a_product_of_positions_is_an_atom() -> None:
    i, j = axes((4, 5))
    form = linear(i * j + i)
    assert form.terms == {i.scalar() * j.scalar(): 1, i.scalar(): 1}
    assert form.coefficient(i) is None
    assert form.coefficient(j) is None


def test_what_is_not_arithmetic_is_an_atom() -> None:
    i, j = axes((4, 5))
    read = load(0, "int64", i)
    form = linear(read * 7 + j)
    assert form.terms == {read: 7, j.scalar(): 1}
    assert form.coefficient(i) is None
    assert form.coefficient(j) == 1
    chosen = m.select(i < 2, i.scalar(), j.scalar())
    assert linear(chosen + chosen).terms == {chosen: 2}


# -- division --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [7, N, N * M, N * 3])
def test_a_flat_position_is_taken_apart(n: int | Dim) -> None:
    i, j = axes((M, n))
    flat, by = i * n + j, position(n)
    assert linear(flat // by).scalar() is i.scalar()
    assert linear(flat % by).scalar() is j.scalar()
    assert linear((flat + by) // by).key() == linear(i + 1).key()
    assert linear((flat // by) * by + flat % by).key() == linear(flat).key()


def test_three_axes_are_taken_apart() -> None:
    i, j, k = axes((M, N, 5))
    flat = (i * N + j) * 5 + k
    assert linear(flat // position(5 * N)).scalar() is i.scalar()
    assert linear((flat // 5) % position(N)).scalar() is j.scalar()
    assert linear(flat % 5).scalar() is k.scalar()


def test_numbers_are_divided_with_floor() -> None:
    assert linear(position(-7) // position(2)).constant == -4
    assert linear(position(-7) % position(2)).constant == 1
    (i,) = axes((2,))
    assert linear((i - 4) // position(2)).key() == linear(position(-2)).key()
    assert linear((i + 9) % position(2)).key() != linear(i.scalar()).key()


def test_a_rest_that_reaches_the_divisor_stays() -> None:
    i, j = axes((M, 8))
    assert linear((i * 7 + j) // 7).key() != linear(i.scalar()).key()
    assert linear((i * 7 + j) % 7).key() != linear(j.scalar()).key()
    assert linear((i * 7 - j) // 7).key() != linear(i.scalar()).key()
    assert linear((i * N + j) // position(N)).key() != linear(i.scalar()).key()


def test_no_size_is_divided_by_what_may_be_nothing() -> None:
    zero = dim("linear_or_none", min=0)
    i, j = axes((M, zero))
    flat = (i * zero + j) // position(zero)
    assert linear(flat).key() != linear(i.scalar()).key()


def test_quotient_and_rest_go_together_again() -> None:
    (i,) = axes((100,))
    quotient, rest = i // 7, i % 7
    assert linear(quotient * 7 + rest).scalar() is i.scalar()
    assert linear(rest * 3 + quotient * 21 + 2).key() == linear(i * 3 + 2).key()
    assert linear(quotient * 7 + rest * 2).key() != linear(i.scalar()).key()
    assert linear(quotient * 7 - rest).key() != linear(i.scalar()).key()
    by_size = (i // N) * position(N) + i % N
    assert linear(by_size).scalar() is i.scalar()
    nested = (quotient // 3) * 21 + (quotient % 3) * 7 + rest
    assert linear(nested).scalar() is i.scalar()


def test_quotient_and_rest_by_a_position() -> None:
    i, j = axes((100, 5))
    quotient, rest = i.scalar() // j.scalar(), i.scalar() % j.scalar()
    form = linear(quotient * 3 + rest)
    assert form.terms == {quotient: 3, rest: 1}
    sums = i.scalar() // (j + 1), i.scalar() % (j + 1)
    assert linear(sums[0] + sums[1]).terms == {sums[0]: 1, sums[1]: 1}


def test_no_coefficient_inside_a_quotient() -> None:
    i, j = axes((100, 5))
    form = linear((i // 7) * 3 + j * 2 + 1)
    assert form.coefficient(i) is None
    assert form.coefficient(j) == 2
    assert form.coefficient(axis(9)) == 0
    assert form.without(j).key() == linear((i // 7) * 3 + 1).key()
    assert linear(i % 7 + i).coefficient(i) is None


def test_the_largest_value() -> None:
    i, j = axes((4, N))
    assert highest(linear(i * 5 + 2)) == 17
    assert highest(linear(i + j)) == N + 2
    assert highest(linear(axis(100) % 7)) == 6
    assert highest(linear(i - 1)) is None
    assert highest(linear(i * -1)) is None
    assert highest(Linear({load(0, "int64", 0): 1})) is None


# -- rebuilding ------------------------------------------------------------------------------------


def test_substitution_keeps_what_does_not_change() -> None:
    i, j = axes((4, 5))
    kept, other = i * 3 + 1, j * 2
    done = replaced([kept + other, kept], {j.scalar(): i.scalar()})
    assert done[kept] is kept
    assert done[kept + other] is kept + i * 2
    seen: list[Scalar] = []

    def look(node: Scalar, args: tuple[Scalar, ...]) -> None:
        seen.append(node)

    substitute([kept + kept], look)
    assert sum(node is kept for node in seen) == 1


# -- what a form means -----------------------------------------------------------------------------

_AXES = (*axes((2, 3, 5), "ijk"), axis(N, "n"), axis(M, "m"), axis(N * M, "p"))


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> Scalar:
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(
            st.one_of(
                st.sampled_from(_AXES).map(lambda one: one.scalar()),
                st.sampled_from([N, M, N * M, N + 1]).map(position),
                st.integers(-9, 30).map(lambda number: const(number, "int64")),
            )
        )
    op = draw(st.sampled_from(["add", "add", "sub", "neg", "mul", "idiv", "imod", "apart"]))
    first = draw(expressions(depth - 1))
    if op == "neg":
        return -first
    if op == "apart":  # what `_rejoined` looks for
        by = draw(st.sampled_from([2, 3, 7, N, N * M, _AXES[3]]))
        factor = draw(st.integers(1, 3))
        divisor = position(by)
        return (first // divisor) * divisor * factor + (first % divisor) * factor
    second = draw(expressions(depth - 1))
    if op in ("idiv", "imod") and draw(st.booleans()):
        second = position(draw(st.sampled_from([1, 2, 3, 5, 7, N, M, N * M])))
    return {
        "add": lambda: first + second,
        "sub": lambda: first - second,
        "mul": lambda: first * second,
        "idiv": lambda: first // second,
        "imod": lambda: first % second,
    }[op]()


@given(expressions(), st.integers(1, 6), st.integers(1, 6), st.data())
@settings(max_examples=300)
def test_a_form_means_what_it_was_made_from(
    root: Scalar, n: int, m_: int, data: st.DataObject
) -> None:
    env = {N: n, M: m_}
    form = linear(root)
    rebuilt = form.scalar()
    for _ in range(4):
        at = {}
        for one in _AXES:
            extent = one.extent if isinstance(one.extent, int) else evaluate(one.extent, env)
            at[one] = data.draw(st.integers(0, extent - 1), label=str(one))
        wanted = value_of(root, at, env)
        assert value_of(rebuilt, at, env) == wanted
        top = highest(form)
        if top is not None:
            assert 0 <= wanted <= (top if isinstance(top, int) else evaluate(top, env))
        for one in _AXES:
            step = form.coefficient(one)
            if step is None or at[one] == 0:
                continue
            before = value_of(rebuilt, {**at, one: at[one] - 1}, env)
            assert wanted - before == (step if isinstance(step, int) else evaluate(step, env))
            without = value_of(form.without(one).scalar(), at, env)
            assert without == value_of(rebuilt, {**at, one: 0}, env)
    again = linear(rebuilt)
    assert value_of(again.scalar(), at, env) == wanted
