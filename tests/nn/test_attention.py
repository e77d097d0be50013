"""Embeddings, attention and the transformer's block against NumPy; gradients reach all."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

import symgraph as sg
from symgraph.errors import ArgumentError
from symgraph.nn import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Embedding,
    GroupNorm,
    InstanceNorm,
    Module,
    MultiHeadAttention,
    PReLU,
    RMSNorm,
    TransformerBlock,
    Upsample,
)


def run(layer: Module, feed: np.ndarray, **options: object) -> np.ndarray:
    x = sg.tensor("x", (sg.dim("B"), *feed.shape[1:]), str(feed.dtype))
    return layer(x, **options).eval({x: feed})


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def attended(layer: MultiHeadAttention, x: np.ndarray, key: np.ndarray, seen: np.ndarray) -> object:
    """Attend head by head and query by query, in float64."""
    width = layer.features // layer.heads
    q, k, v = (
        each.astype(float) @ part.weight.value.astype(float) + part.bias.value
        for each, part in ((x, layer.query), (key, layer.key), (key, layer.value))
    )
    out = np.zeros(q.shape)
    for b, i in np.ndindex(*q.shape[:2]):
        for h in range(layer.heads):
            own = slice(h * width, (h + 1) * width)
            scores = np.where(seen[i], k[b, :, own] @ q[b, i, own] / np.sqrt(width), -np.inf)
            out[b, i, own] = special.softmax(scores) @ v[b, :, own]
    return out @ layer.out.weight.value.astype(float) + layer.out.bias.value


def test_attention_of_several_heads(rng: np.random.Generator) -> None:
    layer = MultiHeadAttention(6, 2)
    for part in (layer.query, layer.key, layer.value, layer.out):
        part.bias.value = floats(rng, 6)
    feed = floats(rng, 2, 4, 6)
    expected = attended(layer, feed, feed, np.tri(4, dtype=bool))
    np.testing.assert_allclose(run(layer, feed, is_causal=True), expected, rtol=1e-4, atol=1e-5)
    other = floats(rng, 2, 3, 6)
    seen = np.array([[1, 1, 0]] * 4, bool)
    found = run(layer, feed, key=sg.constant(other), mask=sg.constant(seen))
    np.testing.assert_allclose(found, attended(layer, feed, other, seen), rtol=1e-4, atol=1e-5)


def test_a_block_is_trained_as_a_whole(rng: np.random.Generator) -> None:
    block = TransformerBlock(6, 3, hidden=5, dropout=0.1)
    feed = floats(rng, 2, 4, 6)
    y = run(block, feed, is_causal=True)
    assert y.shape == feed.shape
    later = feed.copy()
    later[:, 3] += 1
    np.testing.assert_array_equal(run(block, later, is_causal=True)[:, :3], y[:, :3])
    x = sg.tensor("x", (sg.dim("B"), 4, 6))
    loss = sg.square(block(x, train=True)).sum()
    named = block.named_parameters()
    assert len(named) == 2 * (2 + 4 + 2)
    slopes = sg.function([x], sg.grad(loss, [each for _, each in named]))(feed)
    for (name, _), slope in zip(named, slopes, strict=True):
        # a key's bias moves all scores of a query alike, which a softmax does not see
        assert name == "attention.key.bias" or np.abs(slope).max() > 1e-6, name


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
        (lambda: MultiHeadAttention(6, 4), "heads must divide"),
        (lambda: Embedding(0, 3), "sizes must be >= 1"),
        (lambda: Embedding(4, 3, padding=4), "padding must be a row"),
        (lambda: GroupNorm(3, 4), "groups must divide"),
        (lambda: PReLU(0), "channels must be >= 1"),
    ],
)
def test_wrong_arguments(make: object, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()
