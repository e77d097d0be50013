"""Transformations of transformations, to order three, against closed forms and differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import symgraph as sg
from symgraph.graph.body import closed, like
from symgraph.graph.interpret import interpret
from symgraph.graph.registry import F

X = np.array([0.3, -0.8, 1.1])


def vector(name: str = "x", size: Any = 3) -> Any:
    return sg.tensor(name, (size,), "float64")


def run(outputs: Any, *pairs: Any) -> Any:
    return sg.function([x for x, _ in pairs], outputs)(*(array for _, array in pairs))


def derivative(f: Callable[[Any], Any], order: int) -> Any:
    return [float(mpmath.diff(f, x, order)) for x in X]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda x: F.tanh(x) * F.exp(-x), lambda x: mpmath.tanh(x) * mpmath.exp(-x)),
        (lambda x: F.erf(x) / (1 + x * x), lambda x: mpmath.erf(x) / (1 + x * x)),
        (lambda x: F.log1p(F.exp(x)) ** 2.5, lambda x: mpmath.log(1 + mpmath.exp(x)) ** 2.5),
    ],
)
def test_third_derivatives_by_every_mixture_of_modes(ours: Any, theirs: Any) -> None:
    """Elementwise: reverse of reverse of reverse, forward of it, and so on, each against mpmath."""
    x = vector()
    ones = sg.constant(np.ones(3))

    def reverse(y: Any) -> Any:
        return sg.grad(y.sum(), x)

    def forward(y: Any) -> Any:
        return sg.jvp(y, x, ones)

    expected = derivative(theirs, 3)
    modes = (reverse, forward)
    outputs = [c(b(a(ours(x)))) for a in modes for b in modes for c in modes]
    for found in run(outputs, (x, X)):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_gradients_of_a_network_to_order_three() -> None:
    x, w = vector(), sg.tensor("w", (3, 3), "float64")
    weights = np.random.default_rng(0).normal(size=(3, 3))
    u, v = np.array([1.0, -0.5, 0.2]), np.array([0.3, 0.9, -1.0])

    def loss(x: Any) -> Any:
        return F.sum(F.softmax(F.matmul(w, F.tanh(x))) * F.logsumexp(x))

    first = sg.grad(loss(x), x)
    second = sg.grad((first * sg.constant(u)).sum(), x)
    third = sg.grad((second * sg.constant(v)).sum(), x)
    by_forward = sg.jvp(sg.hvp(loss(x), x, sg.constant(u)), x, sg.constant(v))
    f = sg.function([x, w], [first, second, third, by_forward])
    step = 1e-5
    above, below = f(X + step * v, weights), f(X - step * v, weights)
    found = f(X, weights)
    np.testing.assert_allclose(found[2], (above[1] - below[1]) / (2 * step), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(found[3], found[2], rtol=1e-9)
    above, below = f(X + step * u, weights), f(X - step * u, weights)
    np.testing.assert_allclose(found[1], (above[0] - below[0]) / (2 * step), rtol=1e-5, atol=1e-8)


def test_jvp_of_vmap_of_grad() -> None:
    x, w = sg.tensor("x", (sg.dim("B"), 3), "float64"), vector("w")
    slopes = sg.vmap(lambda row: sg.grad(F.tanh((row * w).sum()), w))(x)  # (1 - t^2) row
    pushed = sg.jvp(slopes, w, sg.constant(np.ones(3)))
    rows, weights = np.stack([X, 2 * X, X[::-1]]), np.array([0.5, 0.1, -0.4])
    t = np.tanh(rows @ weights)
    found = run([slopes, pushed], (x, rows), (w, weights))
    np.testing.assert_allclose(found[0], (1 - t**2)[:, None] * rows)
    factor = -2 * t * (1 - t**2) * rows.sum(axis=1)
    np.testing.assert_allclose(found[1], factor[:, None] * rows)


def test_vmap_of_hessian_and_grad_of_vmap_of_vmap() -> None:
    x = sg.tensor("x", (sg.dim("B"), 3), "float64")
    blocks = sg.vmap(lambda row: sg.hessian(F.exp(row.sum()) * row[0], row))(x)
    pairs = sg.vmap(lambda a: sg.vmap(lambda b: F.sin((a * b).sum()))(x))(x)
    rows = np.stack([X, 0.5 * X[::-1]])
    found = run([blocks, sg.grad(pairs.sum(), x)], (x, rows))
    for block, row in zip(found[0], rows):
        expected = np.full((3, 3), row[0])
        expected[0] += 1
        expected[:, 0] += 1
        np.testing.assert_allclose(block, np.exp(row.sum()) * expected)
    np.testing.assert_allclose(found[1], 2 * np.cos(rows @ rows.T) @ rows)


def recurrence(x: Any, w: Any) -> Any:
    """Give h_T of h = tanh(w h + x_t)."""
    row, state = like(x.tensor.with_shape(())), like(w.tensor)
    body, others, _ = closed("loop", [row, state], [F.tanh(state * w + row)])
    zero = F.zeros_like(w)
    last: Any = F.loop(body, [x], [zero], others, x.shape[0])
    return last[0]


def test_the_hessian_of_a_loop() -> None:
    x, w = vector("x", sg.dim("T")), sg.tensor("w", (), "float64")
    y = recurrence(x, w)
    first = sg.jacobian(y, x, "reverse")
    second = sg.hessian(y, x)
    backwards = sg.hessian(y, x, "reverse")
    third = sg.grad(sg.grad(sg.grad(y, w), w), w)
    steps = np.array([0.3, -0.8, 1.1, 0.4])
    f = sg.function([x, w], [y, first, second, backwards, third])
    found = f(steps, 0.7)
    np.testing.assert_allclose(found[2], found[3], rtol=1e-9, atol=1e-12)
    step = 1e-5
    for number in range(4):
        unit = step * np.eye(4)[number]
        difference = (f(steps + unit, 0.7)[1] - f(steps - unit, 0.7)[1]) / (2 * step)
        np.testing.assert_allclose(found[2][number], difference, rtol=1e-5, atol=1e-9)

    def value(w: Any) -> Any:
        state = mpmath.mpf(0)
        for one in steps:
            state = mpmath.tanh(w * state + one)
        return state

    np.testing.assert_allclose(found[4], float(mpmath.diff(value, 0.7, 3)), rtol=1e-8)


def test_lanes_of_a_loop_stop_each_in_its_own_time() -> None:
    """Doubling until above 10: the number of steps differs, so do values and derivatives."""
    x = vector("x", sg.dim("B"))

    def double(x: Any) -> Any:
        going, state, count = like(F.constant(True).tensor), like(x.tensor), like(x.tensor)
        new = state * 2
        body, others, _ = closed("loop", [going, state, count], [new < 10.0, new, count + 1])
        start = [x < 10.0, x, F.zeros_like(x)]
        found: Any = F.loop(body, [], start, others, 20, conditional=True)
        return found[1], found[2]

    values, counts = sg.vmap(double)(x)
    slopes = sg.grad(values.sum(), x)
    pushed = sg.jvp(values, x, F.ones_like(x))
    array = np.array([3.0, 0.6, 20.0, 5.0])
    steps = np.array([2.0, 5.0, 0.0, 1.0])
    found = run([values, counts, slopes, pushed], (x, array))
    np.testing.assert_allclose(found[0], array * 2**steps)
    np.testing.assert_allclose(found[1], steps)
    np.testing.assert_allclose(found[2], 2**steps)
    np.testing.assert_allclose(found[3], 2**steps)


def test_forward_mode_through_a_loop_of_unknown_length() -> None:
    """Reverse mode cannot keep what it does not know the number of; forward mode keeps nothing."""
    x = sg.tensor("x", (), "float64")
    going, state = like(F.constant(True).tensor), like(x.tensor)
    new = (state + x / state) / 2
    more = F.abs(new * new - x) > 1e-12
    body, others, _ = closed("loop", [going, state], [more, new])
    found: Any = F.loop(
        body, [], [F.constant(True), F.ones_like(x)], others, None, conditional=True
    )
    numbers = run([found[1], sg.jvp(found[1], x, 1.0)], (x, 2.0))
    np.testing.assert_allclose(numbers, [np.sqrt(2), 0.5 / np.sqrt(2)], rtol=1e-9)


def test_lanes_that_choose_differ() -> None:
    x = vector("x", sg.dim("B"))

    def choose(x: Any) -> Any:
        own = like(x.tensor)
        bodies = [closed("b", [own], [one])[0] for one in (F.sin(own), own * own, F.exp(own))]
        found: Any = F.branch(F.cast(x > 0, "int32") + F.cast(x > 1, "int32"), bodies, [x])
        return found[0]

    y = sg.vmap(choose)(x)
    found = run(
        [y, sg.grad(y.sum(), x), sg.jvp(y, x, F.ones_like(x))], (x, np.array([-1.0, 0.5, 2.0]))
    )
    np.testing.assert_allclose(found[0], [np.sin(-1.0), 0.25, np.exp(2.0)])
    np.testing.assert_allclose(found[1], [np.cos(-1.0), 1.0, np.exp(2.0)])
    np.testing.assert_allclose(found[2], found[1])


def test_lanes_draw_different_numbers() -> None:
    stream = F.stream(3)
    x = sg.tensor("x", (sg.dim("B"), 4), "float64")
    shared = stream.normal((4,), dtype="float64")
    inside = sg.vmap(lambda row: row + stream.normal((4,), dtype="float64"))(x)
    nested = sg.vmap(sg.vmap(lambda one: one + stream.uniform((), dtype="float64")))(x)
    outside = sg.vmap(lambda row: row + shared)(x)
    zeros = np.zeros((3, 4))
    for found in run([inside, nested], (x, zeros)):
        assert len(np.unique(found)) == 12
    assert len(np.unique(run(outside, (x, zeros)))) == 4
    kept = sg.vmap(sg.checkpoint(lambda row: row * stream.normal((4,), dtype="float64")))(x)
    value, slope = run([kept, sg.grad(kept.sum(), x)], (x, np.ones((3, 4))))
    assert len(np.unique(value)) == 12
    np.testing.assert_array_equal(value, slope)


def test_a_chain_of_many_operations_is_walked_not_recursed() -> None:
    x, t = sg.tensor("x", (), "float64"), sg.tensor("t", (), "float64")
    y = x
    for _ in range(3000):
        y = F.sin(y)
    pushed = sg.jvp(y, x, t)
    lanes = sg.vmap(lambda one: sg.jvp(F.sin(one), one, 1.0))(vector("z"))
    assert lanes.shape == (3,)
    whole: Any = F.batch([pushed], {x: sg.constant(X), t: sg.constant(np.ones(3))}, 3)
    value, slope = X, np.ones(3)
    for _ in range(3000):
        value, slope = np.sin(value), slope * np.cos(value)
    np.testing.assert_allclose(interpret(whole, {})[0], slope, rtol=1e-9)
