"""Products beyond their samples: errors as a user sees them, guards, half precisions, structure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.dims import dim, dims
from symgraph.errors import DTypeError, GuardError, ShapeError
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.registry import F
from symgraph.graph.walk import topological


def test_the_error_of_sizes_that_do_not_fit() -> None:
    B = dim("B")
    h, V = tensor("h", (B, 4)), tensor("V", (3, 2))
    with pytest.raises(ShapeError) as info:
        h @ V
    lines = str(info.value).splitlines()
    assert lines[0] == "matmul: last dim of `h` must equal first dim of `V`: 4 != 3."
    assert lines[1].startswith("  h : float32[B, 4]   made at test_linalg.py")
    assert lines[2].startswith("  V : float32[3, 2]")
    assert lines[3] == "  fix: `V` needs shape (4, 2)"


def test_formulas_that_never_fit_are_refused_for_every_size() -> None:
    B = dim("B")
    with pytest.raises(ShapeError, match=r"B \+ 1 != B for every B"):
        tensor("x", (2, B + 1)) @ tensor("y", (B, 2))


def test_unknown_sizes_meet_in_a_guard() -> None:
    K, L = dims("K L")
    z = tensor("x", (2, K)) @ tensor("y", (L, 3))
    (guard,) = z.guards
    guard.check({K: 5, L: 5})
    with pytest.raises(GuardError, match=r"last dim of .* must equal first dim"):
        guard.check({K: 5, L: 4})


@pytest.mark.parametrize(
    "backend",
    [
        "reference",
        pytest.param(
            "cpu", marks=pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is")
        ),
    ],
)
def test_systems_whose_sizes_nobody_knows(backend: str) -> None:
    """Their matrices are square or not when there are numbers: a plan has to bear that."""
    a, b = sg.matrix("a", "float64"), sg.vector("b", "float64")
    x = sg.linalg.solve(a, b)
    f = sg.function([a, b], [x, sg.grad(x.sum(), b), sg.linalg.solve(a, a)], backend=backend)
    matrix, right = np.array([[2.0, 1.0], [0.0, 4.0]]), np.array([4.0, 8.0])
    found, slope, whole = f(matrix, right)
    np.testing.assert_allclose(found, [1.0, 2.0])
    np.testing.assert_allclose(slope, np.linalg.inv(matrix).T @ np.ones(2))
    np.testing.assert_allclose(whole, np.eye(2), atol=1e-15)
    with pytest.raises(GuardError, match="must have square matrices"):
        f(matrix[:1], right[:1])


def test_tensordot_guards_every_axis_and_not_only_the_product() -> None:
    """Sizes (2, 3) against (3, 2) have one product, and are an error all the same."""
    K, L = dims("K L")
    z = F.tensordot(tensor("x", (2, K, L)), tensor("y", (2, 3, 4)))
    guards = [guard for node in topological([z]) for guard in node.guards]
    assert all(guard.holds({K: 2, L: 3}) for guard in guards)
    assert not all(guard.holds({K: 3, L: 2}) for guard in guards)


def test_operators_and_numpy_arrays() -> None:
    x = tensor("x", (2, 3), "float64")
    array = np.arange(6.0).reshape(3, 2)
    left, right = interpret([x @ array, array @ x], {x: array.T})
    np.testing.assert_array_equal(left, array.T @ array)
    np.testing.assert_array_equal(right, array @ array.T)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precisions_sum_in_float32(dtype: str) -> None:
    ones = F.full((1, 4096), 1.0, dtype)
    (found,) = interpret([F.matmul(ones, F.matrix_transpose(ones))], {})
    assert str(found.dtype) == dtype
    assert float(found[0, 0]) == 4096.0


def test_integers_keep_their_dtype_and_wrap() -> None:
    x = tensor("x", (1, 2), "int8")
    (found,) = interpret([F.matmul(x, F.matrix_transpose(x))], {x: np.array([[100, 1]], np.int8)})
    assert found.dtype == np.int8
    assert int(found[0, 0]) == (100 * 100 + 1 + 128) % 256 - 128


def test_bools_are_no_numbers() -> None:
    x = tensor("x", (2, 2), "bool")
    with pytest.raises(DTypeError, match="matmul: takes numbers, not bool"):
        x @ x


def test_the_gradient_of_a_layer_on_a_stack_is_one_product() -> None:
    """(B, T, D) @ (D, N): the gradient by the weights needs no sum after its product."""
    B, T = dims("B T")
    x, w = tensor("x", (B, T, 4), "float64"), tensor("w", (4, 3), "float64")
    g = tensor("g", (B, T, 3), "float64")
    dx, dw = F.vjp(x @ w, [x, w], g)
    assert dw.op.name == "matmul"
    assert [value.ndim for value in dw.inputs] == [2, 2]
    rng = np.random.default_rng(0)
    feeds = {
        x: rng.normal(size=(2, 5, 4)),
        w: rng.normal(size=(4, 3)),
        g: rng.normal(size=(2, 5, 3)),
    }
    found = interpret([dx, dw], feeds, {B: 2, T: 5})
    np.testing.assert_allclose(found[0], np.einsum("btn,dn->btd", feeds[g], feeds[w]), atol=1e-12)
    np.testing.assert_allclose(found[1], np.einsum("btd,btn->dn", feeds[x], feeds[g]), atol=1e-12)


@pytest.mark.parametrize(
    ("first", "second"),
    [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (4, 3, 2)), ((4, 2, 3), (3,)),
     ((5, 1, 2, 3), (4, 3, 2)), ((2, 3), (4, 3, 2)), ((4, 2, 3), (1, 3, 2)), ((0, 3), (3, 2))],
)  # fmt: skip
def test_any_ranks_against_numpy(first: Any, second: Any, rng: np.random.Generator) -> None:
    a, b = rng.normal(size=first), rng.normal(size=second)
    x, y = tensor("x", first, "float64"), tensor("y", second, "float64")
    z = F.matmul(x, y)
    wanted = np.matmul(a, b)
    assert z.shape == wanted.shape
    g = tensor("g", z.shape, "float64")
    cotangent = rng.normal(size=z.shape)
    found, da, db = interpret([z, *F.vjp(z, [x, y], g)], {x: a, y: b, g: cotangent})
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    # <g, A dx> = <A^T g, dx>, for the product is linear in each operand
    direction = rng.normal(size=first)
    left = np.sum(cotangent * np.matmul(direction, b))
    assert np.sum(da * direction) == pytest.approx(left, abs=1e-10)
    direction = rng.normal(size=second)
    right = np.sum(cotangent * np.matmul(a, direction))
    assert np.sum(db * direction) == pytest.approx(right, abs=1e-10)
