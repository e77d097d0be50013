"""Transformations of `scan`, `while_loop` and `cond`, and these inside of transformations."""

from __future__ import annotations

from typing import Any

import numpy as np

import symgraph as sg
from symgraph.graph.registry import F

X = np.random.default_rng(0).normal(size=(3, 5))
W = 0.7


def inputs() -> tuple[Any, Any]:
    return sg.tensor("x", (sg.dim("B"), 5), "float64"), sg.tensor("w", (), "float64")


def run(outputs: Any, *pairs: Any) -> Any:
    return sg.function([x for x, _ in pairs], outputs)(*(array for _, array in pairs))


def recurrent(row: Any, w: Any) -> Any:
    """Give the states h_t = tanh(w h + x_t)."""
    states, _ = sg.scan(
        lambda one, h: F.tanh(w * h + one), sequences=row, outputs_info=F.zeros_like(w)
    )
    return states


def states_of(row: Any, w: float = W) -> Any:
    state, found = 0.0, []
    for one in row:
        state = np.tanh(w * state + one)
        found.append(state)
    return np.array(found)


def differences(f: Any, step: float = 1e-6) -> Any:
    return (f(W + step) - f(W - step)) / (2 * step)


def test_lanes_of_a_scan_and_its_derivatives() -> None:
    x, w = inputs()
    states = sg.vmap(recurrent, in_axes=(0, None))(x, w)
    slopes = sg.vmap(lambda row: sg.grad(recurrent(row, w)[-1], w))(x)
    pushed = sg.jvp(states, w, 1.0)
    backward = sg.grad(states.sum(), w)
    found = run([states, slopes, pushed, backward], (x, X), (w, W))
    expected = np.stack([states_of(row) for row in X])
    np.testing.assert_allclose(found[0], expected)
    turned = np.stack([differences(lambda w, row=row: states_of(row, w)) for row in X])  # type: ignore[misc]
    np.testing.assert_allclose(found[1], turned[:, -1], rtol=1e-6)
    np.testing.assert_allclose(found[2], turned, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found[3], turned.sum(), rtol=1e-6)


def test_custom_rules_and_checkpoints_inside_a_scan() -> None:
    x, w = inputs()
    double = sg.custom_vjp(lambda h: F.tanh(h))
    double.defvjp(lambda h: (double(h), h), lambda h, g: (g * (1 - F.tanh(h) ** 2),))

    def last(step: Any) -> Any:
        states, _ = sg.scan(
            lambda one, h: step(w * h + one), sequences=x[0], outputs_info=F.zeros_like(w)
        )
        return states[-1]

    ends = [last(step) for step in (F.tanh, double, sg.checkpoint(F.tanh))]
    found = run([*ends, *(sg.grad(end, w) for end in ends)], (x, X), (w, W))
    np.testing.assert_allclose(found[:3], states_of(X[0])[-1])
    np.testing.assert_allclose(found[3:], found[3], rtol=1e-10)


def test_a_while_loop_whose_lanes_stop_each_in_its_own_time() -> None:
    x = sg.tensor("x", (sg.dim("B"),), "float64")

    def root(a: Any) -> Any:
        return sg.while_loop(
            lambda y: F.abs(y * y - a) > 1e-12, lambda y: (y + a / y) / 2, F.ones_like(a),
            max_steps=60,
        )  # fmt: skip

    lanes = sg.vmap(root)(x)
    array = np.array([2.0, 1.0, 9.0, 1e4])
    found = run(
        [lanes, sg.grad(lanes.sum(), x), sg.jvp(lanes, x, F.ones_like(x))], (x, array)
    )  # fmt: skip
    np.testing.assert_allclose(found[0], np.sqrt(array))
    moving = array != 1.0  # which does no step, and so depends on nothing
    np.testing.assert_allclose(found[1], np.where(moving, 0.5 / np.sqrt(array), 0.0), atol=1e-9)
    np.testing.assert_allclose(found[2], found[1], rtol=1e-9)


def test_a_condition_that_differs_from_lane_to_lane() -> None:
    x = sg.tensor("x", (sg.dim("B"),), "float64")
    y = sg.vmap(lambda a: sg.cond(a > 0, lambda a: F.exp(a), lambda a: a * a, a))(x)
    array = np.array([-2.0, 0.5])
    found = run([y, sg.grad(y.sum(), x), sg.jvp(y, x, F.ones_like(x))], (x, array))
    np.testing.assert_allclose(found[0], [4.0, np.exp(0.5)])
    np.testing.assert_allclose(found[1], [-4.0, np.exp(0.5)])
    np.testing.assert_allclose(found[2], found[1])


def test_random_steps_of_lanes_are_all_different() -> None:
    x, _ = inputs()
    stream = F.stream(9)

    def noisy(row: Any) -> Any:
        states, _ = sg.scan(
            lambda one: one + stream.uniform((), dtype="float64"), sequences=row
        )  # fmt: skip
        return states

    found = run(sg.vmap(noisy)(x), (x, np.zeros((3, 5))))
    assert len(np.unique(found)) == 15


def test_a_scan_of_lanes_and_a_hessian_of_a_scan() -> None:
    x, w = inputs()
    rows, _ = sg.scan(lambda row: sg.vmap(lambda one: F.sin(one * w))(row), sequences=x)
    second = sg.hessian(recurrent(x[0], w)[-1], w)
    third = sg.grad(second, w)
    found = run([rows, sg.jvp(rows, w, 1.0), second, third], (x, X), (w, W))
    np.testing.assert_allclose(found[0], np.sin(X * W))
    np.testing.assert_allclose(found[1], np.cos(X * W) * X)
    f = sg.function([x, w], [sg.grad(recurrent(x[0], w)[-1], w), second])
    step = 1e-5
    above, below = f(X, W + step), f(X, W - step)
    np.testing.assert_allclose(found[2], (above[0] - below[0]) / (2 * step), rtol=1e-5)
    np.testing.assert_allclose(found[3], (above[1] - below[1]) / (2 * step), rtol=1e-5)
