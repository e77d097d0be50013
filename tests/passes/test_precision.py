"""The pass that rounds factors to bfloat16: what it narrows, where it keeps float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.node import Value
from symgraph.passes.precision import bf16

B = sg.dim("B")


def names(graph: Graph) -> list[str]:
    """The products of a graph once it is narrowed."""
    after = bf16(graph)
    return [v.op.name for v in after.values if v.op.name.startswith(("conv", "matmul"))]


def dense(bias_shape: tuple[int, ...]) -> tuple[list[Value], Value, Value]:
    x, w, b = sg.tensor("x", (B, 64)), sg.tensor("w", (64, 5)), sg.tensor("b", bias_shape)
    return [x, w, b], x @ w, b


def image(bias_shape: tuple[int, ...]) -> tuple[list[Value], Value, Value]:
    x, w = sg.tensor("x", (B, 6, 5, 5)), sg.tensor("w", (4, 3, 2, 3))
    b = sg.tensor("b", bias_shape)
    return [x, w, b], sg.conv2d(x, w, groups=2, padding=1), b


CASES = [
    pytest.param(dense, (5,), "matmul_bias", id="dense"),
    pytest.param(dense, (1, 5), "matmul_bias", id="dense row"),
    pytest.param(image, (4, 1, 1), "conv_bias", id="image"),
    pytest.param(image, (1, 4, 1, 1), "conv_bias", id="image whole"),
    pytest.param(dense, (), "matmul", id="one number"),
    pytest.param(dense, (1,), "matmul", id="one number for all columns"),
    pytest.param(image, (5,), "conv", id="another axis"),
    pytest.param(image, (4, 1, 5), "conv", id="more than a bias"),
]


@pytest.mark.parametrize(("build", "shape", "expected"), CASES)
@pytest.mark.parametrize("turned", [False, True])
def test_a_bias_is_added_before_the_rounding(
    build: Callable[[tuple[int, ...]], tuple[list[Value], Value, Value]],
    shape: tuple[int, ...],
    expected: str,
    turned: bool,
) -> None:
    inputs, product, bias = build(shape)
    graph = Graph(inputs, [bias + product if turned else product + bias])
    assert names(graph) == [expected]


def test_a_product_that_others_read_keeps_its_own_rounding() -> None:
    inputs, product, bias = dense((5,))
    assert names(Graph(inputs, [product + bias, sg.exp(product)])) == ["matmul"]
    assert names(Graph(inputs, [product + bias, product])) == ["matmul"]
    assert names(Graph(inputs, [product + product])) == ["matmul"]


def test_the_sum_is_rounded_once() -> None:
    """The error is that of one rounding of the sum: with two it is larger by half on average."""
    inputs, product, bias = dense((5,))
    graph = Graph(inputs, [product + bias])
    after = bf16(graph)
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=s).astype(np.float32) for s in ((2000, 64), (64, 5), (5,))]
    low = [np.asarray(sg.constant(a).cast("bfloat16").cast("float64").eval()) for a in arrays[:2]]
    exact = low[0] @ low[1] + arrays[2]
    (found,) = interpret(after.outputs, dict(zip(inputs, arrays)))
    once = np.asarray(sg.constant(exact).cast("bfloat16").cast("float64").eval())
    assert found.dtype == np.float32
    # sums in float32 differ from the exact ones: a few fall on the other side of a tie
    assert np.mean(found != once) < 1e-3


def test_tf32_as_a_setting_is_fp32_where_there_is_no_such_thing() -> None:
    with sg.config(precision="tf32"):
        assert sg.constant([1.0, 2.0]).sum().eval() == 3
        x = sg.vector("x")
        assert sg.function([x], x.sum())(np.ones(3, np.float32)) == 3
