"""Loops, branches and operations without loops on a device, held against the reference.

Each runs on a device that is this CPU and, with `-m gpu`, on a GPU; what counts launches and waits
runs on the former alone.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cuda.references import narrowed, widened
from symgraph.config import config
from symgraph.errors import DeviceError, IndexRangeError, InputError, MemoryLimitError
from symgraph.graph.body import closed, like
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.leaves import items
from symgraph.graph.node import Value, make
from symgraph.graph.op import Op, op
from symgraph.graph.registry import F
from symgraph.graph.types import TensorType, TupleType
from tests.backends.host_device import HostDevice
from tests.backends.host_libraries import HostLibrary, libraries

RNG = np.random.default_rng(3)
BEGIN = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    RNG.bit_generator.state = BEGIN


def drawn(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32) * np.float32(0.5)


def on_both(inputs: Sequence[Value], outputs: Sequence[Value]) -> tuple[Any, Any]:
    device, reference = (
        sg.function(list(inputs), list(outputs), backend=backend)
        for backend in ("cuda", "reference")
    )
    return device, reference


def compare(inputs: Sequence[Value], outputs: Sequence[Value], calls: Sequence[Any]) -> Any:
    """Call several times: step by step, while steps are recorded, as recorded, and unrecorded."""
    f, reference = on_both(inputs, outputs)
    for arrays in calls:
        wanted = reference(*arrays)
        bits = []
        for capture in (True, True, True, False):
            with config(capture=capture):
                found = f(*arrays)
            for one, other in zip(found, wanted, strict=True):
                largest = np.abs(other).max(initial=1)  # of what is added, some cancels
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6 * largest)
            bits.append([one.tobytes() for one in found])
        assert all(one == bits[0] for one in bits)
    return f


def recurrent() -> tuple[list[Value], list[Value]]:
    """A recurrent network and its gradients."""
    steps, batch = sg.dim("steps", min=0), sg.dim("B")
    x, h = sg.tensor("x", (steps, batch, 3)), sg.tensor("h", (batch, 4))
    wx, wh = sg.tensor("wx", (3, 4)), sg.tensor("wh", (4, 4))
    rows, _ = sg.scan(lambda row, before: sg.tanh(row @ wx + before @ wh), x, [h])
    inputs = [x, h, wx, wh]
    return inputs, [rows, *sg.grad((rows * rows).sum(), inputs)]


def arrays_of(steps: int, batch: int = 2) -> list[Any]:
    return [drawn(steps, batch, 3), drawn(batch, 4), drawn(3, 4), drawn(4, 4)]


def test_a_recurrent_network_at_several_lengths(there: Any) -> None:
    inputs, outputs = recurrent()
    f = compare(inputs, outputs, [arrays_of(5), arrays_of(1), arrays_of(0)])
    steps = f.profile(*arrays_of(5)).rows
    assert [one.implementation for one in steps if one.name == "loop"] == ["compiled"] * 2
    assert f.bind(steps=99, B=2).peak > f.bind(steps=1, B=2).peak


def until(reverse: bool) -> tuple[list[Value], list[Value]]:
    """A loop that ends when its sum is large, forwards or backwards."""
    x, s = sg.tensor("x", (6, 2)), sg.tensor("s", (2,))
    going, row = like(TensorType("bool", ())), like(TensorType("float32", (2,)))
    state = like(TensorType("float32", (2,)))
    new = state + row
    body, others, _ = closed("loop", [row, going, state], [sg.sum(new) < 6.0, new, new * 2])
    begin = sg.sum(s) < 6.0
    found = F.loop(body, [x], [begin, s], others, 6, reverse=reverse, conditional=True)
    return [x, s], list(found)


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_of_steps_that_were_not_run_are_zero(there: Any, reverse: bool) -> None:
    inputs, outputs = until(reverse)
    x = np.ones((6, 2), np.float32)
    small, large = np.zeros(2, np.float32), np.full(2, 9, np.float32)
    f = compare(inputs, outputs, [[x, small], [x, large], [x * 0, small]])
    _, last, rows = f(x, small)
    np.testing.assert_array_equal(last, [3, 3])
    ran = np.array([2, 4, 6, 0, 0, 0], np.float32)[:, None] * np.ones(2, np.float32)
    np.testing.assert_array_equal(rows, ran[::-1] if reverse else ran)


def test_a_loop_without_a_bound(there: Any) -> None:
    n = sg.tensor("n", (), "int32")

    def step(state: Any) -> Any:
        k, count = state
        return sg.where(k % 2 == 0, k // 2, 3 * k + 1), count + 1

    _, count = sg.while_loop(lambda state: state[0] != 1, step, (n, sg.zeros((), "int32")))
    compare([n], [count], [[np.int32(27)], [np.int32(1)]])


def test_a_loop_in_a_loop_and_in_a_branch(there: Any) -> None:
    x, k = sg.tensor("x", (3, 4)), sg.tensor("k", (), "int32")

    def row_by_row(row: Value, before: Value) -> Value:
        inner, _ = sg.scan(lambda one, total: sg.tanh(total + one), row, [before])
        return sg.switch(k, [lambda: inner[-1], lambda: inner[0] * before])

    rows, _ = sg.scan(row_by_row, x, [sg.zeros(())])
    outer = sg.cond(k > 0, lambda: sg.sum(rows), lambda: sg.sum(x))
    outputs = [rows, outer, *sg.grad(sg.sum(rows) + outer, [x])]
    compare([x, k], outputs, [[drawn(3, 4), np.int32(0)], [drawn(3, 4), np.int32(5)]])


def test_constants_of_a_body_stay_between_calls(there: Any) -> None:
    table = sg.constant(np.arange(12, dtype=np.float32).reshape(3, 4))
    x = sg.tensor("x", (5, 4))

    def one(row: Value) -> Value:
        return sg.cond(sg.sum(row) > 0, lambda: sg.sum(table * row, axis=1), lambda: row[:3])

    rows, _ = sg.scan(one, x)
    compare([x], [rows, sg.exp(rows)], [[drawn(5, 4)], [drawn(5, 4)]])


# -- operations without loops ----------------------------------------------------------------------


@op
class Ordered(Op):
    """Sort, and tell where each came from: there are no loops that say so."""

    host = True

    def infer(self, x: TensorType) -> TupleType:
        return TupleType((x, TensorType("int32", x.shape)))

    def flops(self, of: Any, *types: Any) -> Any:
        return 0

    def ref(self, xp: Any, x: Any) -> Any:
        order = xp.argsort(x, axis=-1)
        return xp.take_along_axis(x, order, axis=-1), order.astype(np.int32)


def ordered(x: Value) -> tuple[Value, ...]:
    return items(make(Ordered(), x))


def test_what_has_no_loops_is_computed_where_it_lies(there: Any) -> None:
    x = sg.tensor("x", (sg.dim("steps", min=0), 3), "bfloat16")
    values, order = ordered(sg.exp(x))
    wide, _ = ordered(sg.cast(x, "float32"))
    rows, _ = sg.scan(lambda row, s: ordered(row + s)[0], wide, [sg.zeros((3,))])
    f, reference = on_both([x], [values, order, values * 2, rows])
    array = drawn(4, 3).astype(numpy_dtype("bfloat16"))
    for given in (array, array[:1], array[:0]):
        for _ in range(3):
            for one, other in zip(f(given), reference(given), strict=True):
                assert one.dtype == other.dtype
                wide = [each.astype(np.float32) for each in (one, other)]
                np.testing.assert_allclose(*wide, rtol=1e-2, atol=1e-2)
    assert {one.implementation for one in f.profile(array).rows} >= {there.computes, "compiled"}


def test_what_becomes_bfloat16_is_rounded_once() -> None:
    """To the nearest, of two to the even one, as NumPy's own type does."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, 2000, dtype=np.uint32)
    wide = np.concatenate([bits, bits & 0xFFFF0000 | 0x8000]).view(np.float32)
    wide = np.append(wide, np.array([0, -0.0, np.inf, -np.inf, np.nan, 3.4e38], np.float32))
    with np.errstate(all="ignore"):
        wanted = wide.astype(numpy_dtype("bfloat16"))
    found = narrowed(np, wide)
    numbers = ~np.isnan(wide)
    np.testing.assert_array_equal(found[numbers], wanted.view(np.uint16)[numbers])
    back = widened(found)
    assert np.isnan(back[~numbers]).all()
    np.testing.assert_array_equal(back[numbers], wanted.astype(np.float32)[numbers])


