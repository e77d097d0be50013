"""Bytes and peak memory of whole graphs against the arrays that were really alive in a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings

import symgraph as sg
from models.alexnet import SIDE, AlexNet, optimizer
from models.common.classifier import train_step
from symgraph.cost.limit import peak_bytes
from symgraph.dims import Dim, evaluate
from symgraph.errors import GuardError, IndexRangeError
from symgraph.graph.interpret import interpret
from symgraph.graph.node import Value
from tests.cost.counting import Run
from tests.random_graphs import NUMBERS, Program, named
from tests.random_maker import programs

# the terms of the sum that each element of a product is, from the shapes of arrays
PRODUCTS: dict[str, Callable[..., tuple[int, ...]]] = {
    "matmul": lambda y, a, b: a[-1:],
    "conv": lambda y, x, w: w[1:],
    "conv_input": lambda dx, g, w: (w[0] * w[1] // dx[1], *w[2:]),
    "conv_weight": lambda dw, x, g: (g[0], *g[2:]),
}


def assert_counts(graph: sg.Graph, feeds: dict[Value, Any], env: dict[Dim, int]) -> Run:
    """Run, and hold the formulas and the fast path against the arrays."""
    run = Run(graph, feeds)
    found = sg.cost(graph)
    flops = {row.node: evaluate(row.flops, env) for row in found.nodes}

    def watch(node: Value, result: Any) -> None:
        run.watch(node, result)
        if node.op.name in PRODUCTS:
            shapes = [run.seen[operand][0]().shape for operand in node.inputs]
            factors = PRODUCTS[node.op.name](result.shape, *shapes)
            assert flops[node] == 2 * math.prod(result.shape) * math.prod(factors), node
        elif node.op.name in ("add", "subtract", "multiply", "divide"):
            assert flops[node] == (result.size if result.dtype.kind == "f" else 0), node

    with np.errstate(all="ignore"):
        arrays = interpret(graph.roots, feeds, env, watch=watch, order=graph.values)
    run.written_out(graph.outputs, arrays)
    numbers = found.evaluate({size: env[size] for size in found.sizes})
    assert (numbers.read, numbers.written) == (run.read, run.written)
    assert numbers.peak == run.peak
    assert peak_bytes(graph, env) == run.peak
    return run


def test_alexnet_trains_in_the_memory_that_is_said() -> None:
    net = AlexNet()
    step = train_step(net, optimizer(net, 0.01), SIDE)
    images, labels = step.graph.inputs
    rng = np.random.default_rng(0)
    for batch in (1, 2):
        feeds = {
            images: rng.standard_normal((batch, 3, SIDE, SIDE), dtype=np.float32),
            labels: rng.integers(0, 1000, batch, dtype=np.int32),
        }
        run = assert_counts(step.graph, feeds, {sg.dim("B"): batch})
        assert run.peak > 4 * 60_965_224 * 4  # weights and momenta, old and new


def test_a_perceptron_trains_in_the_memory_that_is_said() -> None:
    B = sg.dim("B")
    x, y = sg.tensor("x", (B, 20)), sg.tensor("y", (B,), "int32")
    net = sg.nn.Sequential(sg.nn.Dense(20, 30), sg.nn.Activation("tanh"), sg.nn.Dense(30, 7))
    loss = sg.nn.cross_entropy(net(x), y).mean()
    step = sg.optim.Adam(net.parameters(), 1e-3)
    train = sg.function([x, y], loss, updates=step.updates(loss))
    rng = np.random.default_rng(0)
    for graph in (train.built, train.graph):
        for batch in (1, 2, 5, 100):
            images = rng.standard_normal((batch, 20)).astype("float32")
            feeds = {x: images, y: rng.integers(0, 7, batch, dtype=np.int32)}
            assert_counts(graph, feeds, {B: batch})


def test_random_graphs_run_in_the_memory_that_is_said() -> None:
    counts = {"graphs": 0, "runs": 0, "copies": 0}
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

    @settings(max_examples=220, suppress_health_check=quiet)
    @given(programs())
    def each(program: Program) -> None:
        with sg.config(float_dtype="float64"):
            counts["graphs"] += 1
            for copies in _runs(program):
                counts["runs"] += 1
                counts["copies"] += copies > 0

    each()
    assert counts["graphs"] >= 200
    assert counts["runs"] > 2 * counts["graphs"]
    assert counts["copies"] < counts["runs"] / 10


def _runs(program: Program) -> list[int]:
    """Run a program at its own sizes and at others; give the copies that reshapes made in each."""
    slots = program.build(program.declare())
    inputs = program.inputs(slots)
    outputs = [slots[i] for i in program.outputs]
    graph = sg.Graph(inputs, outputs, program.new_values(slots))
    copies = []
    for turn in range(4):
        sizes = {name: NUMBERS[name][turn % len(NUMBERS[name])] for name in program.sizes}
        if turn == 0:
            sizes = program.sizes
        env = {named(name): number for name, number in sizes.items()}
        if _admitted(graph, env):
            arrays = [leaf.array(sizes) for leaf in program.leaves if leaf.kind == "input"]
            try:
                copies.append(assert_counts(graph, dict(zip(inputs, arrays)), env).copies)
            except IndexRangeError:  # a number of the program lies beyond an axis of these sizes
                assert turn > 0
    return copies


def _admitted(graph: sg.Graph, env: dict[Dim, int]) -> bool:
    try:
        for guard in graph.guards():
            guard.check(env)
    except GuardError:
        return False
    return True
