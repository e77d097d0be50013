"""Attention against loops in NumPy, one query at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError
from symgraph.nn import Dropout, LayerNorm, MultiHeadAttention, TransformerBlock

FEATURES, HEADS = 6, 2


def attended(
    net: MultiHeadAttention, x: np.ndarray, memory: np.ndarray, shown: np.ndarray
) -> np.ndarray:
    """Attend from the definition; `shown` (B, heads, T, S) is added to the scores."""
    weights = np.split(net.inputs.weight.value, 3, axis=1)
    biases = np.split(net.inputs.bias.value, 3) if net.inputs.bias is not None else [0, 0, 0]
    query, key, value = (
        source @ weight + bias for source, weight, bias in zip((x, memory, memory), weights, biases)
    )
    wide = FEATURES // HEADS
    mixed = np.zeros_like(query)
    for b in range(x.shape[0]):
        for head in range(HEADS):
            part = slice(head * wide, (head + 1) * wide)
            for t in range(x.shape[1]):
                scores = key[b, :, part] @ query[b, t, part] / np.sqrt(wide) + shown[b, head, t]
                shares = np.exp(scores - scores.max())
                mixed[b, t, part] = shares @ value[b, :, part] / shares.sum()
    out = mixed @ net.outputs.weight.value
    return out if net.outputs.bias is None else out + net.outputs.bias.value


def made(**options: Any) -> MultiHeadAttention:
    """Make a layer of float64 with biases that are not zero."""
    sg.seed(2)
    with sg.config(float_dtype="float64"):
        net = MultiHeadAttention(FEATURES, HEADS, **options)
    for number, bias in enumerate(net.parameters("bias")):
        bias.value = np.linspace(-1, 1, bias.value.size) + number
    return net


@pytest.mark.parametrize("case", ["self", "causal", "mask", "added", "memory", "bias"])
def test_against_the_definition(rng: np.random.Generator, case: str) -> None:
    net = made(bias=case != "bias")
    steps, others = 4, 3 if case == "memory" else 4
    x = sg.tensor("x", (sg.dim("B"), sg.dim("T"), FEATURES), "float64")
    memory = sg.tensor("m", (x.shape[0], sg.dim("S"), FEATURES), "float64")
    feed, extra = rng.normal(size=(2, steps, FEATURES)), rng.normal(size=(2, others, FEATURES))
    shown = np.zeros((2, HEADS, steps, others))
    options: dict[str, Any] = {}
    if case == "causal":
        options["causal"] = True
        shown[..., np.triu(np.ones((steps, steps), bool), 1)] = -np.inf
    elif case == "mask":
        mask = rng.random((2, 1, steps, steps)) < 0.6
        mask |= np.eye(steps, dtype=bool)
        options["mask"] = mask
        shown += np.where(mask, 0, -np.inf)
    elif case == "added":
        shown += rng.normal(size=shown.shape)
        options["mask"] = shown
    elif case == "memory":
        options["memory"] = memory
    y = net(x, **options)
    assert y.shape == (x.shape[0], x.shape[1], FEATURES)
    inputs = [x, memory] if case == "memory" else [x]
    found = sg.function(inputs, y)(*(feed, extra)[: len(inputs)])
    expected = attended(net, feed, extra if case == "memory" else feed, shown)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_causal_outputs_do_not_see_what_comes(rng: np.random.Generator) -> None:
    net = TransformerBlock(8, 2)
    x = sg.tensor("x", (1, 5, 8))
    f = sg.function([x], net(x, causal=True))
    feed = rng.normal(size=(1, 5, 8)).astype(np.float32)
    changed = feed.copy()
    changed[:, 3] = rng.normal(size=8)
    before, after = f(feed), f(changed)
    np.testing.assert_allclose(before[:, :3], after[:, :3], rtol=1e-6, atol=1e-6)
    assert np.abs(before[:, 4] - after[:, 4]).max() > 1e-3


def test_block_is_two_residuals(rng: np.random.Generator) -> None:
    net = TransformerBlock(8, 2, 12, dropout=0.3, attention_dropout=0.2, epsilon=1e-6)
    x = sg.tensor("x", (sg.dim("B"), 5, 8))
    first = x + net.attention(net.norm(x))
    dense, _, _, last, _ = net.mlp.layers
    whole = first + last(sg.gelu(dense(net.mlp_norm(first))))
    feed = rng.normal(size=(2, 5, 8)).astype(np.float32)
    found, expected = sg.function([x], [net(x), whole])(feed)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert (sg.function([x], net(x, train=True))(feed) != found).any()
    assert net.count() == 4 * 8 * 8 + 4 * 8 + 2 * 16 + 2 * 8 * 12 + 12 + 8
    assert isinstance(net.norm, LayerNorm)
    assert net.norm.epsilon == 1e-6
    assert isinstance(net.drop, Dropout)
    assert net.example().shape[2] == 8


def test_gradients_reach_every_parameter(rng: np.random.Generator) -> None:
    net = TransformerBlock(8, 2, dropout=0.1, attention_dropout=0.1)
    x = sg.tensor("x", (2, 3, 8))
    weight = rng.normal(size=(2, 3, 8)).astype(np.float32)
    gradients = sg.grad((net(x, train=True) * weight).sum(), net.parameters())
    feed = rng.normal(size=(2, 3, 8)).astype(np.float32)
    assert all(np.abs(one).max() > 1e-4 for one in sg.function([x], gradients)(feed))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: MultiHeadAttention(8, 3), "heads must divide features: 8 features, 3 heads"),
        (lambda: MultiHeadAttention(8, 0), "heads must be >= 1, got 0"),
        (lambda: MultiHeadAttention(8, 2, dropout=1.0), r"rate must be in \[0, 1\)"),
        (lambda: TransformerBlock(8, 2, 0), "Dense: outputs must be >= 1, got 0"),
    ],
)
def test_wrong_arguments(make: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()