# -- checks ----------------------------------------------------------------------------------------


def gathering(waits: bool, branch: bool = False) -> tuple[Any, Any]:
    """A step that gathers by given numbers inside a loop, or in a branch of it, and updates."""
    table, x = sg.shared(np.arange(5, dtype=np.float32), "table"), sg.ivector("x")

    def add(i: Value, s: Value) -> Value:
        if branch:
            return sg.cond(i != 3, lambda: s + sg.take(table, i), lambda: s)
        return s + sg.take(table, i)

    total, _ = sg.foldl(add, x, [np.float32(0)])
    new = {table: table + total}
    return sg.function([x], total if waits else None, updates=new, backend="cuda"), table


@pytest.mark.parametrize("branch", [False, True])
def test_an_index_outside_is_found_where_the_call_waits(there: Any, branch: bool) -> None:
    f, table = gathering(True, branch)
    good, bad = np.array([0, 4, 1], np.int32), np.array([0, 5, 1], np.int32)
    expected = np.arange(5, dtype=np.float32)
    for _ in range(3):
        with pytest.raises(IndexRangeError, match="5"):
            f(bad)
        np.testing.assert_array_equal(table.value, expected)
        total = expected[good].sum()
        assert f(good) == total
        expected = expected + total
    with pytest.raises(IndexRangeError, match="5"):
        f.profile(bad)
    f.profile(good)
    np.testing.assert_array_equal(table.value, expected)


