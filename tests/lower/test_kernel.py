"""What reductions keep for later loops, stores past the caches, and loads under masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.graph.node import Value
from symgraph.lower import schedule, stage
from symgraph.lower.loops import Fetch, Keep
from symgraph.lower.memory import ALIGN
from symgraph.lower.plan import approximated
from symgraph.lower.schedule import choose
from symgraph.runtime.native import NativeExecutor
from tests.backends.test_native_execution import compiled
from tests.lower.nests import A, N, flat, only, statements, walk

needs_compiler = pytest.mark.skipif(
    bool(unavailable()), reason=unavailable() or "there is a compiler"
)
WIDTHS = (1, 5, 16, 17, 33, 64, 1000, 1025)


def counted(output: Value, *inputs: Value) -> tuple[int, int]:
    """Count what the loops of the one nest keep and fetch."""
    every = list(walk(statements(flat(approximated(only(output, *inputs))))))
    return sum(isinstance(s, Keep) for s in every), sum(isinstance(s, Fetch) for s in every)


def test_a_softmax_computes_its_exponentials_once() -> None:
    x = sg.tensor("x", (A, 1024))
    assert counted(sg.softmax(x, axis=-1), x) == (1, 1)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: sg.softmax(x, axis=0),  # columns are of unknown length
        lambda x: sg.layer_norm(x, epsilon=1e-5),  # a difference is cheaper than to keep it
        lambda x: sg.sum(sg.exp(x), axis=-1),  # nobody asks again
    ],
)
def test_nothing_else_is_kept(build: Callable[[Value], Value]) -> None:
    x = sg.tensor("x", (A, 1024))
    assert counted(build(x), x) == (0, 0)


def test_long_rows_are_computed_again() -> None:
    long = sg.tensor("x", (A, stage.ROOM))
    assert counted(sg.softmax(long, axis=-1), long) == (0, 0)
    symbolic = sg.tensor("x", (A, N))
    assert counted(sg.softmax(symbolic, axis=-1), symbolic) == (0, 0)


def rows(x: Value) -> list[Value]:
    return [
        sg.softmax(x, axis=-1),
        sg.grad((sg.softmax(x, axis=-1) ** 2).sum(), x),
        sg.exp(sg.tanh(x)) * sg.exp(sg.tanh(x)).sum(axis=1, keepdims=True),
        (sg.exp(x - x.mean(axis=1, keepdims=True)) / 3).max(axis=1),
    ]


@needs_compiler
@pytest.mark.parametrize("width", WIDTHS)
def test_results_are_those_of_computing_again(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = sg.tensor("x", (sg.dim("stage_rows"), width))
    staged, again = compiled([x], rows(x)), compiled([x], rows(x))
    for count in (1, 3, 200):
        array = np.random.default_rng(width).standard_normal((count, width)).astype(np.float32)
        array[-1, -1] = np.nan
        if count > 1:
            array[0, 0] = np.inf
        found = staged(array)
        with monkeypatch.context() as patch:
            patch.setattr(stage, "DEAR", 10**9)
            wanted = again(array)
        for one, other in zip(found, wanted, strict=True):
            assert one.tobytes() == other.tobytes()


@needs_compiler
@pytest.mark.parametrize("shape", [(6, 2), (5, 19), (600, 7), (2, 9, 33)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_columns_that_are_computed_together_keep_their_own(
    shape: tuple[int, ...], dtype: str
) -> None:
    x = sg.tensor("x", shape, dtype)
    array = np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)
    (found,) = compiled([x], [sg.softmax(x, axis=-2)])(array)
    powers = np.exp(array.astype(np.float64))
    wanted = powers / powers.sum(axis=-2, keepdims=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-5 if dtype == "float32" else 1e-13)


# -- stores past the caches ------------------------------------------------------------------------


def test_only_what_does_not_fit_the_caches_is_streamed() -> None:
    x = sg.tensor("x", (A, 1024))
    nest = flat(only(sg.exp(x), x))
    (target,) = nest.writes()
    large = {A: schedule.STREAMED // 4096}
    assert choose(nest, large, {target}).streamed == {target}
    assert choose(nest, {A: large[A] - 1}, {target}).streamed == frozenset()
    assert choose(nest, large).streamed == frozenset(), "nobody says that it is aligned"


@pytest.mark.parametrize("width", [1000, 1025])
def test_rows_that_are_not_of_whole_lines_are_not_streamed(width: int) -> None:
    x, v = sg.tensor("x", (A, width)), sg.tensor("v", (width,))
    nest = flat(only(x + v, x, v))
    (target,) = nest.writes()
    aligned = choose(nest, {A: schedule.STREAMED}, {target})
    assert aligned.streamed == frozenset()


def flat_results(x: Value, v: Value) -> list[Value]:
    return [sg.exp(x), (x * 3).cast("bfloat16")]


def row_results(x: Value, v: Value) -> list[Value]:
    return [sg.exp(x) + v, sg.softmax(x * v, axis=-1), x[:, ::-1] * 2, (x * v).cast("bfloat16")]


@needs_compiler
@pytest.mark.parametrize("results", [flat_results, row_results])
@pytest.mark.parametrize("width", WIDTHS)
def test_streamed_results_are_the_same(
    width: int, results: Callable[..., list[Value]], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, v = sg.tensor("x", (sg.dim("stage_rows"), width)), sg.tensor("v", (width,))
    plain = compiled([x, v], results(x, v))
    rng = np.random.default_rng(width)
    arrays: list[Any] = [rng.standard_normal(s).astype(np.float32) for s in ((70, width), width)]
    wanted = plain(*arrays)
    with monkeypatch.context() as patch:
        patch.setattr(schedule, "STREAMED", 1)
        streamed = compiled([x, v], results(x, v))
        found = streamed(*arrays)
    executor = streamed._executor
    assert isinstance(executor, NativeExecutor)
    assert executor.plan is not None
    whole_lines = results is flat_results or width in (1, 16, 64)
    assert bool(executor.plan.streamed) is whole_lines
    for one, other in zip(found, wanted, strict=True):
        assert one.tobytes() == other.tobytes()
    for one, buffer in zip(found, executor.plan.program.outputs, strict=True):
        assert buffer not in executor.plan.streamed or one.ctypes.data % ALIGN == 0


@needs_compiler
def test_variables_updated_in_place_are_not_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "STREAMED", 1)
    w, g = sg.shared(np.ones((64, 64), np.float32), "w"), sg.tensor("g", (64, 64))
    step = compiled([g], w.sum(), updates={w: g * 2})
    step(np.ones((64, 64), np.float32))
    executor = step._executor
    assert isinstance(executor, NativeExecutor)
    assert executor.plan is not None
    assert not executor.plan.streamed & set(executor.plan.in_place.values())
    assert (np.asarray(w.value) == 2).all()


# -- loads under masks -----------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("width", [3, 4, 5, 8, 9, 12, 16, 17])
def test_masks_that_leave_out_half_of_a_vector(width: int, dtype: str) -> None:
    """LLVM 22 made loads without a mask of them for processors that have no registers for masks."""
    pads = [(0, 1), (1, 1), (1, 8), (8, 1), (4, 4), (16, 3)]
    x = sg.tensor("x", (sg.dim("stage_rows"), width), dtype)
    array = np.arange(1, 3 * width + 1).reshape(3, width).astype(dtype)
    found = compiled([x], [sg.pad(x, ((1, 1), pair)) for pair in pads])(array)
    for one, pair in zip(found, pads, strict=True):
        np.testing.assert_array_equal(one, np.pad(array, ((1, 1), pair)))
