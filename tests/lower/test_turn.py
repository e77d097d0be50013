"""What lies across vectors: tiles that are turned, results that a copy brings into place."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.graph.graph import Graph
from symgraph.graph.walk import leaves
from symgraph.lower.cuda.schedule import choose as choose_for_device
from symgraph.lower.nest import Nest
from symgraph.lower.plan import KernelStep, Target, make_plan
from symgraph.lower.schedule import TURNED, Schedule, choose
from symgraph.lower.turn import LARGE

needs_compiler = pytest.mark.skipif(
    bool(unavailable()), reason=unavailable() or "there is a compiler"
)
ROWS, COLUMNS = sg.dim("turn_rows", min=0), sg.dim("turn_columns", min=0)
NOMINAL = {ROWS: 130, COLUMNS: 300}
SIZES = (130, 1, 7, 8, 9, 16, 17, 31, 33, 64, 65, 0)  # the first decides what is compiled
DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint16", "int32", "int64", "bool")
CASES: dict[str, Callable[[Any, Any], Any]] = {
    "copy": lambda x, y: x.T,
    "beside another": lambda x, y: x.T + y,
    "two of them": lambda x, y: x.T + x.T[::-1],
    "twice as many": lambda x, y: x.T[:, ::2],
    "a sum of it": lambda x, y: (x.T + y).sum(axis=0),
}


def nests(output: sg.Value) -> list[Nest]:
    """Give what is computed, ready for a schedule."""
    found: list[Nest] = []

    def kept(nest: Nest, *given: Any) -> Schedule:
        found.append(nest)
        return choose(nest, *given)

    make_plan(Graph(list(leaves([output])), [output]), NOMINAL, Target(choice=kept))
    return found


def schedules(output: sg.Value) -> list[Schedule]:
    """Give the schedules of what is computed, for a CPU."""
    return [choose(nest, NOMINAL) for nest in nests(output)]


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_numbers_are_those_of_numpy(case: str, dtype: str, rng: np.random.Generator) -> None:
    if dtype == "bool" and case != "copy":
        return
    x, y = sg.tensor("x", (ROWS, COLUMNS), dtype), sg.tensor("y", (COLUMNS, ROWS), dtype)
    f = sg.function([x, y], CASES[case](x, y), backend="cpu")
    for rows, columns in itertools.product(SIZES, (300, 3, 8, 15, 16, 129)):
        a = rng.integers(0, 2 if dtype == "bool" else 5, (rows, columns)).astype(x.dtype)
        b = rng.integers(0, 2 if dtype == "bool" else 5, (columns, rows)).astype(x.dtype)
        wanted = CASES[case](a.astype("int64"), b.astype("int64")).astype(f(a, b).dtype)
        np.testing.assert_array_equal(f(a, b), wanted, err_msg=f"{rows} x {columns}")


def test_which_loads_are_turned() -> None:
    x, y = sg.tensor("x", (ROWS, COLUMNS)), sg.tensor("y", (COLUMNS, ROWS))
    (own,) = schedules(x.T + y)
    assert [str(node.attr) for node in own.turned] == ["x"]
    assert own.vector is not own.order[-1]
    assert own.lanes == 16  # a line of float32
    narrow = sg.tensor("x", (ROWS, TURNED - 1))
    for kept in (x + 1.0, narrow.T + 1.0, (x.T + y).sum(axis=0), x.T > 0.0):
        turned = {node.dtype for one in schedules(kept) for node in one.turned}
        assert turned == ({"float32"} if kept.dtype == "bool" else set())


def test_lanes_write_whole_lines() -> None:
    for dtype, lanes in (("float64", 16), ("float32", 16), ("bfloat16", 32), ("int8", 32)):
        x = sg.tensor("x", (ROWS, COLUMNS), dtype)
        (own,) = schedules(sg.abs(x.T))
        assert own.lanes == lanes, dtype


def test_devices_turn_nothing() -> None:
    x = sg.tensor("x", (ROWS, COLUMNS))
    (nest,) = nests(x.T + 1.0)
    assert choose(nest, NOMINAL).turned
    assert not choose_for_device(nest, NOMINAL).turned


# -- results of windows ----------------------------------------------------------------------------


def lateral(value: sg.Value) -> bool:
    """Let a library compute what sums over channels: around it channels are innermost."""
    return value.op.name.startswith("conv") and value.op.groups == 1  # type: ignore[attr-defined]


def cascade(side: int) -> tuple[sg.Value, sg.Value]:
    sg.seed(3)
    x = sg.tensor("x", (2, 32, side, side))
    return x, sg.relu(sg.nn.FlattenedConv(32, 32, 5, stages=1, padding=2)(x))


def count(side: int, turns: bool) -> int:
    x, y = cascade(side)
    plan = make_plan(Graph([x], [y]), {}, Target(lateral, rows=True, turns=turns))
    return sum(isinstance(step, KernelStep) for step in plan.steps)


def test_a_result_in_another_order_is_brought_into_place_by_a_copy() -> None:
    large, small = 40, 16
    assert 4 * 2 * 32 * small**2 < LARGE <= 4 * 2 * 32 * large**2
    assert count(large, turns=True) == count(large, turns=False) + 1
    assert count(small, turns=True) == count(small, turns=False)  # not worth a second kernel


@needs_compiler
@pytest.mark.parametrize("side", [40, 37])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_is_what_the_reference_gives(
    side: int, precision: str, rng: np.random.Generator
) -> None:
    x, y = cascade(side)
    array = rng.normal(size=(2, 32, side, side)).astype(np.float32)
    found = sg.function([x], y, backend="cpu", precision=precision)(array)
    wanted = sg.function([x], y, backend="reference")(array)
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert error < (1e-5 if precision == "fp32" else 3e-2)
