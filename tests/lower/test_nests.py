"""Loop nests: their invariants, their meaning, and what flattening and loops make of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from symgraph.dims import Dim, dim
from symgraph.errors import LoweringError
from symgraph.graph.graph import Graph
from symgraph.graph.index import MAX, SUM, Axis, Compute, axes, axis, load, m, position, reduce
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.scalar import Scalar, scalar
from symgraph.graph.types import TupleType
from symgraph.lower.flatten import collapse, flatten, offsets, share_reductions, unroll
from symgraph.lower.fuse import fuse
from symgraph.lower.linear import linear
from symgraph.lower.loops import For, Let, Put, Reduce, Statement, Tasks, loops
from symgraph.lower.nest import (
    Buffer,
    Element,
    Nest,
    Store,
    buffer,
    free_axes,
    from_compute,
    place,
    plain_strides,
    run,
    sizes_of,
    verify,
)
from symgraph.lower.program import build
from symgraph.lower.schedule import LONG, choose, split
from tests.ops.registry_cases import CASES, Case
from tests.ops.registry_cases import build as build_case
from tests.tolerances import assert_close, class_of

# sizes of one name are one size in the whole process: these names are of this file alone
A, N, M = dim("nest_rows"), dim("nest_columns"), dim("nest_other")
NOMINAL = {A: 300, N: 1000}


def read(source: Buffer, *index: Any, guard: Scalar | None = None, fill: float = 0) -> Scalar:
    """Load an element of a buffer."""
    args = [position(one) for one in index] + ([] if guard is None else [guard])
    return scalar("load", args, source.dtype, Element(source, fill, guard is not None))


def nest_of(target: Buffer, out: Sequence[Axis], value: Scalar) -> Nest:
    """Make a nest of one store, `target[out] = value`."""
    own = tuple(out)
    return Nest("made", own, (Store(target, own, tuple(a.scalar() for a in own), value),))


def definitions(outputs: Any, inputs: Sequence[Value]) -> list[Nest]:
    """Give the nests of everything fused that computes outputs without a library."""
    values = [outputs] if isinstance(outputs, Value) else list(outputs)
    order = fuse(build(Graph(inputs, values)), NOMINAL)
    return [item.nest() for item in order.nodes]


def only(outputs: Any, *inputs: Value) -> Nest:
    """Give the one nest of outputs."""
    (found,) = definitions(outputs, inputs)
    return found


def flat(nest: Nest) -> Nest:
    """Flatten a nest that stays one."""
    nests, between = flatten(nest, NOMINAL)
    assert between == []
    return nests[0]


def reduces(nest: Nest) -> list[Scalar]:
    return [node for node in nest.order() if node.op == "reduce"]


def statements(nest: Nest) -> tuple[Statement, ...]:
    """Schedule a flattened nest."""
    return loops(nest, choose(nest, NOMINAL))


def walk(body: Sequence[Statement]) -> Iterator[Statement]:
    """Give all statements, outer ones first."""
    for one in body:
        yield one
        if isinstance(one, Tasks | For):
            yield from walk(one.body)
        elif isinstance(one, Reduce):
            yield from walk([one.loop])


def innermost(body: Sequence[Statement]) -> list[For]:
    """Give the loops in which no other loop stands."""
    every = [one for one in walk(body) if isinstance(one, For)]
    return [one for one in every if not any(isinstance(s, For | Reduce) for s in one.body)]


# -- invariants ------------------------------------------------------------------------------------


def _parts() -> tuple[Buffer, Buffer, Axis, Axis]:
    i, j = axes((4, 5), "ij")
    return buffer("a", "float32", (4, 5)), buffer("out", "float32", (4, 5)), i, j


def test_a_sound_nest_is_accepted() -> None:
    a, out, i, j = _parts()
    verify(nest_of(out, (i, j), read(a, i, j) + read(a, i, 0)))
    row = buffer("row", "float32", (4,))
    total = reduce(SUM, (k := axis(5, "k"),), read(a, i, k))
    short = Store(row, (i,), (i.scalar(),), total)
    verify(Nest("both", (i, j), (Store(out, (i, j), (i.scalar(), j.scalar()), total), short)))


def _broken() -> dict[str, tuple[Nest, str]]:
    a, out, i, j = _parts()
    at, k = (i.scalar(), j.scalar()), axis(5, "k")
    value = read(a, i, j)
    return {
        "axis of another nest": (Nest("x", (i,), (Store(out, (i, j), at, value),)), "axis of"),
        "short index of a store": (
            Nest("x", (i, j), (Store(out, (i, j), at[:1], value),)),
            "written with a wrong index",
        ),
        "value on an axis that is not stored": (
            Nest("x", (i, j), (Store(out, (i,), (at[0], position(0)), value),)),
            "does not fix j",
        ),
        "value on no axis of the nest": (nest_of(out, (i, j), read(a, i, k)), "does not fix k"),
        "reduction that leaks its axis": (
            nest_of(out, (i, j), reduce(SUM, (k,), read(a, i, k)) + read(a, i, k)),
            "does not fix k",
        ),
        "dtype": (nest_of(out, (i, j), m.cast(value, "float64")), "its value float64"),
        "stored twice": (
            Nest("x", (i, j), (Store(out, (i, j), at, value), Store(out, (i, j), at, value))),
            "stored twice",
        ),
        "operand without a buffer": (nest_of(out, (i, j), load(0, "float32", i, j)), "no buffer"),
        "short index of a load": (nest_of(out, (i, j), read(a, i)), "read with a wrong index"),
        "guard in the place of an index": (
            nest_of(out, (i, j), read(a, i, guard=i < 2)),
            "read with a wrong index",
        ),
        "in place but elsewhere": (
            nest_of(out, (i, j), read(out, i, (j + 1) % 5)),
            "read elsewhere",
        ),
        "in place but turned": (nest_of(out, (i, j), read(out, j, i)), "read elsewhere"),
    }


@pytest.mark.parametrize("kind", list(_broken()))
def test_what_is_broken_is_refused(kind: str) -> None:
    nest, text = _broken()[kind]
    with pytest.raises(LoweringError, match=text):
        verify(nest)


def test_a_nest_may_read_what_it_writes_at_the_same_place() -> None:
    _, out, i, j = _parts()
    verify(nest_of(out, (i, j), read(out, i, j) * 2))
    verify(nest_of(out, (i, j), read(out, i, (j * 2) // position(2))))


def test_strides_are_row_major() -> None:
    assert plain_strides((2, 3, 4)) == (12, 4, 1)
    assert plain_strides((2, N, 4)) == (4 * N, 4, 1)
    assert plain_strides(()) == ()
    turned = buffer("a", "float32", (4, N))
    turned.strides = (1, 4)
    i, j = axes((4, N))
    assert place(read(turned, i + 2, j)).terms == {i.scalar(): 1, j.scalar(): 4}
    assert place(read(turned, i + 2, j)).constant == 2


def test_the_sizes_of_a_nest() -> None:
    a = buffer("a", "float32", (N, M))
    i = axis(3)
    nest = nest_of(buffer("out", "float32", (3,)), (i,), read(a, i, 0))
    assert sizes_of(nest) == {M}
    longer = reduce(SUM, (k := axis(N),), read(a, k, i))
    assert sizes_of(nest_of(buffer("out", "float32", (3,)), (i,), longer)) == {N, M}


# -- meaning ---------------------------------------------------------------------------------------


def computed(case: Case) -> Iterator[tuple[Value, Compute]]:
    for node in build_case(case).nodes():
        expansion = node.op.expand(F, *node.inputs)
        if isinstance(expansion, Compute):
            yield node, expansion


NAMES = sorted({case.name for case in CASES if not case.composite and any(computed(case))})


@pytest.mark.parametrize("name", NAMES)
def test_a_nest_means_what_the_operation_does(name: str) -> None:
    """As it is made, and with its windows written out and its reductions' axes shared."""
    for case in (case for case in CASES if case.name == name):
        built = build_case(case)
        seen = built.run()
        for node in built.nodes():
            expansion = node.op.expand(F, *node.inputs)
            if not isinstance(expansion, Compute):
                continue
            sources = [buffer(f"x{i}", x.dtype, x.shape) for i, x in enumerate(node.inputs)]
            types = node.type.types if isinstance(node.type, TupleType) else (node.type,)
            targets = [buffer(f"y{i}", one.dtype, one.shape) for i, one in enumerate(types)]
            arrays = {one: seen[x] for one, x in zip(sources, node.inputs)}
            expected = seen[node] if isinstance(seen[node], tuple) else (seen[node],)
            nests = from_compute(name, expansion, sources, targets)
            for nest, target, wanted in zip(nests, targets, expected, strict=True):
                verify(nest)
                for variant in (nest, unroll(nest), share_reductions(unroll(nest))):
                    verify(variant)
                    found = run(variant, arrays, built.env)[target]
                    assert_close(found, wanted, class_of(name), case.id)


