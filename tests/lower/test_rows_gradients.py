"""Cascades of windows while training: one pass for each direction, one for all gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.dims import product
from symgraph.graph.graph import Graph
from symgraph.graph.scalar import Scalar
from symgraph.lower.fuse import Group, fuse
from symgraph.lower.layout import choose_layouts, look_through_views
from symgraph.lower.nest import Buffer, Nest, run, verify
from symgraph.lower.program import LibraryCall, Program, build, number
from symgraph.lower.rows import LARGE
from tests.lower.cascade import Line, gradients, mixed

needs_compiler = pytest.mark.skipif(
    bool(unavailable()), reason=unavailable() or "there is a compiler"
)
CHANNELS = 32
CASES: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "same": ((5, 5), {"padding": "same"}),
    "valid": ((3, 4), {"padding": "valid"}),
    "full": ((5, 3), {"padding": "full"}),
    "odd, dilated": ((2, 5), {"padding": ((0, 1), (3, 0)), "dilation": (2, 1)}),
    "stride along rows": ((3, 4), {"padding": "same", "stride": (1, 2)}),
    "stride along columns": ((5, 5), {"padding": 0, "stride": (2, 1)}),
    "both strides": ((5, 3), {"padding": "full", "stride": 2}),
}


def lateral(value: sg.Value) -> bool:
    """Let a library compute what sums over channels: around it channels are innermost."""
    return value.op.name.startswith("conv") and value.op.groups == 1  # type: ignore[attr-defined]


def trained(
    shape: tuple[Any, ...], kernel: tuple[int, int], dtype: Any = "float32", **options: Any
) -> tuple[sg.Value, sg.Value, dict[str, sg.Value], dict[str, Any]]:
    """Give a stage between two lateral convolutions of ones, its gradients, and its weights."""
    rng = np.random.default_rng(5)
    x = sg.tensor("x", shape, dtype)
    flat = sg.nn.FlattenedConv(int(shape[1]), CHANNELS, kernel, stages=1, **options)
    named = {name.replace(".0", ""): one for name, one in flat.named_parameters()}
    for one in named.values():
        one.value = rng.normal(size=one.shape).astype(one.dtype)
    if dtype == "float64":
        sixty = {name: sg.shared(one.value.astype(dtype), name) for name, one in named.items()}
        y = flat(x)
        y = sg.graph.walk.rebuild([y], dict(zip(named.values(), sixty.values())))[y]
        named = sixty
    else:
        y = flat(x)
    g = sg.tensor("g", y.shape, dtype)
    found = sg.grad((y * g).sum(), [x, *named.values()])
    weights = {name: one.value for name, one in named.items()}
    return x, g, {"y": y, **dict(zip(["x", *named], found))}, weights


def lines(flat_kernel: tuple[int, int], options: dict[str, Any]) -> tuple[Line, Line]:
    """Say by hand how the filters of a case slide."""
    steps = np.broadcast_to(options.get("stride", 1), 2)
    gaps = np.broadcast_to(options.get("dilation", 1), 2)
    pads: Any = options["padding"]
    made = []
    for d, (k, step, gap) in enumerate(zip(flat_kernel, steps, gaps)):
        if pads == "full":
            own = (gap * (k - 1),) * 2
        elif pads in ("valid", 0):
            own = (0, 0)
        elif pads == "same":  # as many places as steps fit, odd ones at the end
            size = (18, 21)[d]
            total = max((-(-size // step) - 1) * step + (k - 1) * gap + 1 - size, 0)
            own = (total // 2, total - total // 2)
        else:
            own = pads[d]
        made.append(Line(2 + d, k, int(step), (int(own[0]), int(own[1])), int(gap)))
    return made[0], made[1]


def planned(outputs: list[sg.Value], rows: bool = True) -> tuple[Program, list[Any]]:
    inputs = [one for one in Graph((), outputs).values if one.op.name == "input"]
    program = build(Graph(inputs, outputs), lateral)
    choose_layouts(program, {})
    look_through_views(program)
    return program, list(fuse(program, {}, rows=rows))


def passes(nests: list[Nest]) -> int:
    """Count how often something as large as an image is read or written."""

    def large(one: Buffer) -> bool:
        return number(product(one.shape), {}) >= LARGE

    return sum(large(one) for nest in nests for one in {*nest.reads(), *nest.writes()})


def nests_of(items: list[Any]) -> list[Nest]:
    found = [item.nest() for item in items if isinstance(item, Group)]
    for nest in found:
        verify(nest)
    return found


def test_a_step_reads_and_writes_seven_images_a_stage() -> None:
    """Forward 2, backward 2, gradients of both filters and biases 2, of the lateral bias 1."""
    shape = (4, CHANNELS, 18, 21)
    x = sg.tensor("x", shape)
    flat = sg.nn.FlattenedConv(CHANNELS, CHANNELS, 5, padding=2)
    end = sg.nn.Conv2d(CHANNELS, CHANNELS, 1, bias=None)  # so that all between is our own
    g = sg.tensor("g", shape)
    slopes = sg.grad((end(flat(x)) * g).sum(), [x, *flat.parameters(), *end.parameters()])
    graph = sg.function([x, g], slopes, backend="reference").graph
    counts = [passes(nests_of(planned(list(graph.outputs), rows)[1])) for rows in (False, True)]
    assert counts == [2 * 15, 2 * 7]


def test_what_updates_filters_leaves_their_gradients_in_one_loop() -> None:
    """Updates have the axes of filters, gradients those of channels: 12 sums read two images."""
    x = sg.tensor("x", (4, CHANNELS, 18, 21))
    flat = sg.nn.FlattenedConv(CHANNELS, CHANNELS, 5, padding=2)
    loss = (sg.tanh(flat(x)) ** 2).mean()
    step = sg.optim.SGD(flat.parameters(), lr=0.01, momentum=0.9)
    graph = sg.function([x], loss, updates=step.updates(loss), backend="reference").graph
    program = build(graph, lateral)
    choose_layouts(program, {})
    look_through_views(program)
    found = nests_of(list(fuse(program, {}, rows=True)))
    gradients_of = [nest for nest in found if len(nest.stores) == 2 * 5 + 2]
    assert [passes([nest]) for nest in gradients_of] == [2, 2]


@pytest.mark.parametrize("case", CASES)
def test_nests_mean_what_the_oracle_computes(case: str, rng: np.random.Generator) -> None:
    kernel, options = CASES[case]
    x, g, outputs, weights = trained((3, CHANNELS, 18, 21), kernel, "float64", **options)
    program, items = planned(list(outputs.values()))
    feeds = {x: rng.normal(size=x.shape), g: rng.normal(size=[int(n) for n in g.shape])}
    arrays: dict[Buffer, Any] = {held: feeds[one] for one, held in program.inputs.items()}
    arrays |= {held: one.value for one, held in program.shared.items()}
    for item in items:
        if isinstance(item, LibraryCall):
            operands = [arrays[one.buffer] for one in item.sources]
            arrays[item.writes[0]] = mixed(item.value.op.name, *operands)
        else:
            arrays |= run(item.nest(), arrays, {})
    wanted = gradients(feeds[x], weights, *lines(kernel, options), feeds[g])
    for name, held in zip(outputs, program.outputs):
        np.testing.assert_allclose(arrays[held], wanted[name], atol=1e-11, err_msg=name)


@needs_compiler
@pytest.mark.parametrize(
    "case", [pytest.param(one, marks=[] if n in (2, 6) else pytest.mark.full)
             for n, one in enumerate(CASES)]
)  # fmt: skip
def test_compiled_gradients_are_those_of_the_oracle(case: str, rng: np.random.Generator) -> None:
    kernel, options = CASES[case]
    x, g, outputs, weights = trained((sg.dim("B"), 3, 18, 21), kernel, **options)
    f = sg.function([x, g], list(outputs.values()), backend="cpu")
    for count in (3, 1, 17):
        images = rng.normal(size=(count, 3, 18, 21)).astype(np.float32)
        shape = outputs["y"].eval({x: images}).shape
        cotangent = rng.normal(size=shape).astype(np.float32)
        wanted = gradients(images, weights, *lines(kernel, options), cotangent)
        for name, one in zip(outputs, f(images, cotangent)):
            size = np.abs(wanted[name]).max()
            np.testing.assert_allclose(one, wanted[name], atol=5e-5 * size, err_msg=name)


def windows(first: Scalar | Any, *kernels: tuple[int, int]) -> list[sg.Value]:
    """Give convolutions of each channel by itself, one after the other."""
    found = [first]
    for number_of, kernel in enumerate(kernels):
        w = sg.tensor(f"w{number_of}", (CHANNELS, 1, *kernel))
        found.append(sg.conv2d(found[-1], w, padding="same", groups=CHANNELS))
    return found[1:]


def over_channels() -> sg.Value:
    x, w = sg.tensor("x", (4, 3, 18, 21)), sg.tensor("w", (CHANNELS, 3, 1, 1))
    return sg.conv2d(x, w)


def rows_in(outputs: list[sg.Value]) -> int:
    nests = nests_of(planned(outputs)[1])
    return len({n.args[0] for nest in nests for n in nest.order() if n.op == "row"})


@pytest.mark.parametrize("kernels", [((5, 1), (1, 5)), ((1, 5), (5, 1))])
def test_either_order_is_one_pass(kernels: Any) -> None:
    y = sg.relu(windows(over_channels(), *kernels)[-1])
    before, after = (passes(nests_of(planned([y], rows)[1])) for rows in (False, True))
    assert after == before - 2
    assert rows_in([y]) == 1


def test_windows_along_one_axis_are_one_pass_too() -> None:
    y = windows(over_channels(), (5, 1), (5, 1))[-1]
    assert rows_in([y]) == 1


def test_others_who_slide_another_way_have_it_in_memory() -> None:
    down, across = windows(over_channels(), (5, 1), (1, 5))
    assert rows_in([across]) == 1
    below = sg.conv2d(down, sg.tensor("v", (CHANNELS, 1, 3, 1)), padding="same", groups=CHANNELS)
    assert rows_in([across, below]) == 0
    assert rows_in([across, down]) == 0  # which is an output


def test_small_images_are_in_the_caches_anyway() -> None:
    _, _, outputs, _ = trained((1, CHANNELS, 6, 6), (5, 5), padding=2)
    assert CHANNELS * 36 < LARGE
    assert rows_in(list(outputs.values())) == 0
