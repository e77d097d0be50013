"""Windows of windows: rows kept in a kernel, taps that share a loop, guards that are not needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.calls import takes
from symgraph.backends.cpu.compiler import unavailable
from symgraph.graph.graph import Graph
from symgraph.graph.index import axis, m
from symgraph.graph.node import make
from symgraph.graph.registry import OPS
from symgraph.graph.scalar import const, scalar, scalar_order
from symgraph.lower.flatten import spread, unroll
from symgraph.lower.fuse import Group, fuse
from symgraph.lower.inside import vanishes
from symgraph.lower.layout import choose_layouts, look_through_views
from symgraph.lower.nest import Element, buffer, run, verify
from symgraph.lower.plan import KernelStep, Target, make_plan
from symgraph.lower.program import LibraryCall, build

needs_compiler = pytest.mark.skipif(
    bool(unavailable()), reason=unavailable() or "there is a compiler"
)
CHANNELS = 32


def lateral(value: sg.Value) -> bool:
    """Let a library compute what sums over channels: around it channels are innermost."""
    return value.op.name.startswith("conv") and value.op.groups == 1  # type: ignore[attr-defined]


def stage(
    x: sg.Value, rng: np.random.Generator, kernel: tuple[int, int] = (5, 5), **options: Any
) -> sg.Value:
    """Put x through one stage: lateral, vertical, horizontal, with biases."""
    flat = sg.nn.FlattenedConv(int(x.shape[1]), CHANNELS, kernel, stages=1, **options)
    for one in flat.parameters():
        one.value = rng.normal(size=one.shape).astype(one.dtype)
    return flat(x)


def kernels(x: sg.Value, *outputs: sg.Value, rows: bool = True) -> list[KernelStep]:
    target = Target(lateral, rows=rows)
    plan = make_plan(Graph([x], outputs), {}, target)
    return [step for step in plan.steps if isinstance(step, KernelStep)]


def count_rows(*outputs: sg.Value) -> int:
    """Count the values that are kept in rows."""
    inputs = [one for one in Graph((), outputs).values if one.op.name == "input"]
    program = build(Graph(inputs, outputs), lateral)
    choose_layouts(program, {})
    look_through_views(program)
    found = set()
    for item in fuse(program, {}, rows=True):
        if isinstance(item, Group):
            nest = item.nest()
            verify(nest)
            found |= {n.args[0] for n in nest.order() if n.op == "row"}
    return len(found)


# -- rows ------------------------------------------------------------------------------------------


def test_vertical_horizontal_and_biases_are_one_pass(rng: np.random.Generator) -> None:
    x = sg.tensor("x", (2, CHANNELS, 24, 20))
    y = sg.relu(stage(x, rng, padding=2))
    assert count_rows(y) == 1
    (own,) = [step for step in kernels(x, y) if len(step.buffers) > 3]
    images = [one for one in own.buffers if len(one.shape) == 4 and one.shape[2:] == (24, 20)]
    assert len(images) == 2  # what the lateral one has written, and the result
    assert len(kernels(x, y, rows=False)) == len(kernels(x, y)) + 1


def test_a_row_means_what_it_keeps(rng: np.random.Generator) -> None:
    """The nest of all, as NumPy understands it, is the reference's result."""
    x = sg.tensor("x", (2, CHANNELS, 18, 20))
    y = stage(x, rng, (3, 4), padding=((1, 1), (2, 1)))
    program = build(Graph([x], [y]), lateral)
    choose_layouts(program, {})
    look_through_views(program)
    feed = rng.normal(size=x.shape).astype(np.float32)
    middle = next(v for v in Graph([x], [y]).values if v.op.name == "conv")
    arrays: dict[Any, Any] = {held: one.value for one, held in program.shared.items()}
    for item in fuse(program, {}, rows=True):
        if isinstance(item, LibraryCall):
            arrays[item.writes[0]] = middle.eval({x: feed})
        else:
            arrays |= run(item.nest(), arrays, {})
    wanted = y.eval({x: feed})
    found = arrays[program.outputs[0]]
    np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


