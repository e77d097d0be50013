"""Taps: how often, in which order and with what their functions are called, on each backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import BackendError
from symgraph.graph.graph import Graph
from symgraph.lower import program

Array = Any
BACKENDS = pytest.mark.parametrize("backend", ["reference", "cpu"])
X = np.array([1, 2, 3], np.float32)


@BACKENDS
def test_it_is_called_once_in_each_call(backend: str) -> None:
    seen: list[Array] = []
    x = sg.vector("x")
    y = sg.tap(x * 2, seen.append)
    f = sg.function([x], [y.sum(), y + 1, sg.exp(y)], backend=backend)
    assert not seen
    f(X)
    f(X + 1)
    np.testing.assert_array_equal(seen, [X * 2, X * 2 + 2])


@BACKENDS
def test_what_it_is_given_is_the_functions_own(backend: str) -> None:
    kept: list[Array] = []

    def spoil(array: Array) -> None:
        kept.append(array)
        array += 100

    x = sg.vector("x")
    f = sg.function([x], sg.tap(x, spoil) * 1.5, backend=backend)
    np.testing.assert_array_equal(f(X), X * 1.5)
    f(X * 0)
    np.testing.assert_array_equal(kept[0], X + 100)


@BACKENDS
def test_taps_are_called_in_the_order_in_which_they_were_made(backend: str) -> None:
    order: list[int] = []
    x = sg.vector("x")
    made = [sg.tap(x * number, lambda _, n=number: order.append(n)) for number in range(6)]
    f = sg.function([x], [made[n] for n in (3, 5, 1, 0, 4, 2)], backend=backend)
    for _ in range(2):
        order.clear()
        f(X)
        assert order == [0, 1, 2, 3, 4, 5]


@BACKENDS
def test_numbers_that_never_change_are_tapped_in_each_call(backend: str) -> None:
    seen: list[Array] = []
    x, w = sg.vector("x"), sg.shared(X, "w")
    fixed = sg.tap(sg.constant([1.0, 2.0, 3.0]), seen.append)
    f = sg.function([x], x * sg.tap(w * 2, seen.append) * sg.exp(fixed * 2), backend=backend)
    assert not seen
    for _ in range(3):
        f(X)
    assert len(seen) == 6


@BACKENDS
def test_a_tap_that_nobody_needs_is_not_called(backend: str) -> None:
    seen: list[Array] = []
    x = sg.vector("x")
    sg.tap(x, seen.append)
    kept = sg.tap(x + 1, seen.append)
    f = sg.function([x], [x * 2, kept], backend=backend)
    f(X)
    assert len(seen) == 1


@BACKENDS
def test_the_gradient_passes_and_calls_nothing(backend: str) -> None:
    seen: list[Array] = []
    x = sg.vector("x")
    loss = (sg.tap(x, seen.append) ** 2).sum()
    f = sg.function([x], [loss, sg.grad(loss, x)], backend=backend)
    np.testing.assert_array_equal(f(X)[1], 2 * X)
    assert len(seen) == 1


@BACKENDS
def test_an_exception_ends_the_call_before_anything_is_written(backend: str) -> None:
    class EnoughError(Exception):
        """What the user raises."""

    def stop(array: Array) -> None:
        if array.sum() > 10:
            raise EnoughError("too much")

    x, w, n = sg.vector("x"), sg.shared(X, "w"), sg.shared(0, "n")
    loss = sg.tap((w * x).sum(), stop)
    updates = {w: w - 0.5 * sg.grad(loss, w), n: n + 1}
    f = sg.function([x], loss, updates=updates, backend=backend)
    with pytest.raises(EnoughError, match="too much"):
        f(X)
    np.testing.assert_array_equal(w.value, X)
    assert n.value == 0
    f(X * 0 + 1)
    np.testing.assert_array_equal(w.value, X - 0.5)
    assert n.value == 1


@BACKENDS
def test_in_a_loop_it_is_called_in_each_step_and_in_a_branch_where_it_is_taken(
    backend: str,
) -> None:
    seen: list[float] = []
    rows, flag = sg.matrix("rows"), sg.scalar("flag", "bool")
    tap = lambda value: sg.tap(value, lambda a: seen.append(float(a)))
    total, _ = sg.scan(
        lambda row, t: t + tap(row.sum()), sequences=rows, outputs_info=sg.constant(0.0)
    )
    out = sg.ifelse(flag, tap(rows.max() * 100), rows.min())
    f = sg.function([rows, flag], [total[-1], out], backend=backend)
    data = np.arange(6, dtype=np.float32).reshape(3, 2)
    f(data, False)
    assert seen == [1, 5, 9]
    seen.clear()
    f(data, True)
    assert sorted(seen) == [1, 5, 9, 500]


@BACKENDS
def test_an_exception_in_a_step_of_a_loop_is_the_users(backend: str) -> None:
    def stop(array: Array) -> None:
        raise ZeroDivisionError("in a step")

    rows, n = sg.matrix("rows"), sg.shared(0, "n")
    total, _ = sg.scan(
        lambda row, t: t + sg.tap(row.sum(), stop), sequences=rows, outputs_info=sg.constant(0.0)
    )
    f = sg.function([rows], total[-1], updates={n: n + 1}, backend=backend)
    with pytest.raises(ZeroDivisionError, match="in a step"):
        f(np.ones((2, 2), np.float32))
    assert n.value == 0


def test_a_backend_that_does_not_call_numpy_says_so() -> None:
    x = sg.vector("x")
    with pytest.raises(BackendError, match="tap: no loops express it") as found:
        program.build(Graph([x], [sg.tap(x, print)]))
    assert "test_tap.py" in str(found.value)


def test_two_taps_are_two_and_remat_computes_neither_again() -> None:
    seen: list[Array] = []
    x = sg.tensor("x", (sg.dim("B"), 64))
    value = x
    for _ in range(3):
        value = sg.tap(sg.tanh(sg.sin(sg.tanh(sg.sin(value)))), seen.append)
    f = sg.function(
        [x], sg.grad((value * value).sum(), x), passes=[sg.remat("170 kB", B=64)], backend="cpu"
    )
    f(np.ones((64, 64), np.float32))
    assert len(seen) == 3
    assert any(one.op.name == "barrier" for one in f.graph.values)
    assert sg.tap(x, print) is not sg.tap(x, print)
