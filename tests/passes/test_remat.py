"""Rematerialisation: fits the budget as predicted and as measured, and changes no number."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import symgraph as sg
from symgraph.cost.limit import peak_bytes
from symgraph.dims import Dim
from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    GuardError,
    MemoryLimitError,
    SymgraphError,
)
from symgraph.function import Function
from symgraph.graph.dtypes import is_float
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value, make
from symgraph.graph.op import Op
from symgraph.passes.halves import Halves
from symgraph.passes.manager import PASSES
from symgraph.passes.remat import CUTS, _Build, _Cut, _seconds
from tests.cost.counting import Run
from tests.random_graphs import Program
from tests.random_maker import programs

B = sg.dim("B")
BATCH = 256


def weights(shape: Sequence[int], seed: int) -> Shared:
    scale = 1 / np.sqrt(np.prod(shape[:-1] if len(shape) == 2 else shape[1:]))
    array = np.random.default_rng(seed).normal(scale=scale, size=shape)
    return sg.shared(array.astype("float32"), f"w{seed}")


def perceptron(
    depth: int, width: int = 16, activation: Any = sg.tanh
) -> tuple[list[Value], Value, list[Shared]]:
    x, y = sg.tensor("x", (B, width)), sg.tensor("y", (B,), "int32")
    parameters = [weights((width, width), number) for number in range(depth)]
    h = x
    for w in parameters:
        h = activation(sg.matmul(h, w))
    return [x, y], sg.nn.cross_entropy(h, y).mean(), parameters


def convolutions(depth: int) -> tuple[list[Value], Value, list[Shared]]:
    """Residual blocks: each result has two users in the forward part."""
    x, y = sg.tensor("x", (B, 4, 8, 8)), sg.tensor("y", (B,), "int32")
    parameters = [weights((4, 4, 3, 3), number) for number in range(depth)]
    h = x
    for w in parameters:
        h = h + sg.relu(sg.conv2d(h, w, padding=1))
    return [x, y], sg.nn.cross_entropy(h.mean(axis=(2, 3)), y).mean(), parameters


def dropped(depth: int) -> tuple[list[Value], Value, list[Shared]]:
    streams = [sg.random.Stream(7 + number) for number in range(depth)]
    each = iter(streams)
    return perceptron(depth, activation=lambda h: sg.dropout(sg.relu(h), 0.3, stream=next(each)))


NETS: dict[str, Any] = {
    "perceptron": lambda: perceptron(12),
    "convolutions": lambda: convolutions(8),
    "dropout": lambda: dropped(10),
    "normalised": lambda: perceptron(8, activation=lambda h: sg.relu(sg.layer_norm(h))),
}
each_net = pytest.mark.parametrize("net", list(NETS))


def trained(net: Any, passes: Sequence[sg.Pass] = (), form: str = "sgd") -> Function:
    """Compile one training step of a network that is made anew, with numbers of its own."""
    inputs, loss, parameters = net()
    if form == "gradients":
        return sg.function(
            inputs, [loss, *sg.grad(loss, parameters)], passes=passes, backend="reference"
        )
    clip = 0.5 if form == "clipped" else None
    step: sg.optim.Optimizer = sg.optim.SGD(parameters, 0.1, momentum=0.9, clip_norm=clip)
    if form == "adam":
        step = sg.optim.Adam(parameters, 1e-3)
    outputs = None if form == "no output" else loss
    updates = step.updates(loss)
    return sg.function(inputs, outputs, updates=updates, passes=passes, backend="reference")


FORMS = ("sgd", "adam", "clipped", "gradients", "no output")


def fed(step: Function, batch: int = BATCH) -> list[Any]:
    rng = np.random.default_rng(3)
    x, _ = step.inputs
    shape = [batch, *x.shape[1:]]
    return [rng.standard_normal(shape).astype("float32"), rng.integers(0, 4, batch, "int32")]


def peak(graph: Graph, batch: int = BATCH) -> int:
    return peak_bytes(graph, {B: batch})


def part(net: Any, fraction: float, form: str = "sgd") -> int:
    """Give a budget: so much of what a network needs as it is."""
    return int(peak(trained(net, form=form).graph) * fraction)


def again(graph: Graph) -> int:
    """Count barriers, so that nothing is compared that was left alone."""
    return sum(value.op.name == "barrier" for value in graph.values)


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the sizes of the networks of all minimum cuts."""
    found: list[int] = []
    cut = nx.minimum_cut

    def counting(network: nx.DiGraph, *args: Any, **options: Any) -> Any:
        found.append(len(network))
        return cut(network, *args, **options)

    monkeypatch.setattr(nx, "minimum_cut", counting)
    return found


