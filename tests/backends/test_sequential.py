"""Loops whose steps depend on each other, against NumPy: sorting, and writing at named places."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.dims import Dim
from symgraph.errors import IndexRangeError
from symgraph.graph.dtypes import ALL, is_complex, numpy_dtype
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.lower.plan import CallStep
from symgraph.runtime.native import NativeExecutor

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")

Array = Any
NUMBERS = [dtype for dtype in ALL if dtype != "bool" and not is_complex(dtype)]
rng = np.random.default_rng(7)


def calls(inputs: list[Value], output: Value, arrays: list[Array]) -> list[str]:
    """Give the operations that are library calls."""
    env: dict[Dim, int] = {}
    for value, array in zip(inputs, arrays):
        env.update((s, n) for s, n in zip(value.shape, array.shape) if isinstance(s, Dim))
    plan = NativeExecutor(Graph(inputs, [output])).compile(env)
    return [step.name for step in plan.steps if isinstance(step, CallStep)]


def draw(dtype: str, shape: tuple[int, ...], low: int = 0, high: int = 20) -> Array:
    """Draw whole numbers, many of them equal, and some NaN."""
    found = rng.integers(low, high, shape).astype(numpy_dtype(dtype))
    if dtype in ("float16", "float32", "float64", "bfloat16"):
        found[rng.random(shape) < 0.1] = np.nan
    return found


def sorted_positions(x: Array, axis: int, descending: bool) -> Array:
    """Sort stably, NaN behind all numbers, by the definition."""
    wide = x.astype(np.float64) if x.dtype == ml_dtypes.bfloat16 or x.dtype == np.float16 else x
    if not descending:
        return np.argsort(wide, axis=axis, kind="stable")
    back = np.argsort(np.flip(wide, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(back, axis)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_argsort_of_every_dtype(dtype: str) -> None:
    n = sg.dim("n", min=0)
    x = sg.tensor("x", (n,), dtype)
    ups, downs = sg.argsort(x), sg.argsort(x, descending=True)
    f = sg.function([x], [ups, downs, sg.sort(x)], backend="cpu")
    assert calls([x], ups, [draw(dtype, (9,))]) == ["argsort"]
    for size in (0, 1, 2, 3, 33, 1025):
        array = draw(dtype, (size,))
        up, down, ordered = f(array)
        np.testing.assert_array_equal(up, sorted_positions(array, 0, False))
        np.testing.assert_array_equal(down, sorted_positions(array, 0, True))
        assert ordered.tobytes() == array[up].tobytes()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_argsort_of_rows_along_any_axis(axis: int, threads: int) -> None:
    shape = [5, 6, 7]
    shape[axis] = 200
    x = sg.tensor("x", tuple(shape))
    f = sg.function([x], sg.argsort(x, axis=axis), backend="cpu", threads=threads)
    array = draw("float32", tuple(shape))
    assert calls([x], sg.argsort(x, axis=axis), [array]) == ["argsort"]
    np.testing.assert_array_equal(f(array), sorted_positions(array, axis, False))
    np.testing.assert_array_equal(f(array.copy(order="F")), sorted_positions(array, axis, False))


def test_a_short_axis_is_left_to_generated_loops() -> None:
    x = sg.tensor("x", (300, 8))
    assert calls([x], sg.argsort(x), [np.zeros((300, 8))]) == []


MODES = {
    "set": None, "add": np.add, "multiply": np.multiply, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float32", "float64"])
def test_scatter_keeps_the_order_of_updates(mode: str, dtype: str) -> None:
    k = sg.dim("k", min=0)
    x, u = sg.tensor("x", (3, 5, 4), dtype), sg.tensor("u", (3, k, 4), dtype)
    i = sg.tensor("i", (k,), "int16")
    result = sg.scatter(x, i, u, axis=1, mode=mode)
    f = sg.function([x, i, u], result, backend="cpu")
    start = draw(dtype, (3, 5, 4), 1, 4)
    for count in (0, 1, 33):
        places = rng.integers(-5, 5, count).astype(np.int16)
        updates = draw(dtype, (3, count, 4), 1, 3)
        expected = start.copy()
        for number, place in enumerate(places):
            old, new = expected[:, place], updates[:, number]
            combine = MODES[mode]
            with np.errstate(all="ignore"):
                expected[:, place] = new if combine is None else combine(old, new)
        np.testing.assert_array_equal(f(start, places, updates), expected)
    assert calls([x, i, u], result, [start, places, updates]) == ["scatter"]


@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_of_selections(threads: int) -> None:
    table = sg.tensor("table", (50, 300))
    i, j = (sg.tensor(name, (sg.dim("k"),), "int64") for name in "ij")
    g = sg.tensor("g", (sg.dim("k"), 300))
    loss = (table[i] * g).sum() + (table[i, j]).sum()
    found = sg.grad(loss, table)
    f = sg.function([table, i, j, g], found, backend="cpu", threads=threads)
    rows, columns = rng.integers(-50, 50, 400), rng.integers(0, 300, 400)
    weights = rng.normal(size=(400, 300)).astype(np.float32)
    arrays = [np.zeros((50, 300), np.float32), rows, columns, weights]
    assert calls([table, i, j, g], found, arrays) == ["scatter_add"] * 2
    expected = np.zeros((50, 300))
    np.add.at(expected, rows, weights)
    np.add.at(expected, (rows, columns), 1)
    np.testing.assert_allclose(f(*arrays), expected, rtol=1e-4, atol=1e-4)


def test_sums_along_an_axis() -> None:
    u, i = sg.tensor("u", (4, 100, 3)), sg.tensor("i", (4, 100, 3), "int32")
    found = sg.F.scatter_add_along_axis(u, i, 7, axis=1)
    f = sg.function([u, i], found, backend="cpu")
    updates = rng.normal(size=(4, 100, 3)).astype(np.float32)
    places = rng.integers(-7, 7, (4, 100, 3)).astype(np.int32)
    assert calls([u, i], found, [updates, places]) == ["scatter_add_along_axis"]
    expected = np.zeros((4, 7, 3))
    np.add.at(expected, (np.arange(4)[:, None, None], places, np.arange(3)), updates)
    np.testing.assert_allclose(f(updates, places), expected, rtol=1e-5, atol=1e-5)


def test_an_index_that_does_not_exist_is_an_error_and_writes_nothing() -> None:
    x, i = sg.tensor("x", (8, 2)), sg.tensor("i", (40,), "int64")
    f = sg.function([x, i], sg.scatter(x, i, 1.0), backend="cpu")
    places = np.zeros(40, np.int64)
    array = np.zeros((8, 2), np.float32)
    for wrong in (8, -9, 2**40, -(2**62)):
        places[17] = wrong
        with pytest.raises(IndexRangeError, match=rf"scatter: index {wrong} at position \(17,\)"):
            f(array, places)
    places[17] = 7
    assert f(array, places).sum() == 4


def test_parts_that_are_no_rows_are_copied_first() -> None:
    x = sg.tensor("x", (400, 6))
    turned = sg.argsort(x.T[1:4], axis=1)
    f = sg.function([x], turned, backend="cpu")
    array = draw("float32", (400, 6))
    np.testing.assert_array_equal(f(array), sorted_positions(array.T[1:4], 1, False))
