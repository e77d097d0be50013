"""Layers of low rank: they compute what the dense layer of their product computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.nn import Conv2d, Dense, LowRankConv2d, LowRankDense

MOVES: list[dict[str, Any]] = [
    {"kernel": 3, "ranks": (3, 4), "padding": 1},
    {"kernel": (3, 2), "ranks": (6, 2), "stride": 2, "padding": ((1, 0), (2, 1))},
    {"kernel": 3, "ranks": (1, 9), "dilation": 2, "padding": "same", "bias": None},
    {"kernel": 1, "ranks": 4, "stride": (2, 1), "padding": 2},
    {"kernel": (1, 1), "ranks": (5,), "bias": None},
]


def call(layer: sg.nn.Module, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    value = sg.tensor("x", (sg.dim("B"), *x.shape[1:]))
    return sg.function([value], layer(value), backend="reference")(x)


@pytest.mark.parametrize("shape", [(5, 6), (5, 2, 6)])
def test_a_pair_is_its_product(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    layer = LowRankDense(6, 7, 3, bias=sg.nn.init.normal(1.0))
    dense = Dense(6, 7)
    dense.weight.value = layer.weight.eval()
    dense.bias.value = layer.bias.value  # type: ignore[union-attr]
    x = rng.normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(call(layer, x), call(dense, x), rtol=1e-4, atol=1e-5)
    assert layer.ranks == (3,)
    assert layer.input_shape()[1:] == (6,)
    assert np.linalg.matrix_rank(layer.weight.eval()) == 3


@pytest.mark.parametrize("options", MOVES)
def test_a_convolution_is_its_product(rng: np.random.Generator, options: dict[str, Any]) -> None:
    """Zeros around the image stay zeros: the first factor has no bias."""
    layer = LowRankConv2d(6, 9, **{"bias": sg.nn.init.normal(1.0), **options})
    ranks = options["ranks"]
    assert layer.ranks == ((ranks,) if isinstance(ranks, int) else ranks)
    dense = Conv2d(6, 9, **{name: one for name, one in options.items() if name != "ranks"})
    dense.weight.value = layer.weight.eval()
    if dense.bias is not None:
        dense.bias.value = layer.bias.value  # type: ignore[union-attr]
    x = rng.normal(size=(2, 6, 7, 8)).astype(np.float32)
    np.testing.assert_allclose(call(layer, x), call(dense, x), rtol=1e-3, atol=1e-4)
    assert layer.input_shape()[1] == 6


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: LowRankDense(6, 7, 0), r"rank must lie in 1 .. 6 \(min of 6 inputs and 7"),
        (lambda: LowRankDense(6, 7, 7), "must lie in 1 .. 6 .*, got 7"),
        (lambda: LowRankDense(6, 7, 2.0), "a rank must be an int"),  # type: ignore[arg-type]
        (lambda: LowRankConv2d(6, 7, 3, (7, 7)), r"must lie in 1 .. 6 \(6 inputs\), got 7"),
        (lambda: LowRankConv2d(6, 7, 3, (6, 8)), r"must lie in 1 .. 7 \(7 outputs\), got 8"),
        (lambda: LowRankConv2d(6, 7, 3, 3), "2 ranks are needed, got 1"),
        (lambda: LowRankConv2d(6, 7, 1, (3, 3)), "1 rank is needed, got 2"),
    ],
)
def test_wrong_ranks(make: Any, text: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=text):
        make()
