"""Reductions where they are easily wrong: zeros, ties, NaN, overflow, accuracy, symbolic counts."""

from __future__ import annotations

import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.dims import dim
from symgraph.errors import ArgumentError, GuardError, ShapeError
from symgraph.graph.leaves import SizeOf
from symgraph.graph.registry import F
from symgraph.graph.walk import topological
from tests.ops.running import check_expansions, computed, run, run_grad

B = dim("B")
NAN = float("nan")


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "any", "all"])
@given(st.data())
def test_any_axes(name: str, data: Any) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 3), max_size=4)))
    axes = data.draw(st.none() | st.sets(st.integers(-len(shape), -1)).map(tuple)) if shape else ()
    keepdims = data.draw(st.booleans())
    x = np.random.default_rng(len(shape)).integers(-2, 3, shape).astype(np.float64)
    found = run(lambda v: getattr(F, name)(v, axes, keepdims=keepdims), x, symbolic=False)
    expected = getattr(np, name)(x, axis=axes, keepdims=keepdims)
    np.testing.assert_array_equal(found, expected)
    check_expansions(lambda v: getattr(F, name)(v, axes, keepdims=keepdims), x)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        ("bool", "int64"), ("int8", "int64"), ("int16", "int64"), ("int32", "int64"),
        ("int64", "int64"), ("uint8", "uint64"), ("uint16", "uint64"), ("uint32", "uint64"),
        ("uint64", "uint64"), ("float16", "float16"), ("bfloat16", "bfloat16"),
        ("float32", "float32"), ("float64", "float64"),
    ],
)  # fmt: skip
def test_dtypes_of_sums_and_products(dtype: str, result: str) -> None:
    x = sg.tensor("x", (B, 2), dtype)
    assert F.sum(x).dtype == F.prod(x, axis=1).dtype == result


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precisions_accumulate_in_float32(dtype: Any) -> None:
    x = np.full((5000, 2), 0.1, dtype)
    exact = 5000 * float(x[0, 0])
    for axis in (0, None):
        found = float(np.asarray(run(lambda v, a=axis: F.sum(v, axis=a), x)).flat[0])
        wanted = float(np.asarray(exact * (2 if axis is None else 1)).astype(dtype))
        assert found == wanted
    mean = run(lambda v: F.mean(v * 1000.0), np.full(5000, 60, dtype))
    assert float(mean) == float(
        np.asarray(60000.0).astype(dtype)
    )  # the sum is above float16's range


@pytest.mark.parametrize("zeros", [0, 1, 2, 4])
def test_the_gradient_of_a_product_with_zeros(zeros: int) -> None:
    x = np.array([2.0, -1.5, 3.0, 0.5])
    x[:zeros] = 0
    expected = [math.prod(x[j] for j in range(4) if j != i) for i in range(4)]
    np.testing.assert_allclose(run_grad(F.prod, x), expected)
    # the gradient of the sum of the gradient: sum over i != k of the product of all but i and k
    second = [
        sum(math.prod(x[j] for j in range(4) if j not in (i, k)) for i in range(4) if i != k)
        for k in range(4)
    ]
    np.testing.assert_allclose(run_grad(F.prod, x, order=2), second)
    third = [
        sum(
            math.prod(x[j] for j in range(4) if j not in (i, k, n))
            for i, k in itertools.permutations(range(4), 2)
            if n not in (i, k)
        )
        for n in range(4)
    ]
    np.testing.assert_allclose(run_grad(F.prod, x, order=3), third)


def test_the_gradient_of_a_product_over_axes_apart() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 2))
    x[0, 1, 1] = 0
    expected = np.empty_like(x)
    for i, j, k in np.ndindex(*x.shape):
        others = [x[a, j, c] for a, c in itertools.product(range(2), repeat=2) if (a, c) != (i, k)]
        expected[i, j, k] = math.prod(others)
    np.testing.assert_allclose(run_grad(lambda v: F.prod(v, axis=(0, 2)), x), expected)


@pytest.mark.parametrize(("name", "top"), [("max", 3.0), ("min", -3.0)])
def test_ties_share_the_gradient_equally(name: str, top: float) -> None:
    x = np.array([[top, 0.0, top], [1.0, 1.0, 1.0], [0.0, top, 2.0]])
    found = run_grad(lambda v: getattr(F, name)(v, axis=1), x)
    np.testing.assert_allclose(found, [[0.5, 0, 0.5], [1 / 3] * 3, [0, 1, 0]])


