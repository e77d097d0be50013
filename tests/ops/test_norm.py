"""Normalisation: what the generated tests do not see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from symgraph.dims import dim
from symgraph.errors import ArgumentError, ShapeError
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.ops import lrn

RNG = np.random.default_rng(3)


def value(found: Value) -> Any:
    return interpret([found], {})[0]


# -- local response normalisation ------------------------------------------------------------------


def test_published_numbers() -> None:
    """One pixel of five channels, by hand: k=2, alpha=1e-4 not divided, beta=0.75."""
    x = np.array([10.0, 20.0, 30.0, 40.0, 50.0]).reshape(1, 5, 1, 1)
    squares = [1400, 3000, 5500, 5400, 5000]  # of the channels within two places
    expected = [a / (2 + 1e-4 * s) ** 0.75 for a, s in zip(x.ravel(), squares)]
    np.testing.assert_allclose(value(F.local_response_norm(x)).ravel(), expected, rtol=1e-14)
    caffe = value(F.local_response_norm(x, k=1.0, form="caffe")).ravel()
    expected = [a / (1 + 2e-5 * s) ** 0.75 for a, s in zip(x.ravel(), squares)]
    np.testing.assert_allclose(caffe, expected, rtol=1e-14)


def test_blocks_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    x, g = (RNG.normal(size=(7, 6, 3, 2)).astype(np.float32) for _ in range(2))
    forward = lrn.LocalResponseNorm(5, 0.3, 0.75, 2.0, 1)
    backward = lrn.LocalResponseNormGrad(5, 0.3, 0.75, 2.0, 1)
    whole = forward.ref(np, x), backward.ref(np, g, x)
    monkeypatch.setattr(lrn, "BLOCK", 80)  # two images of 36 elements at a time
    pieces = forward.ref(np, x), backward.ref(np, g, x)
    for one, other in zip(whole, pieces):
        np.testing.assert_array_equal(one, other)


def test_a_window_larger_than_the_channels() -> None:
    x = RNG.normal(size=(2, 3))
    found = value(F.local_response_norm(x, 21, 0.5, 1.0, 1.0))
    np.testing.assert_allclose(found, x / (1 + 0.5 * np.sum(x**2, axis=1, keepdims=True)))


def test_inputs_are_not_written() -> None:
    x = RNG.normal(size=(2, 5, 3))
    before = x.copy()
    leaf = tensor("x", x.shape, "float64")
    y = F.local_response_norm(leaf)
    interpret([y, F.grad(F.sum(y * y), leaf)], {leaf: x})
    np.testing.assert_array_equal(x, before)


def test_third_derivative_of_local_response_norm() -> None:
    x = RNG.normal(size=(6,))
    leaf = tensor("x", (6,), "float64")
    weights = [RNG.normal(size=6) for _ in range(3)]
    found = F.local_response_norm(leaf, 3, 0.4, 0.75, 1.0, axis=0)
    for weight in weights[:2]:
        found = F.grad(F.sum(found * weight), leaf)
    third = interpret([F.grad(F.sum(found * weights[2]), leaf)], {leaf: x})[0]
    step, direction = 1e-5, RNG.normal(size=6)

    def total(at: Any) -> float:
        return float(interpret([found], {leaf: at})[0] @ weights[2])

    slope = (total(x + step * direction) - total(x - step * direction)) / (2 * step)
    assert third @ direction == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precisions_square_in_float32(dtype: str) -> None:
    x = np.full((1, 5), 300.0, numpy_dtype(dtype))  # 300**2 is infinite in float16
    wide = np.float64(x[0, 2])
    for found, expected in (
        (F.local_response_norm(x)[0, 2], wide / (2 + 1e-4 * 5 * wide**2) ** 0.75),
        (F.rms_norm(x)[0, 2], 1.0),
        (F.layer_norm(x)[0, 2], 0.0),
    ):
        assert found.dtype == dtype
        np.testing.assert_allclose(np.float64(value(found)), expected, rtol=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be >= 1, got 0"),
        ({"alpha": -1.0}, "alpha must be >= 0 and k must be > 0"),
        ({"alpha": float("nan")}, "alpha must be >= 0"),
        ({"form": "caffe2"}, 'form must be "pylearn2" or "caffe", got \'caffe2\''),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        F.local_response_norm(tensor("x", (2, 3)), **options)


# -- batch and layer normalisation -----------------------------------------------------------------


def test_variance_is_two_pass() -> None:
    x = (1e4 + RNG.normal(size=(64, 3))).astype(np.float32)
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    y, mean, variance = (value(part) for part in F.batch_norm(x, ones, zeros, axis=0))
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var(axis=0), rtol=1e-3)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-2)
    rows = value(F.layer_norm(np.ascontiguousarray(x.T)))
    np.testing.assert_allclose(rows.std(axis=1), 1, rtol=1e-3)


def test_statistics_of_nothing_are_nan() -> None:
    x = np.zeros((0, 3), np.float32)
    y, mean, variance = (value(p) for p in F.batch_norm(x, np.ones(3), np.zeros(3), axis=0))
    assert y.shape == (0, 3)
    assert np.isnan(mean).all()
    assert np.isnan(variance).all()


def test_statistics_of_halves_are_float32() -> None:
    x = tensor("x", (dim("B"), 3, 4, 4), "float16")
    y, mean, variance = F.batch_norm(x, np.ones(3, np.float16), np.zeros(3, np.float16))
    assert (y.dtype, mean.dtype, variance.dtype) == ("float16", "float32", "float32")
    y, mean, _ = F.batch_norm(x, np.ones(3, np.float32), np.zeros(3, np.float32))
    assert (y.dtype, mean.dtype) == ("float32", "float32")


def test_axes_by_default_are_all_but_the_channels() -> None:
    ones, zeros = np.ones(3), np.zeros(3)
    for shape in ((4, 3), (4, 3, 5), (4, 3, 2, 2)):
        x = RNG.normal(size=shape)
        y, mean, variance = F.batch_norm(x, ones, zeros)
        again = F.batch_norm_inference(x, ones, zeros, mean, variance)
        first, second = interpret([y, again], {})
        np.testing.assert_allclose(first, second, rtol=1e-12, atol=1e-12)
        over = tuple(d for d in range(len(shape)) if d != 1)
        np.testing.assert_allclose(value(mean), x.mean(axis=over), atol=1e-12)


def test_gradient_of_a_normalised_sum_is_zero() -> None:
    """The mean is taken away, so the sum of y is constant: the gradient vanishes exactly."""
    leaf = tensor("x", (5, 3), "float64")
    y, *_ = F.batch_norm(leaf, np.full(3, 2.0), np.ones(3), axis=0)
    slope = interpret([F.grad(F.sum(y), leaf)], {leaf: RNG.normal(size=(5, 3))})[0]
    np.testing.assert_allclose(slope, 0, atol=1e-12)


def test_errors_name_the_operands_and_the_fix() -> None:
    images, scale = tensor("images", (dim("B"), 3, 8, 8)), tensor("scale", (4,))
    shift = tensor("shift", (3,))
    with pytest.raises(ShapeError) as info:
        F.batch_norm(images, scale, shift)
    text = str(info.value)
    assert "batch_norm: size 0 of `scale` must equal size 1 of `images`: 4 != 3" in text
    assert "test_norm.py:" in text
    with pytest.raises(ShapeError, match=r"fix: give it the shape \(8,\)"):
        F.layer_norm(images, tensor("scale", (3, 8)))
    with pytest.raises(ArgumentError, match="epsilon must be > 0, got 0"):
        F.rms_norm(images, epsilon=0)


def test_gradient_through_the_statistics_alone() -> None:
    leaf, scale = tensor("x", (5, 3), "float64"), tensor("scale", (3,), "float64")
    _, mean, variance = F.batch_norm(leaf, scale, np.zeros(3), axis=0)
    x = RNG.normal(size=(5, 3))
    by_mean, by_variance, by_scale = interpret(
        [
            F.grad(F.sum(mean), leaf),
            F.grad(F.sum(variance), leaf),
            F.grad(F.sum(variance), scale, missing="zero"),
        ],
        {leaf: x, scale: np.ones(3)},
    )
    np.testing.assert_allclose(by_mean, 1 / 5)
    np.testing.assert_allclose(by_variance, 2 * (x - x.mean(axis=0)) / 5)
    np.testing.assert_array_equal(by_scale, 0)
