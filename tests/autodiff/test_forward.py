"""Forward mode: what it takes, what it refuses, and how small the graphs are that it gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError, ArgumentTypeError, GradError
from symgraph.graph.registry import F
from symgraph.graph.walk import topological

X = np.array([0.5, -1.0, 2.0])


@pytest.fixture
def x() -> Any:
    return sg.tensor("x", (3,), "float64")


def run(outputs: Any, *pairs: Any) -> Any:
    return sg.function([x for x, _ in pairs], outputs)(*(array for _, array in pairs))


def test_one_output_or_several_and_one_input_or_several(x: Any) -> None:
    y = sg.tensor("y", (), "float64")
    t = sg.tensor("t", (3,), "float64")
    outputs = [F.sin(x) * y, F.sum(x * x)]
    several = sg.jvp(outputs, [x, y], [t, 2.0])
    alone = sg.jvp(outputs[0], x, t)
    assert isinstance(several, list)
    found = run([*several, alone], (x, X), (y, 3.0), (t, X))
    np.testing.assert_allclose(found[0], np.cos(X) * X * 3 + np.sin(X) * 2)
    np.testing.assert_allclose(found[1], 2 * np.sum(X * X))
    np.testing.assert_allclose(found[2], np.cos(X) * X * 3)


def test_values_in_the_middle_have_tangents_as_they_have_gradients(x: Any) -> None:
    """Both by x and by h(x): the tangent of h adds to the one that comes from x."""
    h = F.exp(x)
    y = F.sum(h * h)
    ones = F.ones_like(x)
    both = sg.jvp(y, [x, h], [ones, ones])
    pulled = sg.grad(y, [x, h])
    found = run([both, pulled[0].sum() + pulled[1].sum(), sg.jvp(y, h, ones)], (x, X))
    np.testing.assert_allclose(found[0], found[1])
    np.testing.assert_allclose(found[2], 2 * np.exp(X).sum())
    twice = sg.jvp(y, [x, x], [ones, ones])
    np.testing.assert_allclose(run(twice, (x, X)), 2 * run(sg.jvp(y, x, ones), (x, X)))


def test_linearize_is_a_function_of_tangents(x: Any) -> None:
    y, push = sg.linearize(lambda x, w: x * w, x, x + 1)
    expected = run([y, push(F.ones_like(x), F.zeros_like(x))], (x, X))
    np.testing.assert_allclose(expected, [X * (X + 1), X + 1])
    of_outputs = sg.linearize(F.exp(x), x)
    np.testing.assert_allclose(run(of_outputs(F.ones_like(x)), (x, X)), np.exp(X))
    with pytest.raises(ArgumentError, match="outputs and inputs, or a function"):
        sg.linearize(y, x, x)


def test_hvp_is_the_hessian_times_a_vector(x: Any) -> None:
    w = sg.tensor("w", (3,), "float64")
    v, u = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 1.0])
    loss = F.sum(F.tanh(x * w)) * x[0]
    blocks = sg.hessian(loss, [x, w])
    rows = [F.matmul(a, sg.constant(v)) + F.matmul(b, sg.constant(u)) for a, b in blocks]
    products = sg.hvp(loss, [x, w], [sg.constant(v), sg.constant(u)])
    found = run([*products, *rows], (x, X), (w, v))
    np.testing.assert_allclose(found[0], found[2])
    np.testing.assert_allclose(found[1], found[3])
    np.testing.assert_array_equal(run(sg.hvp(F.sum(x), x, x), (x, X)), np.zeros(3))


def test_a_linear_operation_is_its_own_derivative(x: Any) -> None:
    t, w = sg.tensor("t", (3,), "float64"), sg.tensor("w", (3, 4), "float64")
    for f in (
        lambda x: F.matmul(x, w),
        lambda x: F.reshape(x[::-1], (3, 1)),
        lambda x: F.sum(F.broadcast_to(x, (2, 3)), axis=1),
        lambda x: F.take(x, [0, 2]),
        lambda x: F.concat([x, x]),
        lambda x: F.cast(x, "float32"),
    ):
        assert sg.jvp(f(x), x, t) is f(t)
    names = {v.op.name for v in topological([sg.jvp(F.pad(x, 1, value=5.0), x, t)])}
    assert names == {"input", "pad"}


def test_a_cut_path_is_an_error_or_zero(x: Any) -> None:
    y = sg.tensor("y", (3,), "float64")
    with pytest.raises(GradError, match="jvp: `y` does not depend on `x`"):
        sg.jvp(y, x, x)
    with pytest.raises(GradError, match=r"no tangent reaches .*: every path is cut"):
        sg.jvp(F.stop_gradient(x) * 2, x, x)
    found = run(sg.jvp([y * 2, F.floor(x)], x, x, missing="zero"), (x, X), (y, X))
    np.testing.assert_array_equal(found, np.zeros((2, 3)))
    assert sg.jvp(F.floor(x), x, x).shape == (3,)  # connected, and zero


def test_wrong_calls_say_what_must_hold(x: Any) -> None:
    i = sg.tensor("i", (3,), "int32")
    with pytest.raises(GradError, match=r"jvp: the tangent of `x` must be float64\[3\]"):
        sg.jvp(x * 2, x, sg.tensor("t", (4,), "float64"))
    with pytest.raises(ArgumentError, match="1 inputs but 2 tangents"):
        sg.jvp(x * 2, [x], [x, x])
    with pytest.raises(GradError, match="only floats have gradients, real or complex; `i`"):
        sg.jvp(x * 2, i, i)
    with pytest.raises(GradError, match="only floats have gradients"):
        sg.jvp(F.argmax(x), x, x)
    with pytest.raises(ArgumentTypeError, match="outputs must be a symbolic value"):
        sg.jvp(3.0, x, x)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match='missing must be "error" or "zero"'):
        sg.jvp(x, x, x, missing="none")  # type: ignore[arg-type]


def test_rules_of_several_results_and_integers(x: Any) -> None:
    t = sg.constant(np.array([1.0, 10.0, 100.0]))
    values, places = F.topk(x, 2)
    pushed = sg.jvp(values * F.cast(places, "float64"), x, t)
    np.testing.assert_allclose(run(pushed, (x, X)), np.array([200.0, 0.0]))
    parts = F.split(x, (1, 2))
    found = run(sg.jvp([parts[0], parts[1]], x, t), (x, X))
    np.testing.assert_allclose(np.concatenate(found), [1.0, 10.0, 100.0])


def test_half_precision_keeps_its_dtype() -> None:
    x = sg.tensor("x", (5,), "bfloat16")
    y = F.softmax(x) * F.layer_norm(x)
    pushed = sg.jvp(y, x, F.ones_like(x))
    assert pushed.dtype == "bfloat16"
    lanes = sg.vmap(lambda row: sg.jvp(F.tanh(row), row, row))(F.reshape(x, (1, 5)))
    assert lanes.dtype == "bfloat16"