def test_a_nest_with_limits_has_no_meaning_in_numpy() -> None:
    a, out, i, j = _parts()
    nest = nest_of(out, (i, j), read(a, i, j))
    with pytest.raises(LoweringError, match="limits"):
        run(Nest(nest.name, nest.axes, nest.stores, {j: i.scalar()}), {}, {})


# -- flattening ------------------------------------------------------------------------------------


def test_an_elementwise_nest_has_one_axis_left() -> None:
    x = tensor("x", (A, N, 7))
    y = tensor("y", (A, N, 7))
    nest = flat(only(F.exp(x) * y + 1, x, y))
    (one,) = nest.axes
    assert one.extent == A * N * 7
    assert all(linear(n.args[0]).terms == {one.scalar(): 1} for n in nest.order() if n.op == "load")
    turned = flat(only(F.exp(x) + F.swapaxes(F.swapaxes(y, 0, 2), 0, 2), x, y))
    assert len(turned.axes) == 1


def test_a_turned_operand_keeps_its_axes_apart() -> None:
    x, y = tensor("x", (4, 6, 5)), tensor("y", (6, 4, 5))
    nest = flat(only(x + F.permute_dims(y, (1, 0, 2)), x, y))
    assert [one.extent for one in nest.axes] == [4, 6, 5]
    x, y = tensor("x", (4, 6, 5)), tensor("y", (6, 5, 4))
    nest = flat(only(x + F.permute_dims(y, (2, 0, 1)), x, y))
    assert [one.extent for one in nest.axes] == [4, 30]


