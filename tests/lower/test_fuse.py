"""Fusion: what shares a kernel, what is written in place, and that nothing is read outside."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import networkx as nx
import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.config import config
from symgraph.graph.graph import Graph
from symgraph.graph.index import Axis
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value
from symgraph.graph.scalar import Scalar, scalar_order
from symgraph.lower.fuse import Group, fuse, waits_between
from symgraph.lower.layout import choose_layouts, look_through_views
from symgraph.lower.nest import Nest, free_axes, verify
from symgraph.lower.plan import CallStep, CheckStep, KernelStep, Plan, make_plan
from symgraph.lower.program import LibraryCall, build
from symgraph.runtime.native import NativeExecutor
from tests.tolerances import assert_close

needs_compiler = pytest.mark.skipif(
    bool(unavailable()), reason=unavailable() or "there is a compiler"
)


def fused(
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    updates: Mapping[Shared, Value] | None = None,
    chosen: Callable[[Value], bool] = lambda value: False,
) -> nx.DiGraph:
    """Give what runs, each nest verified."""
    program = build(Graph(inputs, outputs, updates), chosen)
    choose_layouts(program, {})
    look_through_views(program)
    order = fuse(program, {})
    assert nx.is_directed_acyclic_graph(order)
    for item in order:
        if isinstance(item, Group):
            verify(item.nest())
    return order


def groups(order: nx.DiGraph) -> list[Group]:
    return [item for item in order if isinstance(item, Group)]


def plan(
    inputs: Sequence[Value], outputs: Sequence[Value], updates: Mapping[Shared, Value] | None = None
) -> Plan:
    return make_plan(Graph(inputs, outputs, updates), {})


# -- what is computed where it is read -------------------------------------------------------------


def test_a_chain_is_one_kernel() -> None:
    x, y = sg.tensor("x", (30, 40)), sg.tensor("y", (40,))
    (one,) = groups(fused([x, y], [sg.exp(sg.relu(x) + y) * sg.tanh(x) - 3]))
    assert len(one.stores) == 1
    assert len(one.reads()) == 2


def test_a_softmax_takes_its_operand_in() -> None:
    x, y = sg.tensor("x", (64, 100)), sg.tensor("y", (64, 100))
    (one,) = groups(fused([x, y], [sg.softmax(x * 0.5 + y, axis=1)]))
    assert len(one.reads()) == 2
    assert len(plan([x, y], [sg.softmax(x * 0.5 + y, axis=1)]).steps) == 1


def test_views_cost_nothing() -> None:
    x = sg.tensor("x", (4, 6, 5))
    moved = sg.permute_dims(sg.reshape(x, (24, 5)), (1, 0))[1:, ::2][:, :12]
    assert len(groups(fused([x], [moved + 1]))) == 1
    product = moved[:, :4] @ sg.reshape(x, (4, 30))[:, ::2]
    calls = fused([x], [product], chosen=lambda value: value.op.name == "matmul")
    (call,) = [item for item in calls if isinstance(item, LibraryCall)]
    assert [one.strides for one in call.sources] == [(1, 10), (30, 2)]
    assert [one.offset for one in call.sources] == [1, 0]
    assert groups(calls) == []


def test_a_costly_value_with_two_readers_is_computed_once() -> None:
    x = sg.tensor("x", (50, 60))
    costly = sg.exp(sg.tanh(x))
    order = fused([x], [costly.sum(axis=0), costly @ costly.T])
    computed = [
        node for one in groups(order) for s in one.stores for node in _nodes(s.value, "exp")
    ]
    assert len(computed) == 1


def _nodes(value: Scalar, op: str) -> list[Scalar]:
    return [node for node in scalar_order([value]) if node.op == op]


def test_a_cheap_value_with_two_readers_is_computed_twice() -> None:
    x = sg.tensor("x", (50, 60))
    cheap = x + 1
    order = fused([x], [cheap.sum(axis=0), cheap @ cheap.T])
    assert all(store.buffer.shape != (50, 60) for one in groups(order) for store in one.stores)


def test_what_nothing_needs_is_not_computed() -> None:
    x = sg.tensor("x", (50, 60))
    values, places = sg.topk(x, 3)
    order = fused([x], [values])
    assert sum(len(one.stores) for one in groups(order)) == 1
    assert places.ndim == 2


# -- what shares a kernel --------------------------------------------------------------------------


def test_results_of_the_same_operands_share_a_kernel() -> None:
    x = sg.tensor("x", (50, 60))
    (one,) = groups(fused([x], [sg.exp(x), x * 2, sg.tanh(x) + x]))
    assert len(one.stores) == 3
    y = sg.tensor("y", (50, 60))
    assert len(groups(fused([x, y], [sg.exp(x), sg.exp(y)]))) == 2


def test_sums_of_the_same_operand_share_a_kernel() -> None:
    x = sg.tensor("x", (500, 60))
    (one,) = groups(fused([x], [x.sum(axis=1), (x * x).sum(axis=1)]))
    assert len(one.stores) == 2


def test_rows_and_columns_do_not_share_a_kernel() -> None:
    """One of two softmaxes would be computed again for every element."""
    x = sg.tensor("x", (4001, 50))
    for outputs in (
        [sg.softmax(x, axis=0), sg.softmax(x, axis=1)],
        [x - x.max(axis=0), x - x.max(axis=1, keepdims=True)],
        [x - x.max(axis=0) - x.max(axis=1, keepdims=True)],
    ):
        for one in groups(fused([x], outputs)):
            nest = one.nest()
            kept = _kept(nest)
            for first in kept:
                assert all(first <= other or other <= first for other in kept)


def _kept(nest: Nest) -> set[frozenset[Axis]]:
    order = nest.order()
    free = free_axes(order)
    return {free[node] & set(nest.axes) for node in order if node.op == "reduce"}


def test_a_cycle_is_not_made() -> None:
    """Of a and c, which read the same, c waits for a library call that waits for a."""
    x, w = sg.tensor("x", (30, 30)), sg.tensor("w", (30, 30))
    a = sg.exp(x)
    b = a @ w
    c = sg.tanh(x) + b
    order = fused([x, w], [a, c], chosen=lambda value: value.op.name == "matmul")
    assert [type(item) for item in order] == [Group, LibraryCall, Group]
    first, call, last = order
    assert nx.has_path(order, first, call)
    assert nx.has_path(order, call, last)
    without = fused([x, w], [a, sg.tanh(x) + w], chosen=lambda value: False)
    assert len(groups(without)) == 1, "else the case above shows nothing"


def test_a_cycle_through_a_reduction_is_not_made() -> None:
    x = sg.tensor("x", (3, 4000))
    a = sg.exp(x)
    total = a.sum(axis=0)
    c = x * total
    order = fused([x], [a, total, c])
    assert len(groups(order)) >= 2
    writer = {written: item for item in order for written in item.writes}
    for item in order:
        for read in item.reads():
            if read in writer and writer[read] is not item:
                assert nx.has_path(order, writer[read], item)


def test_waiting_is_looked_for_along_all_ways() -> None:
    order = nx.DiGraph([("a", "b"), ("b", "c"), ("a", "c"), ("d", "c")])
    assert waits_between(order, ["a"], "c")
    assert not waits_between(order, ["b"], "c")
    assert not waits_between(order, ["d"], "c")
    assert not waits_between(order, ["a", "b"], "c")
    assert not waits_between(order, ["a"], "b")


# -- updates ---------------------------------------------------------------------------------------


def test_a_step_of_momentum_is_one_kernel_in_place() -> None:
    g = sg.tensor("g", (40, 50))
    w, v = sg.shared(np.ones((40, 50), "f"), "w"), sg.shared(np.zeros((40, 50), "f"), "v")
    speed = 0.9 * v + g
    made = plan([g], [], {v: speed, w: w - 0.1 * speed})
    assert set(made.in_place) == {w, v}
    assert len(made.steps) == 1
    assert len(made.steps[0].writes) == 2
    assert made.temporaries() == []


def test_an_update_after_its_last_reader_is_in_place() -> None:
    x, w = sg.tensor("x", (40, 50)), sg.shared(np.ones((40, 50), "f"), "w")
    made = plan([x], [(x * w).sum(axis=0)], {w: w * 0.5})
    assert set(made.in_place) == {w}
    assert made.in_place[w] in made.steps[-1].writes


def test_of_a_swap_one_is_copied() -> None:
    a, b = sg.shared(np.ones(50, "f"), "a"), sg.shared(np.zeros(50, "f"), "b")
    made = plan([], [], {a: b, b: a})
    assert len(made.in_place) == 1
    assert len(made.temporaries()) == 1


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(lambda w: w + sg.flip(w), id="turned"),
        pytest.param(lambda w: w + w.T, id="transposed"),
        pytest.param(lambda w: sg.pad(w[1:], ((1, 0), (0, 0))), id="padded"),
        pytest.param(lambda w: w + w[0], id="repeated"),
    ],
)
def test_an_update_that_reads_elsewhere_is_copied(new: Callable[[Value], Value]) -> None:
    w = sg.shared(np.ones((40, 40), "f"), "w")
    made = plan([], [], {w: new(w)})
    assert made.in_place == {}
    assert len(made.temporaries()) == 1


# -- checks ----------------------------------------------------------------------------------------


def test_checks_come_before_writes() -> None:
    x, i = sg.tensor("x", (5, 6)), sg.tensor("i", (5,), "int64")
    w, n = sg.shared(np.ones((5, 6), "f"), "w"), sg.shared(0, "n")
    loss = sg.cross_entropy(x * w, i).mean()
    made = plan([x, i], [loss], {w: w * 0.5, n: n + 1})
    (check,) = [k for k, step in enumerate(made.steps) if isinstance(step, CheckStep)]
    for k, step in enumerate(made.steps):
        if any(step.writes & {new} for new in made.in_place.values()):
            assert k > check
    assert set(made.in_place) == {w, n}
    (writer,) = [s for s in made.steps if made.steps[check].buffers[0] in s.writes]
    assert len(writer.writes) == 1
    assert made.steps.index(writer) < check


def test_equal_kernels_are_printed_once() -> None:
    x, y = sg.tensor("x", (50, 60)), sg.tensor("y", (50, 60))
    made = plan([x, y], [sg.exp(x) + 1, sg.exp(y) + 1])
    assert len(made.steps) == 2
    assert len(made.kernels) == 1
    other = plan([x, y], [sg.exp(x) + 1, sg.exp(y) + 2])
    assert len(other.kernels) == 2
    assert all(isinstance(step, KernelStep | CallStep) for step in made.steps)


# -- nothing is read outside -----------------------------------------------------------------------

READ_WRITE, NOTHING = mmap.PROT_READ | mmap.PROT_WRITE, 0


class Fenced:
    """Arrays that end where memory does: a step too far ends the process."""

    def __init__(self) -> None:
        self.regions: list[tuple[mmap.mmap, int]] = []
        self.protect = ctypes.CDLL(None, use_errno=True).mprotect
        self.protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

    def array(self, like: Any, first: bool = False) -> Any:
        """Copy an array to the last bytes before a page of no access, or the first after one."""
        page = mmap.PAGESIZE
        whole = -(-max(like.nbytes, 1) // page) * page
        region = mmap.mmap(-1, whole + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(region))
        for fence in (start, start + page + whole):
            assert self.protect(fence, page, NOTHING) == 0
            self.regions.append((region, fence))
        offset = page if first else page + whole - like.nbytes
        made = np.frombuffer(region, like.dtype, like.size, offset).reshape(like.shape)
        made[...] = like
        return made

    def open(self) -> None:
        """Take the fences away: mappings of Python end by being read."""
        for region, fence in self.regions:
            assert not region.closed
            self.protect(fence, mmap.PAGESIZE, READ_WRITE)


@contextmanager
def fences() -> Iterator[Fenced]:
    made = Fenced()
    try:
        yield made
    finally:
        made.open()


def require_inside(build: Callable[..., Any], *arrays: Any, symbolic: bool = True) -> None:
    """Compute with operands and results between pages that must not be touched."""
    inputs = []
    env = {}
    for number, array in enumerate(arrays):
        shape = [sg.dim(f"d{number}{k}") for k in range(array.ndim)] if symbolic else array.shape
        env.update(zip(shape, array.shape) if symbolic else {})
        inputs.append(sg.tensor(f"x{number}", shape, str(array.dtype)))
    found = build(*inputs)
    outputs = [found] if isinstance(found, Value) else list(found)
    expected = interpret(outputs, dict(zip(inputs, arrays)), env)
    executor = NativeExecutor(Graph(inputs, outputs))
    for first in (False, True):
        with fences() as fenced, pytest.MonkeyPatch.context() as patch:
            feeds = {x: fenced.array(array, first) for x, array in zip(inputs, arrays)}

            def empty(shape: Any, dtype: Any, fenced: Fenced = fenced, at: bool = first) -> Any:
                return fenced.array(np.zeros(shape, dtype), at)

            patch.setattr("symgraph.runtime.native.np.empty", empty)
            results = [np.array(one) for one in executor.run(feeds, env)]
        for one, wanted in zip(results, expected, strict=True):
            assert_close(one, wanted, "composite")


def _row(size: int, dtype: str = "float32") -> Any:
    return np.random.default_rng(size).standard_normal(size).astype(dtype)


def _grid(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


SIZES = [1, 5, 17, 33, 1025]


@needs_compiler
def test_the_fences_hold() -> None:
    with fences() as fenced:
        array = fenced.array(np.arange(5, dtype=np.int8))
        assert array.tolist() == [0, 1, 2, 3, 4]
        assert (array.ctypes.data + 5) % mmap.PAGESIZE == 0
        before = fenced.array(np.arange(5, dtype=np.int8), first=True)
        assert before.ctypes.data % mmap.PAGESIZE == 0
        page, offset = divmod(before.ctypes.data, mmap.PAGESIZE)
        assert offset == 0
        fenced_pages = {fence // mmap.PAGESIZE for _, fence in fenced.regions}
        assert page - 1 in fenced_pages
        assert (array.ctypes.data + 5) // mmap.PAGESIZE in fenced_pages


@needs_compiler
@pytest.mark.parametrize("symbolic", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_tails_of_vectors_stay_inside(size: int, symbolic: bool) -> None:
    require_inside(
        lambda x: [sg.exp(x) + x, x.sum(), x.max(), sg.flip(x) * 2, x > 0, sg.argmax(x)],
        _row(size),
        symbolic=symbolic,
    )
    require_inside(lambda x: [sg.softmax(x), sg.cast(x, "int8")], _row(size), symbolic=symbolic)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "bool", "int64"])
def test_tails_of_other_dtypes_stay_inside(dtype: str) -> None:
    for size in SIZES:
        require_inside(lambda x: [x, sg.cast(x, "float32") + 1], _row(size).astype(dtype))


@needs_compiler
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (17, 33), (33, 17)], ids=str)
def test_rows_columns_and_turned_operands_stay_inside(shape: tuple[int, int]) -> None:
    require_inside(
        lambda x: [x.sum(axis=0), x.sum(axis=1), x.T + 1, sg.softmax(x, axis=0), x.T @ x],
        _grid(*shape),
    )
    require_inside(lambda x: [x[:, ::2] * 2, x[::-1, ::-1], x[:, 1:] + 1], _grid(*shape))


@needs_compiler
@pytest.mark.parametrize("size", [1, 5, 17, 33])
def test_padded_operands_stay_inside(size: int) -> None:
    pads = ((3, 2), (1, 20))
    require_inside(
        lambda x: [
            sg.pad(x, pads) ** 2,
            sg.exp(sg.pad(x * 2, pads)).sum(axis=1),
            sg.pad(sg.exp(x) + x, pads, value=1.0),
            sg.pad(x[1:], ((0, 1), (0, 0))) + x,
            sg.pad(x, ((40, 0), (0, 40))),
        ],
        _grid(size, 7),
    )


@needs_compiler
@pytest.mark.parametrize("size", [1, 5, 17, 33])
def test_joined_operands_stay_inside(size: int) -> None:
    require_inside(
        lambda x, y: [
            sg.exp(sg.concat([x, y, x], axis=0)),
            sg.concat([x * 2, sg.tanh(y)], axis=0).sum(axis=0),
            sg.concat([sg.concat([x, y], axis=0)[1:], x], axis=0) ** 2,
        ],
        _grid(size, 9),
        _grid(3, 9),
        symbolic=False,
    )


@needs_compiler
def test_a_pad_of_a_join_of_a_gather_stays_inside() -> None:
    x, i = _grid(6, 5), np.array([0, 5, 2, -1, -6], np.int64)

    def build(x: Value, i: Value) -> list[Value]:
        rows = sg.take(x, i, axis=0)
        joined = sg.concat([rows * 2, x], axis=0)
        wider = sg.pad(joined, ((2, 2), (0, 3)), value=-1.0)
        return [wider, sg.take(wider, i, axis=0).sum(axis=1), sg.grad((wider**2).sum(), x)]

    require_inside(build, x, i, symbolic=False)


@needs_compiler
@pytest.mark.parametrize("size", [5, 8, 19])
def test_convolutions_and_pools_without_the_library_stay_inside(size: int) -> None:
    with config(onednn="none"):
        require_inside(
            lambda x, w: [
                sg.conv2d(x, w, padding=1),
                sg.conv2d(x, w, stride=2, padding=2),
                sg.grad((sg.conv2d(x, w, padding=1) ** 2).sum(), x),
                sg.grad((sg.conv2d(x, w, stride=2, padding=1) ** 2).sum(), w),
            ],
            _grid(2, 3, size, size),
            _grid(4, 3, 3, 3),
            symbolic=False,
        )
    require_inside(
        lambda x: [
            sg.max_pool2d(x, 3, stride=2, padding=1),
            sg.avg_pool2d(x, 2, stride=2),
            sg.grad((sg.max_pool2d(x, 3, stride=2, padding=1) ** 2).sum(), x),
            sg.local_response_norm(x, 3),
        ],
        _grid(2, 3, size, size),
        symbolic=False,
    )