@needs_compiler
@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ((5, 5), {"padding": 2}),
        ((3, 4), {"padding": "same", "stride": (1, 2)}),
        ((2, 5), {"padding": ((0, 1), (3, 0)), "dilation": (2, 1)}),
        ((5, 3), {"padding": "full", "stride": 2}),
    ],
)
def test_rows_compute_what_the_reference_does(
    rng: np.random.Generator, kernel: Any, options: Any
) -> None:
    for channels in (16, 33):  # of which one leaves a vector that is not whole
        x = sg.tensor("x", (sg.dim("B"), 3, 18, 21))
        flat = sg.nn.FlattenedConv(3, channels, kernel, **options)
        for one in flat.parameters():
            one.value = rng.normal(size=one.shape).astype(one.dtype)
        y = sg.relu(flat(x))
        f = sg.function([x], y, backend="cpu")
        for count in (3, 1):
            feed = rng.normal(size=(count, 3, 18, 21)).astype(np.float32)
            wanted = y.eval({x: feed})
            np.testing.assert_allclose(f(feed), wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [
        ((2, CHANNELS, 8, 600), (5, 5)),  # longer than a kernel has room for
        ((2, CHANNELS, 24, sg.dim("W")), (5, 5)),  # of a length that nobody knows
        ((1, CHANNELS, 4, 4), (5, 5)),  # in the caches anyway
    ],
)
def test_rows_that_do_not_fit_or_pay(rng: np.random.Generator, shape: Any, kernel: Any) -> None:
    program = build(Graph([x := sg.tensor("x", shape)], [stage(x, rng, padding=2)]), lateral)
    choose_layouts(program, {size: 20 for size in x.shape if not isinstance(size, int)})
    look_through_views(program)
    nominal = {size: 20 for size in x.shape if not isinstance(size, int)}
    nests = [i.nest() for i in fuse(program, nominal, rows=True) if isinstance(i, Group)]
    assert not [n for nest in nests for n in nest.order() if n.op == "row"]


# -- gradients of filters --------------------------------------------------------------------------


def gradient(kernel: tuple[int, int]) -> tuple[sg.Value, sg.Value, sg.Value]:
    x = sg.tensor("x", (sg.dim("B"), 24, 12, 14))
    w = sg.tensor("w", (24, 1, *kernel))
    y = sg.conv2d(x, w, padding=(kernel[0] // 2, kernel[1] // 2), groups=24)
    g = sg.tensor("g", y.shape)
    return x, g, sg.grad((y * g).sum(), w)


@pytest.mark.parametrize("kernel", [(5, 1), (1, 3)])
def test_all_taps_of_a_gradient_share_a_loop(kernel: tuple[int, int]) -> None:
    x, g, dw = gradient(kernel)
    program = build(Graph([x, g], [dw]), lambda value: False)
    (item,) = [one for one in fuse(program, {sg.dim("B"): 4}) if isinstance(one, Group)]
    nest = spread(unroll(item.nest()))
    assert len(nest.stores) == max(kernel)
    assert {store.buffer for store in nest.stores} == {program.outputs[0]}
    assert all(max(kernel) not in [one.extent for one in store.axes] for store in nest.stores)


@needs_compiler
@pytest.mark.parametrize("kernel", [(5, 1), (1, 3), (1, 9)])
def test_gradients_of_filters_are_those_of_the_reference(
    rng: np.random.Generator, kernel: tuple[int, int]
) -> None:
    x, g, dw = gradient(kernel)
    f = sg.function([x, g], dw, backend="cpu")
    for count in (2, 40):  # in one piece, and in parts
        feeds = [rng.normal(size=(count, 24, 12, 14)).astype(np.float32) for _ in range(2)]
        wanted = dw.eval(dict(zip((x, g), feeds)))
        np.testing.assert_allclose(f(*feeds), wanted, atol=1e-5 * np.abs(wanted).max())


def test_libraries_are_not_asked_for_what_slides_along_one_axis() -> None:
    env = {sg.dim("B"): 2}
    for kernel, mine in (((5, 1), True), ((1, 5), True), ((3, 3), False), ((1, 17), False)):
        x, w = sg.tensor("x", (sg.dim("B"), 32, 20, 20)), sg.tensor("w", (32, 1, *kernel))
        value = sg.conv2d(x, w, padding="same", groups=32)
        if not takes(sg.conv2d(x, sg.tensor("w", (32, 32, 3, 3))), env):
            pytest.skip("there is no oneDNN")
        assert takes(value, env) != mine, kernel
        biased = make(OPS["conv_bias"](**value.op.attributes()), x, w, sg.tensor("b", (32,)))
        assert takes(biased, env) != mine, kernel


# -- guards ----------------------------------------------------------------------------------------


def test_what_vanishes_where_nothing_is_loaded_needs_no_guard() -> None:
    held, place = buffer("x", "float32", (10,)), axis(10, "i").scalar()
    inside = place < const(5, "int64")
    zero = scalar("load", (place, inside), "float32", Element(held, 0.0, True))
    other = scalar("load", (place, inside), "float32", Element(held, 1.0, True))
    free = scalar("load", (place,), "float32", Element(held))
    two, infinite = const(2.0, "float32"), const(np.inf, "float32")
    yes = [zero, zero + zero, -zero * two, m.max(zero, const(0.0, "float32")), zero * zero]
    no = [other, free, zero + two, zero * free, zero * infinite, m.exp(zero), zero / zero]
    assert [vanishes(one) for one in yes] == [True] * len(yes)
    assert [vanishes(one) for one in no] == [False] * len(no)
    assert all(node.dtype for node in scalar_order(yes))
