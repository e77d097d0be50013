"""Indices of 32 bits where they reach everything, of 64 where they do not.

How far indices go is computed from sizes, and seen when kernels run with indices that remember it.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph.graph import Graph
from symgraph.graph.index import axes, m, position
from symgraph.graph.interpret import interpret
from symgraph.graph.node import Value
from symgraph.graph.scalar import const
from symgraph.lower.cuda.kernel import Kernel
from symgraph.lower.linear import linear
from symgraph.lower.plan import KernelStep, Plan
from symgraph.lower.reach import ARITHMETIC, LIMIT, Indices, Range, Reach
from tests.backends.test_native_registry import (
    KERNEL_DIFFERENTIABLE,
    Sheet,
    cases_of,
    differences,
    groups,
    pulled_back,
    together,
)
from tests.lower.cuda_host import COMPILER, MOST_BLOCKS, Env, Host, planned, run
from tests.lower.test_cuda_registry import is_kernels
from tests.ops.registry_cases import KERNEL_NAMES, build

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
HEADER = Path(__file__).with_name("cuda_watched.h")


class Watching(Host):
    """Kernels whose indices remember how far they went, launch by launch."""

    def __init__(self, kernels: Sequence[Kernel], folder: Path) -> None:
        watched = [replace(k, text=re.sub(r"\bIndex\b", "Watched", k.text)) for k in kernels]
        super().__init__(watched, folder, "-include", str(HEADER))
        self.library.watched.restype = ctypes.POINTER(ctypes.c_longlong)
        self.furthest = self.library.watched().contents
        self.seen: list[int] = []

    def launch(self, *given: Any) -> None:
        self.furthest.value = 0
        super().launch(*given)
        self.seen.append(self.furthest.value)


def computed(plan: Plan, env: Env) -> list[int]:
    """Give how far indices go by what was computed, step by step."""
    strides = [one.stride(MOST_BLOCKS) for one in plan.kernels]
    steps = [one for one in plan.steps if isinstance(one, KernelStep)]
    return [one.reach.furthest(env, strides[one.kernel]) for one in steps]


def require(sheets: Sequence[Sheet], folder: Path) -> None:
    """Run samples; no index goes further than was computed, and results are right."""
    problems, first = [], 0
    joined = [whole for whole, _ in together([one for one in sheets if is_kernels(one)])]
    plans = [planned(Graph(whole.inputs, whole.outputs), whole.env) for whole in joined]
    host = Watching([kernel for plan in plans for kernel in plan.kernels], folder)
    for whole, plan in zip(joined, plans):
        host.seen.clear()
        found = run(plan, host, whole.feeds, whole.env, 0, first)
        first += len(plan.kernels)
        expected = interpret(whole.outputs, whole.feeds, whole.env)
        problems += differences(found, expected, whole.labels)
        steps = [one for one in plan.steps if isinstance(one, KernelStep)]
        for step, seen, limit in zip(steps, host.seen, computed(plan, whole.env), strict=True):
            if seen > max(1, limit):  # the prelude has a 1 of its own
                problems.append(f"{step.name}: an index was {seen}, not {limit} at most")
    assert not problems, "\n".join(problems)


def sliced(names: Sequence[str], count: int) -> list[Any]:
    """Leave all groups but the first few to the full run."""
    found = groups(list(names))
    return [*found[:count], *(pytest.param(*one.values, id=one.id, marks=pytest.mark.full)
                              for one in found[count:])]  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("names", sliced(list(KERNEL_NAMES), 4))
def test_no_index_goes_further_than_computed(names: Sequence[str], tmp_path: Path) -> None:
    require([sampled(case, kind) for case, kind in cases_of(names, "float32")], tmp_path)


@needs_compiler
@pytest.mark.parametrize("names", sliced(KERNEL_DIFFERENTIABLE, 2))
def test_no_index_of_derivatives_does(names: Sequence[str], tmp_path: Path) -> None:
    cases = [pair for pair in cases_of(names, "float32") if pair[0].checked]
    sheets = [pulled_back(case, kind) for case, kind in cases]
    require([sheet for sheet in sheets if sheet is not None], tmp_path)


def sampled(case: Any, kind: Any) -> Sheet:
    """Give a sample of the registry with what it needs."""
    built, sheet = build(case, kind), Sheet()
    sheet.add(built, built.outputs, built.feeds)
    return sheet


@needs_compiler
def test_an_end_that_is_forgotten_is_found(tmp_path: Path) -> None:
    """The test itself: without the counters of its loops, a sum goes further than computed."""
    x = sg.tensor("x", (sg.dim("indices_rows"), 100))
    env = {x.shape[0]: 1}
    plan = planned(Graph([x], [x.sum(axis=1)]), env)
    host = Watching(plan.kernels, tmp_path)
    run(plan, host, {x: np.ones((1, 100), np.float32)}, env)
    (limit,), (seen,) = computed(plan, env), host.seen
    (step,) = (one for one in plan.steps if isinstance(one, KernelStep))
    assert replace(step.reach, counts=()).furthest(env) < seen <= limit


@pytest.mark.full
@needs_compiler
@pytest.mark.parametrize("names", sliced(list(KERNEL_NAMES), 2))
def test_both_widths_give_the_same_bits(names: Sequence[str], tmp_path: Path) -> None:
    sheets = [sampled(case, kind) for case, kind in cases_of(names, "float32")]
    joined = [whole for whole, _ in together([one for one in sheets if is_kernels(one)])]
    plans = [planned(Graph(whole.inputs, whole.outputs), whole.env) for whole in joined]
    kernels, first = [kernel for plan in plans for kernel in plan.kernels], 0
    hosts = [Host(kernels, tmp_path, wide=wide) for wide in (False, True)]
    assert "Index" not in hosts[0].source + hosts[1].source
    for whole, plan in zip(joined, plans):
        narrow, wide = (run(plan, host, whole.feeds, whole.env, 0, first) for host in hosts)
        assert [one.tobytes() for one in narrow] == [one.tobytes() for one in wide]
        first += len(plan.kernels)


# -- the border ------------------------------------------------------------------------------------

N = sg.dim("indices_n")
MOST = 16 * 132  # blocks, of an H200


def fits(value: Value, inputs: Sequence[Value], n: int) -> bool:
    """Tell whether all steps of a plan have narrow indices; it is made at a small size."""
    plan = planned(Graph(list(inputs), [value]), {N: 64})
    steps = [one for one in plan.steps if isinstance(one, KernelStep)]
    strides = [plan.kernels[one.kernel].stride(MOST) for one in steps]
    return all(one.reach.fits({N: n}, stride) for one, stride in zip(steps, strides))


def test_elements_up_to_the_border_are_narrow() -> None:
    """A thread has one element; after its last it looks for another one a stride further."""
    x = sg.tensor("x", (N,))
    stride = MOST * 256
    assert fits(sg.exp(x), [x], LIMIT - stride)
    assert not fits(sg.exp(x), [x], LIMIT - stride + 1)
    assert not fits(sg.exp(x), [x], 1 << 31)
    assert not fits(sg.exp(x), [x], 1 << 40)


@pytest.mark.parametrize(
    ("build", "elements"),
    [
        pytest.param(sg.exp, 4096, id="four at once"),
        pytest.param(lambda x: sg.softmax(x, axis=1), 4096, id="rows"),
        pytest.param(lambda x: x.sum(axis=0), 4096, id="columns"),
        pytest.param(lambda x: x.T.reshape((-1,)) + 1, 4096, id="another order"),
        pytest.param(lambda x: x[:, ::-1], 4096, id="backwards"),
        pytest.param(lambda x: sg.pad(x, ((0, 0), (1, 1))), 4098, id="padded"),
    ],
)
def test_rows_up_to_the_border_are_narrow(build: Any, elements: int) -> None:
    """What counts is the last element of the largest array, and not much besides."""
    x = sg.tensor("x", (N, 4096))
    value = build(x)
    border = (1 << 31) // elements
    assert fits(value, [x], border - border // 200)
    assert not fits(value, [x], border + 1)


def test_a_large_array_of_which_little_is_read_is_wide() -> None:
    x = sg.tensor("x", (N, 1 << 20))
    assert fits(x[::1024, 0], [x], 2047)
    assert not fits(x[::1024, 0], [x], 4096)


def test_concrete_sizes_count_as_well() -> None:
    x = sg.tensor("x", (3, 1 << 30))
    assert not fits(x.sum(axis=1), [x], 1)
    y = sg.tensor("y", (1, 1 << 30))
    assert fits(y.sum(axis=1), [y], 1)


def test_indices_of_users_have_64_bits(tmp_path: Path) -> None:
    """However narrow those of the kernel are; and whole numbers wrap around where they did."""
    x, k = sg.tensor("x", (N, 3), "int64"), sg.tensor("k", (N,), "int64")
    steps = sg.arange(3, dtype="int64")
    value = [x[k % N], (x + (1 << 40)) * steps, x * steps - (k.reshape((-1, 1)) << 3)]
    env = {N: 50}
    rng = np.random.default_rng(0)
    feeds = {one: rng.integers(-(1 << 62), 1 << 62, (50, 3)[: one.ndim]) for one in (x, k)}
    plan = planned(Graph([x, k], value), env)
    assert all(limit <= LIMIT for limit in computed(plan, env))
    if COMPILER is not None:
        for found, wanted in zip(
            run(plan, Host(plan.kernels, tmp_path), feeds, env), interpret(value, feeds, env)
        ):
            np.testing.assert_array_equal(found, wanted)


# -- ranges ----------------------------------------------------------------------------------------


def test_what_an_index_is() -> None:
    i, j = axes((4, N))
    indices = Indices()
    assert (i * 3 + j.scalar()) // position(N) in indices
    assert m.select(i < 2, i.scalar(), j.scalar()) in indices
    assert (i < 2) not in indices, "a bool is none"
    assert const(LIMIT, "int64") in indices
    assert i + LIMIT in indices
    assert i + (LIMIT + 1) not in indices
    assert const(1, "int32") not in indices
    assert m.cast(m.cast(i.scalar(), "int32"), "int64") not in indices, "it may wrap around"


@pytest.mark.parametrize("symbol", ["add", "sub", "mul", "idiv", "imod", "min", "max", "neg"])
def test_ranges_hold_every_result(symbol: str) -> None:
    """All ranges of small numbers, and all numbers in them: floor division, x // 0 is 0."""

    def result(a: int, b: int) -> int:
        if symbol in ("idiv", "imod"):
            return 0 if b == 0 else a // b if symbol == "idiv" else a % b
        return {"add": a + b, "sub": a - b, "mul": a * b, "neg": -a,
                "min": min(a, b), "max": max(a, b)}[symbol]  # fmt: skip

    ranges = [Range(low, high) for low in range(-4, 5) for high in range(low, 5)]
    for first in ranges:
        for second in ranges:
            given = (first,) if symbol == "neg" else (first, second)
            found = ARITHMETIC[symbol](*given)
            every = [
                result(a, b)
                for a in range(first.low, first.high + 1)
                for b in range(second.low, second.high + 1)
            ]
            assert found.low <= min(every)
            assert max(every) <= found.high
            if symbol in ("add", "sub", "mul", "neg") or (symbol == "idiv" and second.low > 0):
                assert (found.low, found.high) == (min(every), max(every))


def test_sums_are_held_term_by_term() -> None:
    """`1000 i - 1000 j` comes to 0, but on the way it does not."""
    i, j = axes((N, N))
    form = linear(i * 1000 - j * 1000)
    assert Reach(offsets=(form,)).furthest({N: 11}) == 10_000
    assert Reach(offsets=(linear(i * 1000),), sizes=(N * 5000,)).furthest({N: 11}) == 55_000
    assert Reach(counts=(N,)).furthest({N: 11}, 256) == 267
    assert Reach().fits({})