def test_an_index_outside_is_found_where_nobody_waits(there: Any) -> None:
    """The step and those that come behind it write nothing."""
    f, table = gathering(False)
    good, bad = np.array([0, 4, 1], np.int32), np.array([0, 5, 1], np.int32)
    for _ in range(3):
        table.value = np.arange(5, dtype=np.float32)
        f(bad)
        there.settle()
        with pytest.raises(InputError, match="a step before this one") as caught:
            f(good)
        assert "loop  made at" in str(caught.value)
        np.testing.assert_array_equal(table.value, np.arange(5))
        f(good)
        np.testing.assert_array_equal(table.value, np.arange(5) + 5)


def test_a_loop_that_would_not_end_ends_with_its_check(there: Any) -> None:
    """What lies outside reads as nothing, with which this one would never come to its end."""
    table, i = sg.constant(np.arange(1, 4, dtype=np.int32)), sg.tensor("i", (), "int32")
    found = sg.while_loop(lambda k: k < 9, lambda k: k * 0 + sg.take(table, k) * 4, i)
    f = sg.function([i], found, backend="cuda")
    assert f(np.int32(2)) == 12
    with pytest.raises(IndexRangeError):
        f(np.int32(7))


# -- what a step costs the host, and how it ends ---------------------------------------------------


def test_a_step_is_one_launch_for_which_nobody_waits(host: HostDevice) -> None:
    inputs, (rows, *_) = recurrent()
    f = sg.function(inputs, rows, backend="cuda")
    waits = []
    for steps in (4, 9):
        arrays = arrays_of(steps)
        for _ in range(3):
            host.order.clear()
            before = host.replays, host.downloads, host.reserved, host.uploads
            f(*arrays)
        bound = f._executor.bound({f.inputs[0].shape[0]: steps, f.inputs[0].shape[1]: 2})
        around = len([one for one in bound.segments if not one.alone and one.steps])
        assert host.replays - before[0] == steps + around
        assert host.reserved == before[2]
        assert host.uploads - before[3] == 4
        waits.append((host.downloads - before[1], host.order.count(("settle", 0))))
    assert waits == [(1, 0), (1, 0)]
    assert host.modules == 1, "a function and its bodies are compiled together"


