"""Choices whose costly side is computed only where a lane wants it: sines of large arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.lower.llvm.module import module
from symgraph.lower.plan import Plan, make_plan
from tests.backends.test_native_execution import compiled
from tests.lower.cuda_host import COMPILER, Host, planned, run

ROWS = 5
WIDTHS = (1, 7, 16, 33, 1025)
CASES: dict[str, tuple[Callable[[Value], Value], Callable[[Any], Any]]] = {
    "sines": (sg.sin, np.sin),
    "both": (lambda x: sg.sin(x) * sg.cos(x), lambda x: np.sin(x) * np.cos(x)),
    "rows": (lambda x: (sg.sin(x) ** 2).sum(axis=1), lambda x: (np.sin(x) ** 2).sum(axis=1)),
    "columns": (lambda x: sg.cos(x).sum(axis=0), lambda x: np.cos(x).sum(axis=0)),
    "one for many": (
        lambda x: sg.sin(x[:, :1]) + sg.abs(x) * 1e-9,
        lambda x: np.sin(x[:, :1]) + np.abs(x) * 1e-9,
    ),
}


def drawn(width: int, large: float) -> Any:
    """Draw rows of which a share of the elements is large."""
    rng = np.random.default_rng(width)
    x = rng.uniform(-30, 30, (ROWS, width))
    far = rng.uniform(1e9, 1e30, x.shape)
    return np.where(rng.random(x.shape) < large, far, x).astype(np.float32)


def planned_for(case: str) -> tuple[Value, Plan, Any]:
    rows, width = sg.dim("rare_rows"), sg.dim("rare_width")
    x = sg.tensor("x", (rows, width))
    return x, planned(Graph([x], [CASES[case][0](x)]), {rows: ROWS, width: 33}), (rows, width)


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", CASES)
def test_on_the_cpu(case: str, width: int) -> None:
    build, oracle = CASES[case]
    x = sg.tensor("x", (ROWS, sg.dim("rare_width")))
    f = compiled([x], build(x))
    for large in (0.0, 0.05, 1.0):
        array = drawn(width, large)
        expected = oracle(array.astype(np.float64))
        np.testing.assert_allclose(f(array), expected, rtol=3e-6, atol=3e-6 * ROWS)


@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
@pytest.mark.parametrize("case", ["both", "rows"])
def test_with_kernels_for_cuda(case: str, tmp_path: Path) -> None:
    x, plan, (rows, width) = planned_for(case)
    host = Host(plan.kernels, tmp_path)
    for large in (0.0, 0.05):
        array = drawn(33, large)
        (found,) = run(plan, host, {x: array}, {rows: ROWS, width: 33})
        expected = CASES[case][1](array.astype(np.float64))
        np.testing.assert_allclose(found, expected, rtol=3e-6, atol=3e-6 * ROWS)


def test_each_is_a_branch() -> None:
    _, plan, _ = planned_for("both")
    text = "".join(kernel.text for kernel in plan.kernels)  # type: ignore[attr-defined]
    assert text.count("if (v") == 2


def test_costly_sides_are_functions_of_which_a_module_has_one() -> None:
    width = sg.dim("rare_width")
    x = sg.tensor("x", (ROWS, width))
    printed = []
    for count in (1, 8):
        total = sg.sin(x)
        for scale in range(2, count + 1):
            total = total + sg.sin(x * float(scale))
        kernels = make_plan(Graph([x], [total]), {width: 33}).kernels
        printed.append(module(kernels, [f"k{number}" for number in range(len(kernels))]))
    first, many = printed
    assert first.count("define internal") == many.count("define internal") == 1
    assert many.count("call <8 x float> @rare_") == 8 * first.count("call <8 x float> @rare_")
