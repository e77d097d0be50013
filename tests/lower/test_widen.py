"""Products of bfloat16 on a machine that only has float32: where they are replaced, and by what."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import symgraph as sg
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.lower.widen import widen

LOW = np.dtype(ml_dtypes.bfloat16)


def products(graph: Graph) -> list[Value]:
    return [node for node in graph.values if node.op.name in ("conv", "matmul")]


def only_float32(node: Value) -> bool:
    return all(x.tensor.dtype == "float32" for x in node.inputs)


@pytest.fixture
def graph() -> Graph:
    x = sg.tensor("x", (2, 3, 6, 6), "bfloat16")
    w = sg.tensor("w", (4, 3, 3, 3), "bfloat16")
    v = sg.tensor("v", (16, 5), "bfloat16")
    return Graph([x, w, v], [sg.conv2d(x, w).reshape((8, 16)) @ v])


def test_products_become_float32_where_only_that_is_there(graph: Graph) -> None:
    wide = widen(graph, only_float32)
    assert [node.tensor.dtype for node in products(wide)] == ["float32", "float32"]
    assert wide.outputs[0].tensor == graph.outputs[0].tensor
    assert wide.inputs == graph.inputs


@pytest.mark.parametrize("chosen", [True, False])
def test_nothing_changes_where_the_library_has_both_or_none(graph: Graph, chosen: bool) -> None:
    assert widen(graph, lambda node: chosen).outputs == graph.outputs


def test_what_is_summed_in_float32_is_rounded_once(graph: Graph) -> None:
    rng = np.random.default_rng(0)
    feeds = [rng.standard_normal(one.tensor.shape).astype(LOW) for one in graph.inputs]
    wide = widen(graph, only_float32)
    found, expected = (
        sg.function(one.inputs, one.outputs)(*feeds)[0].astype(np.float64) for one in (wide, graph)
    )
    np.testing.assert_allclose(found, expected, rtol=2.0**-7, atol=2.0**-7 * abs(expected).max())
