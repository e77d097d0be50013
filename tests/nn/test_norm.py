"""Normalisation layers against NumPy, batch norm over several calls too."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError
from symgraph.nn import LRN, BatchNorm, LayerNorm, LocalResponseNorm


def test_lrn_divides_by_the_neighbouring_channels(rng: np.random.Generator) -> None:
    feed = rng.normal(size=(2, 7, 3, 4)).astype(np.float32) * 20
    x = sg.tensor("x", (sg.dim("B"), 7, 3, 4), "float32")
    for options, a in (({}, 1e-4), ({"form": "caffe"}, 1e-4 / 5)):
        expected = np.empty(feed.shape)
        for c in range(7):
            near = feed[:, max(c - 2, 0) : c + 3].astype(float)
            expected[:, c] = feed[:, c] / (2 + a * (near**2).sum(axis=1)) ** 0.75
        found = LRN(**options)(x).eval({x: feed})
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert LocalResponseNorm(**options)(x, train=True) is LRN(**options)(x)


def test_layer_norm_normalises_each_row(rng: np.random.Generator) -> None:
    layer = LayerNorm(6)
    layer.scale.value = rng.normal(size=6).astype(np.float32)
    layer.shift.value = rng.normal(size=6).astype(np.float32)
    feed = rng.normal(3, 5, size=(4, 5, 6)).astype(np.float32)
    x = sg.tensor("x", (sg.dim("B"), 5, 6), "float32")
    wide = feed.astype(float)
    normal = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    found = layer(x).eval({x: feed})
    np.testing.assert_allclose(
        found, normal * layer.scale.value + layer.shift.value, rtol=1e-4, atol=1e-5
    )
    assert [name for name, _ in layer.named_parameters()] == ["scale", "shift"]


class Running:
    """What batch norm keeps, in NumPy and float64."""

    def __init__(self, channels: int, momentum: float) -> None:
        self.mean, self.var, self.momentum = np.zeros(channels), np.ones(channels), momentum

    def see(self, feed: np.ndarray) -> np.ndarray:
        over = tuple(axis for axis in range(feed.ndim) if axis != 1)
        spread = tuple(-1 if axis == 1 else 1 for axis in range(feed.ndim))
        mean, var = feed.mean(over), feed.var(over)
        self.mean = (1 - self.momentum) * self.mean + self.momentum * mean
        self.var = (1 - self.momentum) * self.var + self.momentum * feed.var(over, ddof=1)
        return (feed - mean.reshape(spread)) / np.sqrt(var.reshape(spread) + 1e-5)


@pytest.mark.parametrize("shape", [(5, 4, 5), (3,)], ids=["images", "rows"])
def test_batch_norm_over_several_calls(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    channels = shape[0] if len(shape) == 1 else 5
    layer = BatchNorm(channels, momentum=0.3)
    layer.scale.value = rng.uniform(0.5, 2, channels).astype(np.float32)
    layer.shift.value = rng.normal(size=channels).astype(np.float32)
    spread = (-1,) + (1,) * (len(shape) - 1)
    x = sg.tensor("x", (sg.dim("B"), *shape), "float32")
    train, evaluate = sg.function([x], layer(x, train=True)), sg.function([x], layer(x))
    running = Running(channels, 0.3)
    for size in (4, 7, 2, 5):
        feed = rng.normal(2, 3, size=(size, *shape)).astype(np.float32)
        expected = running.see(feed.astype(float)) * layer.scale.value.reshape(spread)
        expected = expected + layer.shift.value.reshape(spread)
        np.testing.assert_allclose(train(feed), expected, rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose(layer.mean.value, running.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer.var.value, running.var, rtol=1e-5)
        mean, var = layer.mean.value.astype(float), layer.var.value.astype(float)
        normal = (feed - mean.reshape(spread)) / np.sqrt(var.reshape(spread) + 1e-5)
        expected = normal * layer.scale.value.reshape(spread) + layer.shift.value.reshape(spread)
        np.testing.assert_allclose(evaluate(feed), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(layer.mean.value, mean.astype(np.float32))  # untouched


def test_batch_norm_of_one_value_keeps_a_finite_variance() -> None:
    layer = BatchNorm(2, momentum=0.5)
    x = sg.tensor("x", (sg.dim("B"), 2), "float32")
    sg.function([x], layer(x, train=True))(np.array([[3.0, 4.0]], np.float32))
    assert layer.mean.value.tolist() == [1.5, 2.0]
    assert layer.var.value.tolist() == [0.5, 0.5]


def test_running_statistics_carry_no_gradient() -> None:
    layer = BatchNorm(3)
    x = sg.tensor("x", (4, 3), "float32")
    y = layer(x, train=True)
    step = sg.function([x], sg.grad((y * y * y).sum(), [x, layer.scale, layer.shift]))
    feed = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    wide = feed.astype(float)

    def loss(value: np.ndarray) -> float:
        return float((((value - value.mean(0)) / np.sqrt(value.var(0) + 1e-5)) ** 3).sum())

    expected = np.empty((4, 3))
    for place in np.ndindex(4, 3):
        moved = np.zeros((4, 3))
        moved[place] = 1e-5
        expected[place] = (loss(wide + moved) - loss(wide - moved)) / 2e-5
    np.testing.assert_allclose(step(feed)[0], expected, rtol=1e-3, atol=1e-4)
    assert (layer.mean.value != 0).all()  # the gradient's function used y, so y's updates ran


def test_buffers_are_state_only() -> None:
    layer = BatchNorm(3)
    assert list(layer.named_state()) == ["scale", "shift", "mean", "var"]
    assert [name for name, _ in layer.named_parameters()] == ["scale", "shift"]


@pytest.mark.parametrize("momentum", [0.0, -0.1, 1.5])
def test_a_momentum_that_is_none_is_refused(momentum: float) -> None:
    with pytest.raises(ArgumentError, match=r"BatchNorm: momentum must be in \(0, 1\]"):
        BatchNorm(3, momentum=momentum)