def test_a_bias_of_channels_leaves_three_axes() -> None:
    x, b = tensor("x", (N, 8, 6, 7)), tensor("b", (8,))
    nest = flat(only(x + F.reshape(b, (1, 8, 1, 1)), x, b))
    assert [one.extent for one in nest.axes] == [N, 8, 42]
    last = tensor("c", (7,))
    nest = flat(only(x + last, x, last))
    assert [one.extent for one in nest.axes] == [48 * N, 7]


def test_axes_of_a_reduction_are_joined() -> None:
    x = tensor("x", (3, 5, 7, 9))
    nest = flat(only(F.sum(x, axis=(2, 3)), x))
    (node,) = reduces(nest)
    assert [one.extent for one in node.attr.axes] == [63]
    assert [one.extent for one in nest.axes] == [15]
    nest = flat(only(F.sum(x, axis=(0, 2, 3)), x))
    (node,) = reduces(nest)
    assert sorted(one.extent for one in node.attr.axes) == [3, 63]


@pytest.mark.parametrize("shape", [(3, 4), (3, 1, 4), (1, 1), (6,)])
def test_flattening_keeps_the_meaning(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """With one offset a load, a nest is run by reading flat arrays."""
    x = tensor("x", shape)
    outputs = [F.softmax(x, axis=-1), F.sum(F.exp(x), axis=0), F.flip(x) * x, F.argmax(x, axis=0)]
    array = rng.standard_normal(shape).astype(np.float32)
    for output in outputs:
        expected = interpret([output], {x: array}, {})[0]
        (nest,) = definitions(output, [x])
        found = run_flat(flat(nest), array)
        np.testing.assert_allclose(found.reshape(expected.shape), expected, 1e-6)


def run_flat(nest: Nest, *arrays: Any) -> Any:
    """Compute a nest whose loads and stores have one offset."""
    (store,) = nest.stores
    sources = nest.reads()
    assert len(sources) <= len(arrays)  # a position along one element needs none
    flat_of = {one: buffer(one.name, one.dtype, (a.size,)) for one, a in zip(sources, arrays)}
    done = {}
    for node in nest.order():
        args = tuple(done[argument] for argument in node.args)
        attr = node.attr
        if node.op == "load":
            attr = Element(flat_of[attr.buffer], attr.fill, attr.guarded)
        done[node] = scalar(node.op, args, node.dtype, attr)
    target = buffer("out", store.buffer.dtype, (int(np.prod(store.buffer.shape)),))
    moved = Store(target, store.axes, (done[store.index[0]],), done[store.value])
    given = {flat_of[one]: a.ravel() for one, a in zip(sources, arrays)}
    return run(Nest(nest.name, nest.axes, (moved,)), given, {})[target]


# -- windows ---------------------------------------------------------------------------------------


def test_small_windows_are_written_out() -> None:
    x = tensor("x", (2, 9, 6, 6))
    nest = only(F.local_response_norm(x, 5), x)
    assert reduces(nest)
    assert reduces(unroll(nest)) == []
    assert reduces(flat(nest)) == []
    image = tensor("image", (2, 3, 12, 12))
    pooled = unroll(only(F.max_pool2d(image, 3, stride=2), image))
    assert reduces(pooled) == []
    assert len([n for n in pooled.order() if n.op == "load"]) == 9


def test_long_windows_and_rows_stay_loops() -> None:
    x = tensor("x", (2, 9, 12, 12))
    large = unroll(only(F.max_pool2d(x, 6, stride=1), x))
    assert len(reduces(large)) == 1
    rows = tensor("rows", (4, 9))
    assert len(reduces(unroll(only(F.sum(rows, axis=1), rows)))) == 1
    short = tensor("short", (4, 3))
    assert reduces(unroll(only(F.sum(short, axis=1), short))) == []
    symbolic = tensor("symbolic", (4, N))
    assert len(reduces(unroll(only(F.sum(symbolic, axis=1), symbolic)))) == 1


def test_a_window_with_two_results_is_written_out(rng: np.random.Generator) -> None:
    x = tensor("x", (3, 4))
    nest = only(F.argmax(x, axis=1), x)
    assert any(node.op == "take" for node in nest.order())
    written = unroll(nest)
    assert not any(node.op in ("take", "reduce", "parts") for node in written.order())
    array = rng.integers(0, 2, (3, 4)).astype(np.float32)
    array[2, 1] = np.nan
    found = run_flat(flat(nest), array)
    np.testing.assert_array_equal(found, array.argmax(axis=1))


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
