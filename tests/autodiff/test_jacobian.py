"""Jacobians and Hessians against NumPy, dense and compressed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse

import symgraph as sg
from symgraph.autodiff.jacobian import colours
from symgraph.errors import ArgumentError, ArgumentTypeError, GradError, ShapeError
from symgraph.graph.registry import F
from symgraph.graph.walk import topological

W = np.array([[0.3, -1.0, 2.0], [1.5, 0.2, -0.7]])
X = np.array([0.5, -0.25, 1.0])


def run(outputs: Any, x: Any, array: Any) -> Any:
    return sg.function([x], outputs)(array)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_a_jacobian_has_the_shape_of_both(mode: Any) -> None:
    x = sg.tensor("x", (3,), "float64")
    y = F.tanh(F.matmul(sg.constant(W), x))
    found = run([sg.jacobian(y, x, mode), sg.jacobian(y.sum(), x, mode)], x, X)
    slope = 1 - np.tanh(W @ X) ** 2
    np.testing.assert_allclose(found[0], slope[:, None] * W)
    np.testing.assert_allclose(found[1], slope @ W)
    z = sg.tensor("z", (2, 2), "float64")
    array = np.array([[1.0, 2.0], [3.0, 4.0]])
    square = run(sg.jacobian(z @ z, z, mode), z, array)
    unit = np.eye(2)
    expected = np.einsum("ik,jl->ijkl", unit, array.T) + np.einsum("ik,jl->ijkl", array, unit)
    np.testing.assert_allclose(square, expected)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_jacobian_of_symbolic_sizes(mode: Any) -> None:
    x = sg.tensor("x", (sg.dim("n", min=0),), "float64")
    f = sg.function([x], sg.jacobian(x * x.sum(), x, mode))
    for size in (0, 1, 4):
        array = np.arange(size) + 0.5
        expected = np.eye(size) * array.sum() + array[:, None] * np.ones(size)
        np.testing.assert_allclose(f(array), expected)


def test_a_hessian_and_its_blocks() -> None:
    x = sg.tensor("x", (3,), "float64")
    loss = F.sum(F.sin(x)) * x[0]
    second = -np.diag(np.sin(X)) * X[0]
    second[0] += np.cos(X)
    second[:, 0] += np.cos(X)
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(run(sg.hessian(loss, x, mode), x, X), second)
    y = sg.tensor("y", (2,), "float64")
    blocks = sg.hessian(F.sum(x) * F.sum(y * y), [x, y])
    f = sg.function([x, y], [blocks[0][0], blocks[0][1], blocks[1][0], blocks[1][1]])
    other = np.array([2.0, -1.0])
    found = f(X, other)
    np.testing.assert_allclose(found[0], np.zeros((3, 3)))
    np.testing.assert_allclose(found[1], np.tile(2 * other, (3, 1)))
    np.testing.assert_allclose(found[2], found[1].T)
    np.testing.assert_allclose(found[3], 2 * X.sum() * np.eye(2))


def banded(x: Any) -> Any:
    """Give what depends on each element and its two neighbours."""
    return x[1:-1] * x[1:-1] - F.sin(x[:-2]) * x[2:]


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_a_known_pattern_needs_as_many_passes_as_colours(mode: Any) -> None:
    size = 40
    x = sg.tensor("x", (size,), "float64")
    array = np.random.default_rng(3).normal(size=size)
    y = banded(x)
    pattern = np.eye(size - 2, size, 0) + np.eye(size - 2, size, 1) + np.eye(size - 2, size, 2) > 0
    dense = run(sg.jacobian(y, x), x, array)
    assert not dense[~pattern].any()
    packed = sg.jacobian(y, x, mode, sparsity=pattern)
    np.testing.assert_allclose(run(packed, x, array), dense[pattern])
    assert max(v.tensor.size for v in topological([packed]) if v.inputs) <= 3 * size  # type: ignore[type-var]
    sparse = scipy.sparse.csc_matrix(pattern)
    order = sparse.tocoo()
    numbers = run(sg.jacobian(y, x, mode, sparsity=sparse), x, array)
    np.testing.assert_allclose(numbers, dense[order.row, order.col])
    whole = sg.jacobian(y, x, mode, sparsity=pattern, dense=True)
    np.testing.assert_allclose(run(whole, x, array), dense)


def test_an_arrow_is_cheaper_one_way() -> None:
    """One full row and a diagonal: each column is alone in that row, but two rows are enough."""
    size = 12
    pattern = np.eye(size, dtype=bool)
    pattern[0] = True
    rows, columns = np.nonzero(pattern)
    assert colours(columns, rows, size).max() + 1 == size
    assert colours(rows, columns, size).max() + 1 == 2
    x = sg.tensor("x", (size,), "float64")
    y = F.concat([F.reshape(F.sum(F.exp(x)), (1,)), x[1:] * x[1:]])
    array = np.linspace(-1, 1, size)
    expected = np.diag(2 * array)
    expected[0] = np.exp(array)
    found = run(sg.jacobian(y, x, sparsity=pattern, dense=True), x, array)
    np.testing.assert_allclose(found, expected)


def test_an_empty_pattern_has_no_elements() -> None:
    x = sg.tensor("x", (3,), "float64")
    y = F.stop_gradient(x) + 0 * F.round(x)
    packed = sg.jacobian(y, x, missing="zero", sparsity=np.zeros((3, 3), bool))
    assert run(packed, x, X).shape == (0,)


def test_wrong_calls_say_what_must_hold() -> None:
    x = sg.tensor("x", (3,), "float64")
    with pytest.raises(ArgumentError, match='mode must be "auto"'):
        sg.jacobian(x, x, "sideways")  # type: ignore[arg-type]
    with pytest.raises(GradError, match="only floats have gradients"):
        sg.jacobian(F.argmax(x), x)
    with pytest.raises(ShapeError, match=r"must have shape \(3, 3\)"):
        sg.jacobian(x * 2, x, sparsity=np.ones((3, 4), bool))
    n = sg.tensor("n", (sg.dim("n"),), "float64")
    with pytest.raises(ShapeError, match="sizes that are numbers"):
        sg.jacobian(n, n, sparsity=np.ones((3, 3), bool))
    with pytest.raises(ArgumentTypeError, match="for one `x`"):
        sg.jacobian(x, [x], sparsity=np.ones((3, 3), bool))
    with pytest.raises(GradError, match="does not depend on `x`"):
        sg.jacobian(n, x)
    np.testing.assert_array_equal(
        sg.jacobian(x * 0 + 1, x, missing="zero").eval(), np.zeros((3, 3))
    )
    z = sg.tensor("z", (3,), "complex128")
    with pytest.raises(GradError, match="of complex numbers there are two"):
        sg.jacobian(F.real(z), z)
    with pytest.raises(GradError, match="must be a scalar"):
        sg.hessian(x, x)
