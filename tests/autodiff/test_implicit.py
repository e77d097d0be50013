"""Roots and minima: their values, and their gradients against the closed form or differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.autodiff import implicit
from symgraph.errors import ArgumentError, ArgumentTypeError, GradError, ShapeError
from symgraph.graph.registry import F

A = np.array([4.0, 9.0, 2.0])


def start(*shape: int) -> Any:
    return sg.constant(np.ones(shape))


def test_a_root_and_its_derivatives_to_order_three() -> None:
    a = sg.tensor("a", (), "float64")
    x = sg.root(lambda x, a: x * x - a, start(), a)
    first = sg.grad(x, a)
    second = sg.grad(first, a)
    third = sg.grad(second, a)
    forward = sg.jvp(x, a, sg.constant(1.0, "float64"))
    found = sg.function([a], [x, first, second, third, forward])(4.0)
    expected = [2.0, 0.25, -(4**-1.5) / 4, 3 / 8 * 4**-2.5, 0.25]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_a_root_of_several_equations() -> None:
    """x0 + x1^3 = a0, x1 + x0 x1 w = a1: gradients by the arguments and by what f reads outside."""
    a = sg.tensor("a", (2,), "float64")
    w = sg.tensor("w", (), "float64")

    def f(x: Any, a: Any) -> Any:
        return F.stack([x[0] + x[1] ** 3 - a[0], x[1] + x[0] * x[1] * w - a[1]])

    x = sg.root(f, start(2), a)
    outputs = [x, sg.jacobian(x, a), sg.jacobian(x, w), sg.jacobian(x, a, "forward")]
    g = sg.function([a, w], outputs)
    at = np.array([1.5, 0.8]), 0.3
    x1, by_a, by_w, forward = g(*at)
    np.testing.assert_allclose(x1[0] + x1[1] ** 3, 1.5, atol=1e-9)
    np.testing.assert_allclose(forward, by_a, rtol=1e-8)
    step = 1e-5
    for number in range(2):
        unit = step * np.eye(2)[number]
        difference = (g(at[0] + unit, at[1])[0] - g(at[0] - unit, at[1])[0]) / (2 * step)
        np.testing.assert_allclose(by_a[:, number], difference, rtol=1e-6)
    difference = (g(at[0], at[1] + step)[0] - g(at[0], at[1] - step)[0]) / (2 * step)
    np.testing.assert_allclose(by_w, difference, rtol=1e-6)


def test_a_solver_of_the_user_needs_no_derivative() -> None:
    def bisect(g: Any, x0: Any) -> Any:
        low, high = F.zeros_like(x0), F.full_like(x0, 10.0)
        for _ in range(45):
            middle = (low + high) / 2
            above = g(middle) > 0
            low, high = F.where(above, low, middle), F.where(above, middle, high)
        return F.stop_gradient((low + high) / 2)

    a = sg.tensor("a", (3,), "float64")
    x = sg.root(lambda x, a: x * x - a, start(3), a, solver=bisect)
    found = sg.function([a], [x, sg.grad(x.sum(), a)])(A)
    np.testing.assert_allclose(found[0], np.sqrt(A), rtol=1e-9)
    np.testing.assert_allclose(found[1], 0.5 / np.sqrt(A), rtol=1e-8)


def test_a_root_for_many_lanes() -> None:
    a = sg.tensor("a", (sg.dim("B"),), "float64")
    x = sg.vmap(lambda a: sg.root(lambda x, a: x * x - a, start(), a))(a)
    slopes = sg.vmap(lambda a: sg.grad(sg.root(lambda x, a: x * x - a, start(), a), a))(a)
    found = sg.function([a], [x, sg.grad(x.sum(), a), slopes])(A)
    np.testing.assert_allclose(found[0], np.sqrt(A), rtol=1e-9)
    np.testing.assert_allclose(found[1], 0.5 / np.sqrt(A), rtol=1e-8)
    np.testing.assert_allclose(found[2], 0.5 / np.sqrt(A), rtol=1e-8)


def test_a_minimum_and_its_derivatives() -> None:
    """Ridge regression: w = (X^T X + l I)^-1 X^T y."""
    rng = np.random.default_rng(1)
    rows, targets = rng.normal(size=(8, 3)), rng.normal(size=8)
    y, strength = sg.tensor("y", (8,), "float64"), sg.tensor("l", (), "float64")

    def loss(w: Any, strength: Any) -> Any:
        return F.sum((F.matmul(sg.constant(rows), w) - y) ** 2) + strength * F.sum(w * w)

    w = sg.minimize(loss, sg.constant(np.zeros(3)), strength)
    f = sg.function([y, strength], [w, sg.jacobian(w, y), sg.jacobian(w, strength)])
    found = f(targets, 0.5)
    inverse = np.linalg.inv(rows.T @ rows + 0.5 * np.eye(3))
    best = inverse @ rows.T @ targets
    np.testing.assert_allclose(found[0], best, rtol=1e-8)
    np.testing.assert_allclose(found[1], inverse @ rows.T, rtol=1e-8)
    np.testing.assert_allclose(found[2], -inverse @ best, rtol=1e-8)


def test_float32_and_structures_of_arguments() -> None:
    a = sg.tensor("a", (3,))
    x = sg.root(lambda x, p: x * x - p["a"] * p["k"], sg.ones(3), {"a": a, "k": 2})
    found = sg.function([a], [x, sg.grad(x.sum(), a)])(A.astype(np.float32))
    np.testing.assert_allclose(found[0], np.sqrt(2 * A), rtol=1e-5)
    np.testing.assert_allclose(found[1], 1 / np.sqrt(2 * A), rtol=1e-4)


def ill_conditioned(n: int, condition: float, seed: int = 0) -> np.ndarray[Any, Any]:
    """Give a matrix whose singular values go from 1 to 1 / condition."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    return (u * np.geomspace(1, 1 / condition, n)) @ v


