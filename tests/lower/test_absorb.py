"""Activations in products: where a library is asked for both at once, and where it is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cuda import offline
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value, make
from symgraph.graph.registry import OPS
from symgraph.lower.absorb import absorb
from symgraph.lower.plan import CallStep, parts
from tests.lower.cuda_steps import B, step

ABSORBED = "matmul_bias_relu"


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.values]


def layer(after: Callable[[Value], Value] = sg.relu, dtype: str = "float32") -> list[Value]:
    """Inputs of a dense layer, and its result."""
    x, w, b = (
        sg.tensor(name, shape, dtype) for name, shape in zip("xwb", ((8, 20), (20, 16), (16,)))
    )
    return [x, w, b, after(x @ w + b)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_relu_goes_into_the_product_before_it(dtype: str) -> None:
    *inputs, y = layer(dtype=dtype)
    graph = Graph(inputs, [y])
    found = absorb(graph, lambda value: True)
    assert names(found).count(ABSORBED) == 1
    assert "relu" not in names(found)
    assert found.outputs[0].tensor == y.tensor
    rng = np.random.default_rng(0)
    feeds = [rng.standard_normal(one.tensor.shape).astype(dtype) for one in inputs]
    (one,), (other,) = (sg.function(g.inputs, g.outputs)(*feeds) for g in (found, graph))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_half_is_rounded_before_it_which_is_the_same() -> None:
    """Bit for bit: what is rounded first keeps its sign."""
    x, w = sg.tensor("x", (8, 20), "bfloat16"), sg.tensor("w", (20, 16), "bfloat16")
    b = sg.tensor("b", (16,))
    y = sg.relu(make(OPS["matmul_bias"](), x, w, b).cast("float32"))
    graph = Graph([x, w, b], [y])
    found = absorb(graph, lambda value: True)
    assert (names(found).count(ABSORBED), names(found).count("relu")) == (1, 0)
    rng = np.random.default_rng(1)
    feeds = [rng.standard_normal(one.tensor.shape).astype(numpy_dtype(one.dtype))
             for one in graph.inputs]  # fmt: skip
    one, other = (sg.function(g.inputs, g.outputs[0], backend="reference") for g in (found, graph))
    assert one(*feeds).tobytes() == other(*feeds).tobytes()


def test_what_somebody_else_reads_stays() -> None:
    *inputs, y = layer()
    before = y.inputs[0]
    for outputs in ([y, before], [y, before * 2], [y, before.inputs[0]]):
        assert ABSORBED not in names(absorb(Graph(inputs, outputs), lambda value: True))


def test_others_stay() -> None:
    for after in (sg.tanh, sg.nn.Activation("gelu"), lambda z: z, lambda z: sg.relu(z.sum(axis=0))):
        *inputs, y = layer(after)
        assert ABSORBED not in names(absorb(Graph(inputs, [y]), lambda value: True))
    *inputs, y = layer()
    assert absorb(Graph(inputs, [y]), lambda value: False).outputs[0] is y
    x, w, c = sg.tensor("x", (8, 20)), sg.tensor("w", (20, 16)), sg.tensor("c", (8, 1))
    graph = Graph([x, w, c], [sg.relu(x @ w + c)])
    assert ABSORBED not in names(absorb(graph, lambda value: True)), "a number for each row"


def test_a_perceptron_has_two() -> None:
    """Its derivative reads the result: what goes into a relu has no other reader."""
    for precision in ("fp32", "bf16"):
        graph = step("perceptron", precision)
        plans = [
            offline.planned(graph, {B: 128}, narrow=precision == "bf16", fast=fast)
            for fast in (False, True)
        ]
        counts = [
            sum(isinstance(one, CallStep) and one.name == ABSORBED for one in plan.steps)
            for plan in plans
        ]
        assert counts == [0, 2]
        kernels = [sum(len(parts(one)) for one in plan.steps) for plan in plans]
        assert kernels == ([21, 20] if precision == "fp32" else [26, 25])
