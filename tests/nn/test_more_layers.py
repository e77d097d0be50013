"""Embeddings, norms of groups, resizing and PReLU against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError
from symgraph.nn import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Embedding,
    GroupNorm,
    InstanceNorm,
    Module,
    PReLU,
    RMSNorm,
    Upsample,
)


def run(layer: Module, feed: np.ndarray, **options: object) -> np.ndarray:
    x = sg.tensor("x", (sg.dim("B"), *feed.shape[1:]), str(feed.dtype))
    return layer(x, **options).eval({x: feed})


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def test_an_embedding_looks_rows_up_and_leaves_its_padding() -> None:
    layer = Embedding(5, 3, padding=2)
    assert not layer.weight.value[2].any()
    feed = np.array([[2, 0], [4, 4]], np.int32)
    np.testing.assert_array_equal(run(layer, feed), layer.weight.value[feed])
    x = sg.tensor("x", (2, 2), "int32")
    slope = sg.grad(layer(x).sum(), layer.weight).eval({x: feed})
    np.testing.assert_array_equal(slope[:, 0], [1, 0, 0, 0, 2])


def test_norms_of_groups_and_of_rows(rng: np.random.Generator) -> None:
    feed = floats(rng, 3, 4, 5)
    wide = feed.astype(float)

    def normal(x: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
        return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5)

    layer = GroupNorm(2, 4)
    layer.scale.value, layer.shift.value = floats(rng, 4), floats(rng, 4)
    expected = normal(wide.reshape(3, 2, 10), (2,)).reshape(3, 4, 5)
    expected = expected * layer.scale.value[:, None] + layer.shift.value[:, None]
    np.testing.assert_allclose(run(layer, feed), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        run(InstanceNorm(4, affine=True), feed), normal(wide, (2,)), rtol=1e-4, atol=1e-5
    )
    assert InstanceNorm(4).parameters() == []
    root = np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(run(RMSNorm(5), feed), wide / root, rtol=1e-5)


def test_layers_that_resize(rng: np.random.Generator) -> None:
    feed = floats(rng, 2, 3, 4, 6)
    halves = feed.reshape(2, 3, 2, 2, 3, 2)
    np.testing.assert_allclose(
        run(AdaptiveAvgPool2d((2, 3)), feed), halves.mean((3, 5)), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(run(AdaptiveMaxPool2d((2, 3)), feed), halves.max((3, 5)))
    doubled = feed.repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_array_equal(run(Upsample(scale_factor=2), feed), doubled)


def test_prelu_has_a_slope_for_each_channel() -> None:
    layer = PReLU(2)
    layer.slope.value = np.array([0.5, 2], np.float32)
    feed = np.array([[-1, -1], [3, -2]], np.float32)
    np.testing.assert_array_equal(run(layer, feed), [[-0.5, -2], [3, -4]])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Embedding(0, 3), "count must be >= 1"),
        (lambda: Embedding(4, 3, padding=4), "padding must be a row"),
        (lambda: GroupNorm(3, 4), "groups must divide"),
        (lambda: PReLU(0), "channels must be >= 1"),
    ],
)
def test_wrong_arguments(make: object, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()
