"""Loop nests: their invariants, their meaning, and what flattening and loops make of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from symgraph.errors import LoweringError
from symgraph.graph.body import nested
from symgraph.graph.index import SUM, Axis, Compute, axes, axis, load, m, position, reduce
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value
from symgraph.graph.onhost import on_host
from symgraph.graph.registry import F
from symgraph.graph.scalar import scalar
from symgraph.graph.types import TupleType
from symgraph.lower.flatten import share_reductions, unroll
from symgraph.lower.linear import linear
from symgraph.lower.nest import (
    Buffer,
    Element,
    Nest,
    Store,
    buffer,
    from_compute,
    place,
    plain_strides,
    run,
    sizes_of,
    verify,
)
from tests.lower.nests import (
    A,
    M,
    N,
    definitions,
    flat,
    nest_of,
    only,
    read,
    reduces,
)
from tests.ops.registry_cases import CASES, Built
from tests.ops.registry_cases import build as build_case
from tests.tolerances import assert_close, class_of

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


def computed(built: Built) -> Iterator[tuple[Value, Compute]]:
    for node in built.nodes():
        if on_host(node) or nested(node.op):
            continue
        expansion = node.op.expand(F, *node.inputs)
        if isinstance(expansion, Compute):
            yield node, expansion


NAMES = sorted(
    {case.name for case in CASES if not case.composite and any(computed(build_case(case)))}
)


@pytest.mark.parametrize("name", NAMES)
def test_a_nest_means_what_the_operation_does(name: str) -> None:
    """As it is made, and with its windows written out and its reductions' axes shared."""
    for case in (case for case in CASES if case.name == name):
        built = build_case(case)
        seen = built.run()
        for node, expansion in computed(built):
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
