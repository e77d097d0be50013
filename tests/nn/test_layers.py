"""Dense, convolution, pooling and activation layers against NumPy and SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import signal, special

import symgraph as sg
from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    ShapeError,
    SymgraphError,
    UnknownNameError,
)
from symgraph.nn import (
    Activation,
    AvgPool2d,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    Module,
)

B = sg.dim("B")


def run(layer: Module, feed: np.ndarray, *, train: bool = False) -> np.ndarray:
    """Run a layer on an array whose first size is symbolic."""
    x = sg.tensor("x", (sg.dim("B"), *feed.shape[1:]), str(feed.dtype))
    y = layer(x, train=train)
    found = y.eval({x: feed})
    assert found.dtype == feed.dtype
    assert found.shape[1:] == tuple(y.shape[1:])
    return found


def images(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("lead", [(3,), (3, 5), (2, 3, 4)])
def test_dense(rng: np.random.Generator, lead: tuple[int, ...]) -> None:
    layer = Dense(6, 4, bias=sg.nn.init.normal(1))
    feed = images(rng, *lead, 6)
    expected = feed.astype(float) @ layer.weight.value.astype(float) + layer.bias.value
    np.testing.assert_allclose(run(layer, feed), expected, rtol=1e-4, atol=1e-5)
    assert (run(layer, feed) == run(layer, feed, train=True)).all()


def test_dense_without_bias_and_defaults() -> None:
    layer = Dense(200, 300, bias=None)
    assert layer.bias is None
    limit = np.sqrt(6 / 500)
    assert 0.99 * limit < np.abs(layer.weight.value).max() <= np.float32(limit)
    assert not Dense(3, 4).bias.value.any()


def correlate(
    x: np.ndarray, w: np.ndarray, stride: tuple[int, int], pad: Any, dilation: tuple[int, int],
    groups: int,
) -> np.ndarray:  # fmt: skip
    """Convolve as deep nets do, channel by channel with SciPy."""
    x = np.pad(x.astype(float), ((0, 0), (0, 0), *pad))
    kernel = np.zeros((*w.shape[:2], *[(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation)]))
    kernel[:, :, :: dilation[0], :: dilation[1]] = w
    per_in, per_out = w.shape[1], w.shape[0] // groups
    result = []
    for image in x:
        for o in range(w.shape[0]):
            first = o // per_out * per_in
            result.append(
                sum(
                    signal.correlate2d(image[first + c], kernel[o, c], mode="valid")
                    for c in range(per_in)
                )[:: stride[0], :: stride[1]]
            )
    return np.stack(result).reshape(len(x), w.shape[0], *result[0].shape)


@pytest.mark.parametrize(
    ("options", "pad"),
    [
        ({}, ((0, 0), (0, 0))),
        ({"stride": 2, "padding": 1}, ((1, 1), (1, 1))),
        ({"stride": (1, 3), "padding": (2, 0), "groups": 2}, ((2, 2), (0, 0))),
        ({"padding": ((0, 1), (2, 1)), "dilation": 2}, ((0, 1), (2, 1))),
        ({"padding": "valid", "groups": 4}, ((0, 0), (0, 0))),
        ({"padding": "same"}, ((1, 1), (0, 1))),
    ],
)
def test_conv(rng: np.random.Generator, options: dict[str, Any], pad: Any) -> None:
    layer = Conv2d(4, 8, (3, 2), bias=sg.nn.init.normal(1), **options)
    groups = options.get("groups", 1)
    assert layer.weight.shape == (8, 4 // groups, 3, 2)
    feed = images(rng, 2, 4, 9, 11)

    def pair(value: Any) -> tuple[int, int]:
        return (value, value) if isinstance(value, int) else value

    stride, dilation = pair(options.get("stride", 1)), pair(options.get("dilation", 1))
    expected = correlate(feed, layer.weight.value, stride, pad, dilation, groups)
    expected = expected + layer.bias.value.reshape(8, 1, 1)
    np.testing.assert_allclose(run(layer, feed), expected, rtol=1e-4, atol=1e-4)


def test_conv_defaults_and_names() -> None:
    layer = Conv2d(16, 32, 3)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert layer.weight.value.std() == pytest.approx(np.sqrt(2 / (16 * 9)), rel=0.05)
    assert not layer.bias.value.any()
    bare = Conv2d(16, 32, 3, bias=None)
    assert [name for name, _ in bare.named_parameters()] == ["weight"]


def windows(
    feed: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> list[list[np.ndarray]]:
    """Cut out what of the image each window covers: (B, C, rows, columns) arrays."""
    h, w = feed.shape[2:]
    rows = [
        (max(top, 0), min(top + kernel[0], h))
        for top in range(-pad[0], h + pad[0] - kernel[0] + 1, stride[0])
    ]
    columns = [
        (max(left, 0), min(left + kernel[1], w))
        for left in range(-pad[1], w + pad[1] - kernel[1] + 1, stride[1])
    ]
    return [[feed[:, :, a:b, c:d] for c, d in columns] for a, b in rows]


POOLS = [
    ((3, 3), (2, 2), (0, 0)),
    ((2, 2), (2, 2), (0, 0)),
    ((3, 2), (1, 3), (1, 1)),
]


@pytest.mark.parametrize(("kernel", "stride", "pad"), POOLS)
def test_max_pool(rng: np.random.Generator, kernel: Any, stride: Any, pad: Any) -> None:
    feed = images(rng, 2, 3, 8, 9)
    cut = windows(feed, kernel, stride, pad)
    expected = np.stack([np.stack([w.max(axis=(2, 3)) for w in row], -1) for row in cut], -2)
    assert (run(MaxPool2d(kernel, stride, padding=pad), feed) == expected).all()


@pytest.mark.parametrize("count_pad", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "pad"), POOLS)
def test_avg_pool(
    rng: np.random.Generator, kernel: Any, stride: Any, pad: Any, count_pad: bool
) -> None:
    feed = images(rng, 2, 3, 8, 9)
    whole = kernel[0] * kernel[1]

    def average(window: np.ndarray) -> np.ndarray:
        count = whole if count_pad else window.shape[2] * window.shape[3]
        return window.astype(float).sum(axis=(2, 3)) / count

    cut = windows(feed, kernel, stride, pad)
    expected = np.stack([np.stack([average(w) for w in row], -1) for row in cut], -2)
    layer = AvgPool2d(kernel, stride, padding=pad, count_include_pad=count_pad)
    np.testing.assert_allclose(run(layer, feed), expected, rtol=1e-5, atol=1e-6)


def test_pools_stride_by_their_window_unless_told(rng: np.random.Generator) -> None:
    feed = images(rng, 1, 2, 6, 6)
    blocks = feed.reshape(1, 2, 3, 2, 3, 2)
    assert (run(MaxPool2d(2), feed) == blocks.max(axis=(3, 5))).all()
    np.testing.assert_allclose(run(AvgPool2d(2), feed), blocks.mean(axis=(3, 5)), rtol=1e-5)


def test_ceil_mode_keeps_the_rest(rng: np.random.Generator) -> None:
    feed = images(rng, 1, 1, 5, 5)
    found = run(MaxPool2d(2, 2, ceil_mode=True), feed)
    assert found.shape == (1, 1, 3, 3)
    assert found[0, 0, 2, 2] == feed[0, 0, 4, 4]
    assert found[0, 0, 0, 2] == feed[0, 0, 0:2, 4].max()
    assert run(MaxPool2d(2, 2), feed).shape == (1, 1, 2, 2)


def test_global_average(rng: np.random.Generator) -> None:
    feed = images(rng, 3, 4, 5, 6)
    expected = feed.astype(float).mean(axis=(2, 3))
    np.testing.assert_allclose(run(GlobalAvgPool2d(), feed), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("start", "shape"), [(1, (2, 60)), (2, (2, 3, 20))])
def test_flatten(rng: np.random.Generator, start: int, shape: tuple[int, ...]) -> None:
    feed = images(rng, 2, 3, 4, 5)
    assert (run(Flatten(start), feed) == feed.reshape(shape)).all()


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("tanh", np.tanh),
        ("sigmoid", special.expit),
        ("gelu", lambda x: x * special.ndtr(x)),
        ("silu", lambda x: x * special.expit(x)),
        ("softplus", lambda x: np.logaddexp(x, 0)),
    ],
)
def test_activation(rng: np.random.Generator, name: str, oracle: Any) -> None:
    feed = images(rng, 3, 50) * 3
    expected = oracle(feed.astype(float))
    np.testing.assert_allclose(run(Activation(name), feed), expected, rtol=1e-5, atol=1e-6)


def test_cross_entropy_is_minus_the_log_of_the_softmax(rng: np.random.Generator) -> None:
    feed, labels = images(rng, 6, 5) * 4, np.array([0, 4, 2, 1, 1, 3], np.int32)
    x, y = sg.tensor("x", (B, 5), "float32"), sg.tensor("y", (B,), "int32")
    found = sg.nn.cross_entropy(x, y).eval({x: feed, y: labels})
    expected = -special.log_softmax(feed.astype(float), axis=1)[np.arange(6), labels]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_errors() -> None:
    with pytest.raises(ArgumentError, match=r"Dense: inputs must be >= 1, got 0"):
        Dense(0, 3)
    with pytest.raises(ArgumentError, match=r"groups must divide both channel counts: inputs=4"):
        Conv2d(4, 6, 3, groups=4)
    with pytest.raises(ArgumentError, match=r"groups must be >= 1, got 0"):
        Conv2d(4, 6, 3, groups=0)
    with pytest.raises(UnknownNameError, match="no operation is called `rleu`") as caught:
        Activation("rleu")
    assert "relu" in caught.value.fix
    with pytest.raises(ShapeError, match=r"5 != 6"):
        Dense(6, 4)(sg.tensor("x", (B, 5)))
    with pytest.raises(SymgraphError, match="Conv2d: kernel must be an int >= 1"):
        Conv2d(3, 4, 0)
    with pytest.raises(SymgraphError, match="Conv2d: kernel must be an int >= 1"):
        Conv2d(3, 4, (3, 3, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Dense("a", 2), "Dense: inputs must be an int, got str a"),  # type: ignore[arg-type]
        (lambda: Dense(2.5, 2), "Dense: inputs must be an int, got float"),  # type: ignore[arg-type]
        (lambda: Conv2d(3, 2, "x"), "Conv2d: kernel must be an int"),  # type: ignore[arg-type]
        (lambda: Conv2d(3, 2, 3, stride="a"), "Conv2d: stride must be"),  # type: ignore[arg-type]
        (lambda: sg.nn.Embedding(4, "a"), "Embedding: features must be an int"),
        (lambda: sg.nn.LSTM("a", 3), "LSTM: inputs must be an int"),
        (lambda: sg.nn.LayerNorm("a"), "LayerNorm: features must be an int"),
        (lambda: sg.nn.RMSNorm(True), "RMSNorm: features must be an int"),
        (lambda: sg.nn.BatchNorm(None), "BatchNorm: channels must be an int"),
        (lambda: sg.nn.Dropout("a"), "Dropout: rate must be a number, got str"),
    ],
)
def test_a_size_of_another_type_is_named(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=text):
        make()
