"""What leaves loops, and what branches take in: fewer operations inside, the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph.body import nested
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.node import Value
from symgraph.passes.branches import branches
from symgraph.passes.loops import loops

RNG = np.random.default_rng(11)


def bodies(graph: Graph) -> list[list[str]]:
    """List the operations of each body, without placeholders."""
    return [
        [value.op.name for value in body.values if value.inputs]
        for node in graph.values
        for body in nested(node.op)
    ]


def same(before: Graph, after: Graph, arrays: list[Any], rtol: float = 1e-10) -> None:
    """Require the same numbers of both graphs."""
    feeds = dict(zip(before.inputs, arrays))
    sizes: dict[Any, int] = {}
    for value, array in feeds.items():
        sizes.update(
            (size, number)
            for size, number in zip(value.shape, array.shape)
            if not isinstance(size, int)
        )
    for one, other in zip(
        interpret(before.outputs, feeds, sizes), interpret(after.outputs, feeds, sizes)
    ):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-12)


def lstm() -> tuple[list[Value], Value, list[Value]]:
    """Build the loss of a small LSTM: (inputs, loss, weights)."""
    hidden = 4
    x = sg.tensor("x", (sg.dim("T"), sg.dim("B"), 3), "float64")
    shapes = {"wx": (3, 4 * hidden), "wh": (hidden, 4 * hidden), "b": (4 * hidden,)}
    wx, wh, bias = (sg.tensor(name, shape, "float64") for name, shape in shapes.items())
    zeros = sg.zeros((x.shape[1], hidden), "float64")

    def cell(row: Any, h: Any, c: Any) -> list[Any]:
        gates = row @ wx + h @ wh + bias
        i, f, g, o = (gates[:, k * hidden : (k + 1) * hidden] for k in range(4))
        c = sg.sigmoid(f) * c + sg.sigmoid(i) * sg.tanh(g)
        return [sg.sigmoid(o) * sg.tanh(c), c]

    (outputs, _), _ = sg.scan(cell, x, [zeros, zeros])
    return [x, wx, wh, bias], sg.sum(outputs * outputs), [wx, wh, bias]


def test_a_training_step_of_an_lstm_has_one_product_in_each_step_of_either_loop() -> None:
    inputs, loss, weights = lstm()
    before = Graph(inputs, [loss, *sg.grad(loss, [inputs[0], *weights])])
    after = loops(before)
    inside = bodies(after)
    assert [names.count("matmul") for names in inside] == [1, 1]
    assert [node.op.name for node in after.values].count("matmul") == 4  # x wx, dx, dwx, dwh
    shapes = (5, 2, 3), (3, 16), (4, 16), (16,)
    same(before, after, [RNG.normal(size=shape) * 0.5 for shape in shapes])


def test_what_nobody_needs_is_dropped() -> None:
    x = sg.tensor("x", (sg.dim("T"), 3), "float64")
    rows, _ = sg.scan(
        lambda row, a, b: [a + row, b * row, sg.exp(row)],
        x, [np.zeros(3), np.ones(3), None],
    )  # fmt: skip
    before = Graph([x], [rows[2]])
    after = loops(before)
    assert bodies(after) == [["exp"]]
    same(before, after, [RNG.normal(size=(4, 3))])


def test_what_stays_the_same_is_computed_before() -> None:
    x, w = sg.tensor("x", (sg.dim("T"), 3), "float64"), sg.tensor("w", (3,), "float64")
    last, _ = sg.foldl(lambda row, s: s * sg.exp(w) + row, x, [np.zeros(3)])
    (loop,) = (node for node in Graph([x, w], [last]).values if nested(node.op))
    assert "exp" not in [value.op.name for value in nested(loop.op)[0].values]
    gradient = Graph([x, w], [sg.grad(sg.sum(last), w)])
    assert all(names.count("exp") == 0 for names in bodies(loops(gradient)))
    same(gradient, loops(gradient), [RNG.normal(size=(4, 3)), RNG.normal(size=3)])


def test_a_loop_that_may_end_early_keeps_its_products() -> None:
    x, w = sg.tensor("x", (6, 2, 3), "float64"), sg.tensor("w", (3, 3), "float64")
    rows, _ = sg.scan(
        lambda row, s: (s @ w + row @ w, sg.until(sg.sum(s) > 4.0)), x, [np.ones((2, 3))], pad=True
    )
    before = Graph([x, w], [rows, sg.grad(sg.sum(rows), w)])
    same(before, loops(before), [RNG.normal(size=(6, 2, 3)), RNG.normal(size=(3, 3))])


def test_a_branch_takes_in_what_it_alone_needs() -> None:
    x, c = sg.tensor("x", (3,), "float64"), sg.tensor("c", (), "bool")
    shared = sg.exp(x)
    y = sg.ifelse(c, sg.sin(shared), sg.cos(shared))
    after = branches(Graph([x, c], [y, shared]))
    assert sorted(bodies(after)) == [["cos"], ["sin"]]
    assert [node.op.name for node in after.values].count("exp") == 1
    alone = branches(Graph([x, c], [y]))
    assert sorted(bodies(alone)) == [["cos"], ["sin"]]  # both need it, so it stays outside
    inner = sg.ifelse(c, sg.sin(sg.tanh(x)), x)
    assert sorted(bodies(branches(Graph([x, c], [inner])))) == [[], ["tanh", "sin"]]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bodies_are_optimised_like_any_graph(precision: str) -> None:
    x, w = sg.tensor("x", (5, 4, 8)), sg.shared(np.eye(8, dtype="float32") * 0.5, "w")
    rows, _ = sg.scan(lambda row, s: sg.log(sg.softmax(s @ w + row)), x, [sg.zeros((4, 8))])
    f = sg.function([x], rows, precision=precision)
    (inside,) = bodies(f.graph)
    assert "log_softmax" in inside
    assert any("cast" in name for name in inside) == (precision == "bf16")
    assert "bodies" in [step.reason for step in f.history]
    assert np.isfinite(f(RNG.normal(size=(5, 4, 8)).astype("float32"))).all()


def test_a_budget_of_memory_is_of_the_whole_step() -> None:
    inputs, loss, weights = lstm()
    T, B = inputs[0].shape[:2]
    f = sg.function(
        inputs, [loss, *sg.grad(loss, weights)], passes=[sg.remat("1 MB", {T: 5, B: 2})]
    )
    arrays = [RNG.normal(size=s) * 0.5 for s in ((5, 2, 3), (3, 16), (4, 16), (16,))]
    plain = sg.function(inputs, [loss, *sg.grad(loss, weights)])
    for one, other in zip(f(*arrays), plain(*arrays)):
        np.testing.assert_allclose(one, other)