def test_memory_is_one_piece_that_is_counted(host: HostDevice) -> None:
    inputs, (rows, *_) = recurrent()
    f = sg.function(inputs, rows, backend="cuda")
    before = host.reserved
    bound = f.bind(steps=7, B=2)
    assert host.reserved - before == bound.arena == bound.peak
    f(*arrays_of(7))
    assert host.reserved - before == bound.arena
    with config(memory_limit=bound.peak - 1), pytest.raises(MemoryLimitError):
        f.bind(steps=8, B=2)


def test_outputs_stay_on_the_device(there: Any) -> None:
    inputs, (rows, *_) = recurrent()
    f = sg.function(inputs, rows, backend="cuda", outputs_on="device")
    reference = sg.function(inputs, rows, backend="reference")
    for capture in (True, True, True, False, False):
        arrays = arrays_of(3)
        with config(capture=capture):
            found = f(*arrays).get()
        np.testing.assert_allclose(found, reference(*arrays), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("capture", [False, True])
def test_wherever_a_step_ends_the_next_one_is_right(host: HostDevice, capture: bool) -> None:
    f, table = gathering(False)
    good, expected = np.array([0, 4, 1], np.int32), np.arange(5, dtype=np.float32)
    with config(capture=capture):
        for _ in range(2 + capture):
            before = host.launches
            f(good)
            expected = expected + expected[good].sum()
        (bound,) = f._executor._bound.values()
        last = len(bound.segments[-1].steps) if capture else 1  # what is one launch ends as one
        for after in range(host.launches - before - last):
            host.last = host.launches + after
            with pytest.raises(OSError, match="lost"):
                f(good)
            host.last = 1 << 30
            np.testing.assert_array_equal(table.value, expected)
        f(good)
        np.testing.assert_array_equal(table.value, expected + expected[good].sum())


def test_a_step_that_ends_after_a_write_is_the_last(host: HostDevice) -> None:
    """A loop may come behind the update of a variable that nothing in it needs."""
    n, w = sg.tensor("n", (4,)), sg.shared(np.zeros(3, np.float32), "w")
    rows, _ = sg.scan(lambda one, s: sg.tanh(one + s), n, [sg.zeros(())])
    f = sg.function([n], None, updates={w: w + rows[-1]}, backend="cuda")
    array = drawn(4)
    with config(capture=False):
        before = host.launches
        f(array)
        host.last = host.launches + (host.launches - before) - 1
        with pytest.raises(OSError, match="lost"):
            f(array)
        host.last = 1 << 30
        with pytest.raises(DeviceError, match="in the middle of its updates"):
            f(array)


def test_an_interrupt_waits_for_the_end_of_the_step(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    f, table = gathering(False)
    good = np.array([0, 4, 1], np.int32)
    for _ in range(3):
        f(good)
    before, replay = table.value, host.replay

    def interrupted(captured: Any) -> None:
        monkeypatch.setattr(host, "replay", replay)
        replay(captured)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(host, "replay", interrupted)
    with pytest.raises(KeyboardInterrupt):
        f(good)
    np.testing.assert_array_equal(table.value, before + before[good].sum())


def test_libraries_compute_products_in_bodies(host: HostDevice) -> None:
    """Each kind once for all steps; the fastest way is found in memory of the body's own."""
    own = HostLibrary()
    host.libraries = libraries(own)
    x, h, w = sg.tensor("x", (4, 8, 16)), sg.tensor("h", (8, 16)), sg.tensor("w", (16, 16))
    rows, _ = sg.scan(lambda row, before: sg.tanh(row + before @ w), x, [h])
    outputs = [rows, *sg.grad((rows * rows).sum(), [x, h, w])]
    f = compare([x, h, w], outputs, [[drawn(4, 8, 16), drawn(8, 16), drawn(16, 16)]])
    bound = f._executor.bound({})
    inside = [one.body for one in bound.inner.values()]
    assert len(own.asked) == sum(len(one.routines) for one in (bound, *inside))
    assert all(one.routines for one in inside)
    assert host.calls >= 4 * sum(len(one.routines) for one in inside)