def test_a_nan_wins() -> None:
    x = np.array([[1.0, NAN, 3.0], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(run(lambda v: F.max(v, axis=1), x), [NAN, 3])
    np.testing.assert_array_equal(run(lambda v: F.min(v, axis=1), x), [NAN, 1])
    np.testing.assert_array_equal(run(lambda v: F.argmax(v, axis=1), x), [1, 2])
    np.testing.assert_array_equal(run(lambda v: F.argmin(v, axis=1), x), [1, 0])


def test_an_empty_axis() -> None:
    x = np.zeros((0, 2))
    np.testing.assert_array_equal(run(lambda v: F.sum(v, axis=0), x), [0, 0])
    np.testing.assert_array_equal(run(lambda v: F.prod(v, axis=0), x), [1, 1])
    np.testing.assert_array_equal(run(lambda v: F.any(v, axis=0), x), [False, False])
    np.testing.assert_array_equal(run(lambda v: F.all(v, axis=0), x), [True, True])
    np.testing.assert_array_equal(run(lambda v: F.mean(v, axis=0), x), [NAN, NAN])
    with pytest.raises(GuardError, match="axis 0 of `x0` must not be empty"):
        run(lambda v: F.max(v, axis=0), x)
    with pytest.raises(GuardError, match="axis 0 of `x0` must not be empty"):
        run(lambda v: F.argmin(v, axis=0), x)


def test_an_empty_axis_is_refused_with_the_users_line() -> None:
    x = sg.tensor("x", (0, B))
    with pytest.raises(ShapeError) as info:
        F.max(x, axis=0)
    text = str(info.value)
    assert text.startswith("max: axis 0 of `x` must not be empty")
    assert "x : float32[0, B]   made at test_reduce.py:" in text
    assert not F.max(x, axis=1).guards  # a named size is at least 1


def test_a_wrong_axis_shows_the_value() -> None:
    x = sg.tensor("x", (2, B))
    for call in (F.sum, F.mean, F.argmax):
        with pytest.raises(ArgumentError) as info:
            call(x, 2)
        text = str(info.value)
        assert f"{call.__name__}: axis 2 does not exist: there are 2 axes." in text
        assert "x : float32[2, B]   made at test_reduce.py:" in text
        assert "fix: use -2 to 1" in text


@pytest.mark.parametrize("b", [1, 2, 7])
def test_the_count_of_a_symbolic_axis_is_symbolic(b: int) -> None:
    x = sg.tensor("x", (B, 3), "float64")
    numbers = np.random.default_rng(b).normal(size=(b, 3))
    mean, var = F.mean(x, axis=0), F.var(x, axis=0)
    assert any(isinstance(node.op, SizeOf) for node in topological([mean]))
    found = computed([mean, var, F.std(x)], [x], [numbers], {B: b})
    np.testing.assert_allclose(found[0], np.mean(numbers, axis=0))
    np.testing.assert_allclose(found[1], np.var(numbers, axis=0), atol=1e-15)
    np.testing.assert_allclose(found[2], np.std(numbers))


def test_the_variance_of_numbers_far_from_zero() -> None:
    x = (1e6 + np.arange(8)).astype(np.float32)
    assert float(run(F.var, x)) == np.var(np.arange(8.0))


def test_a_variance_without_degrees_of_freedom_is_nan() -> None:
    for correction in (1, 1.5, 3):
        found = run(lambda v, c=correction: F.var(v, correction=c), np.array([2.0]))
        assert np.isnan(found)


def test_flat_positions_of_the_largest() -> None:
    x = np.random.default_rng(3).normal(size=(3, 4))
    assert run(F.argmax, x) == np.argmax(x)
    assert run(lambda v: F.argmin(v, keepdims=True), x).tolist() == [[np.argmin(x)]]


def test_numpy_functions_build_graph() -> None:
    x = sg.tensor("x", (B, 3))
    assert np.sum(x, axis=0) is F.sum(x, axis=0)
    assert np.mean(x) is F.mean(x)
    assert np.argmax(x, axis=1) is F.argmax(x, axis=1)
    assert x.max(0, keepdims=True) is F.max(x, 0, keepdims=True)