# -- what it promises ------------------------------------------------------------------------------


@each_net
@pytest.mark.parametrize("form", FORMS)
def test_it_fits_and_no_number_changes(net: str, form: str, cuts: list[int]) -> None:
    budget = part(NETS[net], 0.68, form)
    plain = trained(NETS[net], form=form)
    fitted = trained(NETS[net], [sg.remat(budget, B=BATCH)], form)
    predicted = sg.cost(fitted).evaluate(B=BATCH).peak
    assert predicted <= budget < peak(plain.graph)
    assert again(fitted.graph)
    assert len(cuts) <= CUTS
    for _ in range(2):
        one, other = plain(*fed(plain)), fitted(*fed(fitted))
        for a, b in zip(flat(one), flat(other), strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(plain.graph.updates, fitted.graph.updates, strict=True):
            np.testing.assert_array_equal(a.value, b.value)


def flat(found: Any) -> list[Any]:
    return [] if found is None else found if isinstance(found, list) else [found]


@each_net
def test_the_reference_really_needs_less(net: str) -> None:
    plain = trained(NETS[net])
    fitted = trained(NETS[net], [sg.remat(part(NETS[net], 0.55), B=BATCH)])
    measured = [alive(step) for step in (plain, fitted)]
    assert measured == [peak(plain.graph), peak(fitted.graph)]
    assert measured[1] <= 0.55 * measured[0]


def alive(step: Function) -> int:
    """Give the most bytes that arrays held at once while a step ran."""
    feeds, env = step.given(*fed(step))
    run = Run(step.graph, feeds)
    interpret(step.graph.roots, feeds, env, watch=run.watch, order=step.graph.values)
    return int(run.peak)


def test_python_allocates_less() -> None:
    def allocated(passes: Sequence[sg.Pass]) -> int:
        step = trained(lambda: perceptron(24, 8), passes)
        given = fed(step, 4096)
        step(*given)
        tracemalloc.start()
        step(*given)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    before = allocated([])
    assert allocated([sg.remat("2 MB", B=4096)]) < 0.5 * before


def test_less_memory_costs_more_work_step_by_step(cuts: list[int]) -> None:
    step = trained(lambda: perceptron(24))
    before = sg.cost(step).evaluate(B=BATCH)
    curve = []
    for percent in range(100, 20, -5):
        cuts.clear()
        try:
            graph = sg.remat(before.peak * percent // 100, B=BATCH)(step.graph)
        except MemoryLimitError:
            break
        assert len(cuts) <= CUTS
        found = sg.cost(graph).evaluate(B=BATCH)
        assert found.peak <= before.peak * percent // 100
        curve.append((found.flops, found.peak))
    assert len(curve) >= 13  # down to 40 %
    assert curve[0] == (before.flops, before.peak)
    for (less, high), (more, low) in pairwise(curve):
        assert more >= less
        assert low <= high
    assert len(set(curve)) >= 6
    # only what the forward part computed is computed again, and once: a third of the work
    assert curve[-1][0] < 1.34 * before.flops


def test_cheap_values_go_first() -> None:
    """A little too large: what is computed again is no product of matrices."""

    def net() -> Any:
        return perceptron(12, 256, lambda h: sg.relu(sg.layer_norm(h)))

    plain = trained(net)
    graph = sg.remat(int(peak(plain.graph, 4096) * 0.8), B=4096)(plain.graph)
    products = [sum(v.op.name == "matmul" for v in each.values) for each in (plain.graph, graph)]
    assert products[0] == products[1]
    costs = [sg.cost(each).evaluate(B=4096) for each in (plain.graph, graph)]
    assert costs[0].flops < costs[1].flops < 1.02 * costs[0].flops


def test_order_alone_may_be_enough(cuts: list[int]) -> None:
    """Weights' gradients are computed as soon as they can be, which costs nothing."""
    plain = trained(NETS["perceptron"])
    fitted = trained(NETS["perceptron"], [sg.remat(part(NETS["perceptron"], 0.8), B=BATCH)])
    assert not cuts
    costs = [sg.cost(step).evaluate(B=BATCH) for step in (plain, fitted)]
    assert costs[0].flops == costs[1].flops
    assert costs[1].peak <= 0.8 * costs[0].peak


def test_a_graph_that_fits_is_left_alone(cuts: list[int]) -> None:
    step = trained(NETS["perceptron"])
    assert sg.remat("1 GB", B=BATCH)(step.graph).values == step.graph.values
    assert sg.remat(peak(step.graph), {B: BATCH})(step.graph).values == step.graph.values
    assert not cuts


def test_checkpoints_grow_with_the_root_of_the_depth() -> None:
    """Four times as deep, less than four times as many activations."""
    least = [at_best(trained(lambda: perceptron(depth, 8)).graph, 1024) for depth in (32, 128)]  # noqa: B023
    assert least[1] < 2.9 * least[0]
    whole = peak(trained(lambda: perceptron(128, 8)).graph, 1024)
    assert least[1] < 0.15 * whole


def at_best(graph: Graph, batch: int) -> int:
    """Give the smallest peak, which the error tells."""
    with pytest.raises(MemoryLimitError) as info:
        sg.remat(1, B=batch)(graph)
    return int(info.value.fix.split()[5])


def test_the_budget_that_the_error_tells_is_enough() -> None:
    step = trained(NETS["convolutions"])
    least = at_best(step.graph, BATCH)
    assert peak(sg.remat(least, B=BATCH)(step.graph)) <= least


def test_it_runs_in_its_stage_and_shows_in_the_history() -> None:
    budget = part(NETS["perceptron"], 0.6)
    step = trained(NETS["perceptron"], [sg.remat(budget, B=BATCH)])
    assert [one.reason for one in step.history][-1] == "remat"
    assert step.history[-1].changes
    step.graph.verify()
    kept = sg.Graph(step.inputs, step.graph.outputs, step.graph.updates)
    for one in ("canonical", "stabilise", "dead_code"):  # no rule sees through a barrier
        kept = PASSES[one](kept)
    assert again(kept) == again(step.graph)


def test_the_default_backend_gives_the_same() -> None:
    inputs, loss, parameters = perceptron(8)
    outputs = [loss, *sg.grad(loss, parameters)]
    plain = sg.function(inputs, outputs)
    budget = int(peak(plain.graph) * 0.6)
    fitted = sg.function(inputs, outputs, passes=[sg.remat(budget, B=BATCH)])
    for a, b in zip(plain(*fed(plain)), fitted(*fed(fitted)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


# -- any graph -------------------------------------------------------------------------------------


def test_random_graphs_keep_their_values() -> None:
    counts = {"graphs": 0, "barriers": 0}
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

    def check(program: Program, differentiate: bool) -> None:
        with sg.config(float_dtype="float64"):
            counts["graphs"] += 1
            counts["barriers"] += rewritten(program, differentiate)

    @settings(max_examples=60, suppress_health_check=quiet)
    @given(programs())
    def each(program: Program) -> None:
        check(program, False)

    @settings(max_examples=60, suppress_health_check=quiet)
    @given(programs(smooth=True))
    def each_gradient(program: Program) -> None:
        check(program, True)

    each()
    each_gradient()
    assert counts["graphs"] >= 100
    assert counts["barriers"] > counts["graphs"]


def rewritten(program: Program, differentiate: bool) -> int:
    """Write a program's graph anew with much kept and with little, and compare; count barriers."""
    slots = program.build(program.declare())
    outputs = [slots[i] for i in program.outputs]
    if differentiate:
        floats = [leaf for leaf in slots[: len(program.leaves)] if is_float(leaf.dtype)]
        total = sum((value.sum() for value in outputs), start=sg.constant(0.0))
        outputs += sg.grad(total, floats, missing="zero")
    graph = Graph(program.inputs(slots), outputs, program.new_values(slots))
    env = program.env()
    try:
        for guard in graph.guards():
            guard.check(env)
    except GuardError:
        return 0
    feeds = dict(zip(graph.inputs, program.inputs(program.arrays)))
    barriers = 0
    with np.errstate(all="ignore"):
        expected = interpret(graph.roots, feeds, env)
        for plan in plans(graph, env):
            made = graph.rewrite(plan.replace, "remat")
            made.verify()
            assert peak_bytes(made, env) == plan.peak
            barriers += again(made)
            for a, b in zip(expected, interpret(made.roots, feeds, env), strict=True):
                np.testing.assert_array_equal(a, b)
    return barriers


def plans(graph: Graph, env: dict[Dim, int]) -> Iterator[Any]:
    halves = Halves(graph, env)
    seconds = _seconds(halves)
    yield _Build(halves, None).plan(seconds)
    for stretches in (1, 4):
        cut = _Cut(halves, seconds, stretches)
        for price in cut.prices():
            yield _Build(halves, cut.kept(price)).plan(seconds)


@pytest.mark.parametrize("fraction", [0.9, 0.3])
def test_a_chain_of_2000_operations(fraction: float, cuts: list[int]) -> None:
    x = sg.tensor("x", (B, 10))
    h = x
    for _ in range(500):
        h = sg.sin(h) * 1.01
    graph = sg.function([x], [h.sum(), sg.grad(h.sum(), x)], backend="reference").graph
    assert len(graph.values) > 2000
    before = peak(graph)
    made = sg.remat(int(before * fraction), B=BATCH)(graph)
    assert peak(made) <= before * fraction
    assert len(cuts) <= CUTS
    assert all(size < 6 * len(graph.values) for size in cuts)
    assert len(made.values) < 2 * len(graph.values)


def test_work_grows_with_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that are built, counted instead of timed: linear in the depth."""
    made: list[Op] = []

    def counting(op: Op, *operands: Value) -> Value:
        made.append(op)
        return make(op, *operands)

    monkeypatch.setattr("symgraph.passes.remat.make", counting)
    counts = []
    for depth in (20, 80):
        graph = trained(lambda: perceptron(depth, 4)).graph  # noqa: B023
        made.clear()
        at_best(graph, 256)
        counts.append(len(made))
    assert counts[1] < 5 * counts[0]


# -- errors ----------------------------------------------------------------------------------------


def test_a_budget_that_nothing_reaches() -> None:
    step = trained(NETS["perceptron"])
    with pytest.raises(MemoryLimitError) as info:
        sg.remat("20 kB", B=BATCH)(step.graph)
    text = str(info.value)
    assert text.startswith("remat: ")
    assert "B = 256" in text
    assert "20 kB" in text
    assert isinstance(info.value, MemoryError)
    assert str(at_best(step.graph, BATCH)) in info.value.fix


def test_without_a_second_half_there_is_nothing_to_gain() -> None:
    x = sg.tensor("x", (B, 10))
    graph = sg.function([x], sg.exp(x), backend="reference").graph
    with pytest.raises(MemoryLimitError, match=r"at best  : 20.5 kB = 20480 bytes"):
        sg.remat(20000, B=BATCH)(graph)
    empty = sg.function([x], None, backend="reference").graph
    with pytest.raises(MemoryLimitError):
        sg.remat(1, B=BATCH)(empty)


BAD: list[tuple[tuple[Any, ...], dict[str, Any], type[SymgraphError], str]] = [
    (("2 XB",), {}, ArgumentError, "the budget must be bytes"),
    ((-1,), {}, ArgumentError, "the budget must be bytes"),
    ((1.5,), {}, ArgumentError, "the budget must be bytes"),
    ((None,), {}, ArgumentError, "the budget must be bytes"),
    (("1 MB", 128), {}, ArgumentTypeError, "sizes must be a mapping"),
    (("1 kB",), {}, ArgumentError, "the size B has no number"),
    (("1 kB", {"C": 3}), {}, ArgumentError, "no size `C`"),
    (("1 kB", {B: 0}), {}, ArgumentError, "at least 1"),
    (("1 kB", {B: 3}), {"B": 4}, ArgumentError, "given as 3 and 4"),
    (("1 kB", {B: 2.5}), {}, ArgumentTypeError, "int"),
]


@pytest.mark.parametrize(
    ("args", "named", "error", "match"), BAD, ids=[str(number) for number in range(len(BAD))]
)
def test_bad_arguments(
    args: tuple[Any, ...], named: dict[str, Any], error: type[SymgraphError], match: str
) -> None:
    x = sg.tensor("x", (B, 10))
    with pytest.raises(error, match=match) as info:
        sg.function([x], sg.exp(x).sum(), passes=[sg.remat(*args, **named)])
    assert str(info.value).startswith("remat: ")


def test_several_sizes_without_a_number() -> None:
    x = sg.matrix("x")
    with pytest.raises(ArgumentError, match="have no number") as info:
        sg.function([x], sg.exp(x).sum(), passes=[sg.remat("1 kB")])
    assert 'sg.remat("2 GB", {"x.shape[0]": 128, "x.shape[1]": 128})' in info.value.fix
    sg.function([x], x, passes=[sg.remat("1 kB", {"x.shape[0]": 2, x.shape[1]: 3})])