@pytest.mark.parametrize(("dtype", "condition", "near"), [("float32", 1e4, 1e-2),
                                                          ("float64", 1e8, 1e-6)])  # fmt: skip
def test_systems_that_are_hard_to_solve(dtype: str, condition: float, near: float) -> None:
    """Conjugate gradients on the normal equations know the square of the condition, and give up."""
    n = 16
    matrix, toward = ill_conditioned(n, condition).astype(dtype), np.arange(1, n + 1).astype(dtype)
    a = sg.tensor("a", (4, n // 4), dtype)

    def f(x: Any, a: Any) -> Any:
        return F.reshape(F.matmul(sg.constant(matrix), F.reshape(x, (n,))), a.shape) - a

    x = sg.root(f, sg.zeros((4, n // 4), dtype), a)
    g = sg.function([a], [x, sg.grad((F.reshape(x, (n,)) * toward).sum(), a)])
    exact = matrix.astype(np.float64)
    found, slope = g((exact @ np.ones(n)).astype(dtype).reshape(4, -1))
    np.testing.assert_allclose(found, np.ones(found.shape), atol=near)
    np.testing.assert_allclose(slope.ravel(), np.linalg.solve(exact.T, toward), rtol=1e-3)


@pytest.mark.parametrize("small", [0, implicit.SMALL])
def test_many_unknowns_are_solved_without_a_matrix(
    small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(implicit, "SMALL", small)
    n = 6
    matrix = np.eye(n) * 2 + ill_conditioned(n, 3.0) / 2
    a, many = sg.tensor("a", (n,), "float64"), sg.tensor("many", (3, n), "float64")

    def solved(a: Any) -> Any:
        return sg.root(lambda x, a: F.matmul(sg.constant(matrix), x) + x**3 - a, F.zeros_like(a), a)

    x = solved(a)
    hessian = sg.jacobian(sg.grad(x.sum(), a), a)
    lanes = sg.vmap(lambda a: sg.grad(solved(a).sum(), a))(many)
    given_ = np.linspace(-1, 2, 3 * n).reshape(3, n)
    found, slope, curve = sg.function([a], [x, sg.jacobian(x, a), hessian])(given_[1])
    np.testing.assert_allclose(matrix @ found + found**3, given_[1], atol=1e-9)
    inverse = np.linalg.inv(matrix + np.diag(3 * found**2))
    np.testing.assert_allclose(slope, inverse, rtol=1e-8, atol=1e-12)
    # d/da of J^-T 1, by dJ = diag(6 x) dx
    back = np.linalg.solve((matrix + np.diag(3 * found**2)).T, np.ones(n))
    np.testing.assert_allclose(curve, -inverse.T @ np.diag(6 * found * back) @ inverse, atol=1e-8)
    each = sg.function([many], lanes)(given_)
    np.testing.assert_allclose(each[1], inverse.T @ np.ones(n), rtol=1e-8)
    host = [value for value in sg.function([a], slope_of(solved, a)).graph.values if value.op.host]
    assert bool(host) == bool(small)


def slope_of(solved: Any, a: Any) -> Any:
    return sg.grad(solved(a).sum(), a)


def test_an_unknown_number_of_unknowns() -> None:
    a = sg.tensor("a", (sg.dim("N"),), "float64")
    x = sg.root(lambda x, a: x * x - a, F.ones_like(a), a)
    found = sg.function([a], [x, sg.grad(x.sum(), a)])(A)
    np.testing.assert_allclose(found, [np.sqrt(A), 0.5 / np.sqrt(A)], rtol=1e-8)


def test_what_has_no_derivative_says_so() -> None:
    """A double root, and Newton's method from a place where nothing changes."""
    a = sg.tensor("a", (), "float64")
    double = sg.root(lambda x, a: (x - a) ** 3, start(), a, solver=lambda g, x: F.full_like(x, 2.0))
    assert not np.isfinite(sg.function([a], sg.grad(double, a))(2.0))
    stuck = sg.root(lambda x, a: x * x - a, sg.constant(0.0, "float64"), a)
    assert not np.isfinite(sg.function([a], stuck)(4.0))
    pair = sg.root(lambda x, a: F.stack([x[0] + x[1] - a] * 2), start(2), a)
    assert not np.isfinite(sg.function([a], pair)(4.0)).all()


def test_a_minimum_that_is_flat_in_some_directions_has_the_shortest_derivative() -> None:
    """More weights than rows: dw/dy is the pseudoinverse of the rows."""
    rows = np.random.default_rng(4).normal(size=(3, 5))
    y = sg.tensor("y", (3,), "float64")
    w = sg.minimize(
        lambda w, y: F.sum((F.matmul(sg.constant(rows), w) - y) ** 2), sg.constant(np.zeros(5)), y
    )
    best, slope = sg.function([y], [w, sg.jacobian(w, y)])([1.0, -2.0, 0.5])
    np.testing.assert_allclose(rows @ best, [1.0, -2.0, 0.5], atol=1e-8)
    np.testing.assert_allclose(slope, np.linalg.pinv(rows), rtol=1e-7, atol=1e-10)


def test_what_is_no_number_is_no_solution() -> None:
    """A start where f is NaN is not near enough to a root: it was given back as one."""
    a = sg.tensor("a", (), "float64")
    roots = [
        sg.root(lambda x, a: sg.log(x) - a, sg.constant(-1.0, "float64"), a),
        sg.minimize(lambda x, a: sg.sqrt(x) * a, sg.constant(-1.0, "float64"), a),
        sg.root(lambda x, a: x - a, sg.constant(2.0, "float64"), a),
    ]
    found = sg.function([a], roots)(2.0)
    assert np.isnan(found[0])
    assert np.isnan(found[1])
    assert found[2] == 2


def test_settings_of_a_search_are_numbers() -> None:
    one = sg.constant(1.0, "float64")
    for kind, options, text in (
        (sg.root, {"tolerance": float("nan")}, "tolerance must be >= 0 and finite, got nan"),
        (sg.root, {"tolerance": -1}, "tolerance must be >= 0 and finite, got -1"),
        (sg.minimize, {"rate": np.inf}, "rate must be >= 0 and finite, got inf"),
    ):
        with pytest.raises(ArgumentError, match=text):
            kind(lambda x: x * x, one, **options)
    with pytest.raises(ArgumentTypeError, match="minimize: rate must be a number, got str"):
        sg.minimize(lambda x: x * x, one, rate="fast")
    with pytest.raises(GradError, match=r"root: unknowns are real, .* is complex128"):
        sg.root(lambda x: x * x + 1, np.complex128(1j))


def test_wrong_equations_say_what_must_hold() -> None:
    x = sg.tensor("x", (3,), "float64")
    with pytest.raises(ShapeError, match=r"root: .* type of x0, float64\[3\]; it gives float64"):
        sg.root(lambda x: F.sum(x), x)
    with pytest.raises(GradError, match="must be a scalar"):
        sg.minimize(lambda x: x, x)
    with pytest.raises(GradError, match="only floats"):
        sg.root(lambda x: x, sg.tensor("i", (3,), "int32"))
    with pytest.raises(ArgumentTypeError, match="takes a function"):
        sg.root(3, x)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="max_steps must be >= 1"):
        sg.root(lambda x: x, x, max_steps=0)
    with pytest.raises(ShapeError, match="the solver must give"):
        sg.root(lambda x: x * 2, x, solver=lambda g, x: x[:2])
