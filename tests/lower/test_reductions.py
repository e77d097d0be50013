"""Loop nests: which reductions share a loop, and which are cut into parts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.dims import Dim
from symgraph.graph.index import MAX, SUM, axes, axis, m, reduce
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.scalar import Scalar
from symgraph.lower.flatten import collapse, flatten, offsets, share_reductions, unroll
from symgraph.lower.linear import linear
from symgraph.lower.loops import For, Let, Put, Reduce, Statement, Tasks
from symgraph.lower.nest import (
    Nest,
    buffer,
    free_axes,
    run,
    verify,
)
from symgraph.lower.schedule import choose
from symgraph.lower.split import LONG, split
from tests.lower.nests import (
    NOMINAL,
    A,
    N,
    definitions,
    flat,
    innermost,
    nest_of,
    only,
    read,
    reduces,
    statements,
    walk,
)

# -- reductions that share a loop ------------------------------------------------------------------


def test_equal_reductions_get_one_axis() -> None:
    x = tensor("x", (A, N))
    outputs = [F.sum(x, axis=1), F.sum(x * x, axis=1), F.max(x, axis=1)]
    nest = only(outputs, x)
    assert len({n.attr.axes for n in reduces(nest)}) == 3
    shared = share_reductions(nest)
    assert len({n.attr.axes for n in reduces(shared)}) == 1


def test_siblings_share_one_loop() -> None:
    x = tensor("x", (A, N))
    body = statements(flat(only([F.sum(x, axis=1), F.sum(x * x, axis=1)], x)))
    (node,) = [one for one in walk(body) if isinstance(one, Reduce)]
    assert len(node.reduces) == 2
    assert len([one for one in walk(body) if isinstance(one, Put)]) == 2


def test_softmax_has_three_loops() -> None:
    x = tensor("x", (64, 1000))
    body = statements(flat(only(F.softmax(x, axis=1), x)))
    order = [one for one in walk(body) if isinstance(one, Reduce | Put)]
    assert [type(one) for one in order] == [Reduce, Reduce, Put]
    assert [one.reduces[0].attr.monoid for one in order[:2]] == [MAX, SUM]
    assert len(innermost(body)) == 3
    assert all(one.lanes > 1 for one in innermost(body))
    assert [one.axis.extent for one in innermost(body)] == [1000] * 3
    (tasks,) = [one for one in body if isinstance(one, Tasks)]
    assert [one.extent for one in tasks.axes] == [64]


def test_values_are_computed_where_all_their_axes_are_open() -> None:
    x = tensor("x", (64, 1000))
    nest = flat(only(F.softmax(x, axis=1), x))
    body = statements(nest)
    open_at: dict[Scalar, int] = {}

    def visit(statements: Sequence[Statement], depth: int) -> None:
        for one in statements:
            if isinstance(one, Let):
                assert one.value not in open_at or open_at[one.value] == depth
                open_at[one.value] = depth
            elif isinstance(one, Tasks | For):
                visit(one.body, depth + 1)
            elif isinstance(one, Reduce):
                visit([one.loop], depth)

    visit(body, 0)
    free = free_axes(nest.order())
    for node, depth in open_at.items():
        assert depth == len(free[node]) or node.op in ("const", "axis", "size"), node


def test_layer_norm_has_three_loops_and_two_of_them_reduce() -> None:
    x, g, b = tensor("x", (64, 1000)), tensor("g", (1000,)), tensor("b", (1000,))
    body = statements(flat(only(F.layer_norm(x, g, b), x, g, b)))
    found = [type(one) for one in walk(body) if isinstance(one, Reduce | Put)]
    assert found == [Reduce, Reduce, Put]
    assert len(innermost(body)) == 3


def test_axes_are_not_captured() -> None:
    """A reduction inside another over an equal extent keeps an axis of its own."""
    a, out = buffer("a", "float32", (6, 6)), buffer("out", "float32", ())
    i, j = axes((6, 6), "ij")
    value = reduce(SUM, (i,), reduce(MAX, (j,), read(a, i, j)))
    shared = share_reductions(nest_of(out, (), value))
    outer, inner = reversed(reduces(shared))
    assert not set(outer.attr.axes) & set(inner.attr.axes)
    array = np.arange(36, dtype=np.float32).reshape(6, 6)[::-1] % 7
    assert run(shared, {a: array}, {})[out] == array.max(axis=1).sum()


def test_a_reduction_that_depends_on_another_reductions_axis() -> None:
    """sum over i of a[i] * max over j of b[i, j], beside a sum over j alone."""
    a, b = buffer("a", "float32", (5,)), buffer("b", "float32", (5, 5))
    out = buffer("out", "float32", (5,))
    k = axis(5, "k")
    i, j, p = axes((5, 5, 5), "ijp")
    high = reduce(MAX, (j,), read(b, i, j) * read(a, k))
    mixed = reduce(SUM, (i,), read(a, i) * high)
    plain = reduce(SUM, (p,), read(b, k, p))
    nest = nest_of(out, (k,), mixed + plain)
    rng = np.random.default_rng(4)
    arrays = {a: rng.uniform(1, 2, 5).astype("f"), b: rng.standard_normal((5, 5)).astype("f")}
    expected = run(nest, arrays, {})[out]
    shared = share_reductions(nest)
    verify(shared)
    np.testing.assert_allclose(run(shared, arrays, {})[out], expected, 1e-6)
    by_hand = [
        sum(arrays[a][r] * (arrays[b][r] * arrays[a][q]).max() for r in range(5))
        + arrays[b][q].sum()
        for q in range(5)
    ]
    np.testing.assert_allclose(expected, by_hand, 1e-5)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_axes_of_topk_are_not_captured(k: int, rng: np.random.Generator) -> None:
    array = rng.integers(0, 4, (6, 6)).astype(np.float32)
    x = tensor("x", (6, 6))
    for output in F.topk(x, k):
        expected = interpret([output], {x: array}, {})[0]
        for nest in definitions(output, [x]):
            shared = share_reductions(unroll(nest))
            verify(shared)
            found = run(shared, dict.fromkeys(shared.reads(), array), {})
            (result,) = found.values()
            np.testing.assert_array_equal(result, expected)


def test_limits_keep_their_axes() -> None:
    a, out = buffer("a", "float32", (6, 6)), buffer("out", "float32", (6,))
    i, j, k = axes((6, 6, 6), "ijk")
    value = reduce(SUM, (j,), read(a, i, j)) + reduce(SUM, (k,), read(a, i, k) * 2)
    nest = nest_of(out, (i,), value)
    limited = Nest(nest.name, nest.axes, nest.stores, {j: i.scalar()})
    kept = [node.attr.axes for node in reduces(share_reductions(limited))]
    assert (j,) in kept
    assert len(set(kept)) == 2


# -- long reductions -------------------------------------------------------------------------------


def parts_of(call: Callable[[Value], Value], shape: Sequence[Any]) -> list[Nest]:
    x = tensor("x", shape)
    nest = share_reductions(unroll(only(call(x), x)))
    return split(nest, NOMINAL)[0]


@pytest.mark.parametrize(
    ("call", "shape", "parted"),
    [
        pytest.param(lambda x: F.sum(x), (1000, 1000), True, id="everything"),
        pytest.param(lambda x: F.sum(x, axis=0), (100000, 8), True, id="long columns"),
        pytest.param(lambda x: F.argmax(x), (1000, 1000), True, id="position"),
        pytest.param(lambda x: F.sum(x, axis=(0, 2, 3)), (64, 16, 32, 32), True, id="channels"),
        pytest.param(lambda x: F.sum(x, axis=1), (1000, 1000), False, id="rows"),
        pytest.param(lambda x: F.sum(x, axis=0), (1000, 1000), False, id="many columns"),
        pytest.param(lambda x: F.sum(x), (100, 100), False, id="short"),
        pytest.param(lambda x: F.softmax(x, axis=0), (100000,), False, id="one in another"),
        pytest.param(lambda x: F.exp(x), (1000, 1000), False, id="none"),
    ],
)
def test_which_reductions_are_cut(
    call: Callable[[Value], Value], shape: tuple[int, ...], parted: bool
) -> None:
    assert (len(parts_of(call, shape)) == 2) == parted


def test_what_is_the_same_along_an_axis_is_not_cut_there() -> None:
    """The longest axis is walked by nothing that is read."""
    a, out = buffer("a", "float32", (300,)), buffer("out", "float32", ())
    i, j = axes((300, 5000), "ij")
    nests, _ = split(nest_of(out, (), reduce(SUM, (i, j), read(a, i))), NOMINAL)
    ((inner, _),) = nests[0].limits.items()
    assert inner.extent == 5
    assert {one.extent for one in reduces(nests[0])[0].attr.axes} == {5, 5000}


def test_reductions_over_different_axes_are_cut_apart() -> None:
    a, b = buffer("a", "float32", (5000, 8)), buffer("b", "float32", (90000, 8))
    out = buffer("out", "float32", (8,))
    i, j, k = axes((8, 5000, 90000), "ijk")
    value = reduce(SUM, (j,), read(a, j, i)) + reduce(SUM, (k,), read(b, k, i))
    nests, between = split(nest_of(out, (i,), value), NOMINAL)
    assert [nest.name for nest in nests] == ["made_parts", "made_parts", "made"]
    assert len(between) == 2
    verify(nests[-1])


def test_parts_give_what_the_whole_gives() -> None:
    x, y = tensor("x", (5000, 8)), tensor("y", (90000, 8))
    rng = np.random.default_rng(0)
    arrays = [rng.random(one.shape, np.float32) for one in (x, y)]
    outputs = [
        x.sum(axis=0) - y.max(axis=0),
        F.sum(F.broadcast_to(x[:, :1], (5000, 3000))),
        y.sum(axis=0, keepdims=True),
    ]
    found = sg.function([x, y], outputs, backend="cpu", passes=[])(*arrays)
    for one, wanted in zip(found, interpret(outputs, dict(zip((x, y), arrays)), {})):
        np.testing.assert_allclose(one, wanted, rtol=1e-4)


def test_axes_of_one_position_do_not_keep_a_reduction_whole() -> None:
    x = tensor("x", (64, 16, 32, 32))
    nest = only(F.sum(x, axis=(0, 2, 3), keepdims=True), x)
    assert len(nest.axes) == 4
    assert len(flatten(nest, NOMINAL)[0]) == 2


def test_the_number_of_parts_depends_on_sizes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for cores in (1, 3, 64):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        monkeypatch.setattr("os.sched_getaffinity", lambda who, cores=cores: set(range(cores)))
        first, second = parts_of(lambda x: F.sum(x), (1000, 1000))
        found.append((first.axes[0].extent, reduces(first)[0].attr.axes[0].extent))
        assert [one.extent for one in reduces(second)[0].attr.axes] == [found[-1][0]]
    assert len(set(found)) == 1
    fewer = parts_of(lambda x: F.sum(x), (LONG, 2))[0]
    assert fewer.axes[0].extent < found[0][0]


def test_parts_cover_everything_once() -> None:
    (first, second) = parts_of(lambda x: F.sum(x), (1003, N))
    ((inner, limit),) = first.limits.items()
    part = first.axes[0]
    assert isinstance(part.extent, int)
    assert isinstance(inner.extent, int | Dim)
    form = linear(limit)
    assert set(form.terms) == {part.scalar()}
    outer = reduces(second)[0].attr.axes[0]
    assert outer.extent == part.extent
    chunk, total = -form.terms[part.scalar()], form.constant  # type: ignore[operator]
    assert total == 1003
    assert chunk == inner.extent
    covered = itertools.chain.from_iterable(
        range(p * chunk, p * chunk + max(0, min(chunk, total - p * chunk)))
        for p in range(part.extent)
    )
    assert list(covered) == list(range(1003))


def test_the_vector_axis_does_not_end_a_loop_early() -> None:
    """A limit is one number: it must not depend on the axis of the lanes."""
    x = tensor("x", (2000, 1000))
    for outputs in ([F.sum(x), F.sum(x * x)], [F.argmax(x)], [F.sum(x)]):
        nests, _ = flatten(only(outputs, x), {})
        for nest in nests:
            schedule = choose(nest, {})
            free = free_axes(nest.order())
            for limit in nest.limits.values():
                assert schedule.vector not in free[limit]


# -- offsets and order -----------------------------------------------------------------------------


def test_offsets_are_affine_and_verify_is_for_plain_nests() -> None:
    a = buffer("a", "float32", (4, 5))
    out = buffer("out", "float32", (4, 5))
    i, j = axes((4, 5), "ij")
    nest = nest_of(out, (i, j), read(a, (i * 5 + j) // 5, j) + m.cast(i * 2 + i, "float32"))
    done = offsets(nest)
    (node,) = [n for n in done.order() if n.op == "load"]
    assert len(node.args) == 1
    assert linear(node.args[0]).terms == {i.scalar(): 5, j.scalar(): 1}
    assert done.stores[0].index[0] is node.args[0]
    assert not any(n.op in ("idiv", "imod") for n in done.order())


def test_axes_go_by_falling_stride() -> None:
    out = buffer("out", "float32", (4, 5, 6))
    out.strides = (1, 24, 4)
    i, j, k = axes((4, 5, 6), "ijk")
    a = buffer("a", "float32", (4,))
    nest = collapse(offsets(nest_of(out, (i, j, k), read(a, i))))
    assert [one.extent for one in nest.axes] == [30, 4]
    a.strides = (2,)
    dense = buffer("dense", "float32", (4, 5, 6))
    dense.strides = out.strides
    one = collapse(offsets(nest_of(out, (i, j, k), read(dense, i, j, k))))
    assert [axis.extent for axis in one.axes] == [120]
