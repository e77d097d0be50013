"""Pooling beyond its samples: ties and NaN, the sizes of AlexNet, blocks, formulas, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.dims import dims
from symgraph.errors import ArgumentError, ArgumentTypeError, GuardError
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import constant, tensor
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.ops import pool_ref

Array = Any
NAN, INF = float("nan"), float("inf")


def value(found: Value) -> Array:
    return interpret([found], {})[0]


def max_gradient(rows: Any, kernel: Any, cotangent: Any, **options: Any) -> Array:
    """Pull a cotangent, given per window, back to one image."""
    x = constant(np.array(rows, np.float64)[None, None])
    y = F.max_pool2d(x, kernel, **options)
    g = constant(np.array(cotangent, np.float64).reshape(y.shape))
    return value(F.vjp(y, x, g))[0, 0].tolist()


def test_the_first_of_equals_takes_the_gradient() -> None:
    zeros = [[0.0, 0.0], [0.0, 0.0]]
    assert max_gradient(zeros, 2, 3.0) == [[3.0, 0.0], [0.0, 0.0]]
    assert max_gradient([[1.0, 2.0], [2.0, 0.0]], 2, 3.0) == [[0.0, 3.0], [0.0, 0.0]]
    assert max_gradient([[0.0, 1.0], [2.0, 2.0]], 2, 3.0) == [[0.0, 0.0], [3.0, 0.0]]
    # rows come before columns: (0, 1) is before (1, 0)
    assert max_gradient([[0.0, -0.0]], (1, 2), 1.0) == [[1.0, 0.0]]


def test_gradients_of_overlapping_windows_add_up() -> None:
    peak = [[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]
    found = max_gradient(peak, 2, [[1.0, 2.0], [3.0, 4.0]], stride=1)
    assert found == [[0.0, 0.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 0.0]]


def test_nan_wins_and_takes_the_gradient() -> None:
    x = [[1.0, NAN, INF]]
    y = F.max_pool2d(constant(np.array([[x]])), (1, 2), 1)
    assert np.isnan(value(y)).all()
    assert max_gradient(x, (1, 2), [1.0, 2.0], stride=1) == [[0.0, 3.0, 0.0]]
    assert max_gradient([[NAN, NAN]], (1, 2), [1.0]) == [[1.0, 0.0]]


def test_infinite_cotangents_stay_where_they_belong() -> None:
    assert max_gradient([[1.0, 2.0, 3.0, 0.0]], (1, 2), [INF, -1.0]) == [[0.0, INF, -1.0, 0.0]]


def test_padding_never_wins() -> None:
    x = constant(np.full((1, 1, 2, 2), -5.0))
    np.testing.assert_array_equal(
        value(F.max_pool2d(x, 3, 1, padding=1)), np.full((1, 1, 2, 2), -5)
    )
    integers = constant(np.full((1, 1, 2), -7, np.int8))
    assert value(F.max_pool1d(integers, 2, padding=1)).tolist() == [[[-7, -7]]]


@pytest.mark.parametrize(("channels", "size"), [(3, 55), (5, 27), (4, 13)])
def test_the_pools_of_alexnet(channels: int, size: int, rng: np.random.Generator) -> None:
    array = np.maximum(rng.normal(size=(3, channels, size, size)), 0).astype(np.float32)
    x = tensor("x", array.shape)
    y = F.max_pool2d(x, 3, 2)
    cotangent = rng.normal(size=y.shape).astype(np.float32)
    g = tensor("g", y.shape)
    found, gradient = interpret([y, F.vjp(y, x, g)], {x: array, g: cotangent})
    everywhere = scipy.ndimage.maximum_filter(array, size=(1, 1, 3, 3))
    np.testing.assert_array_equal(found, everywhere[:, :, 1:-1:2, 1:-1:2])
    wanted = np.zeros(array.shape)
    for place in np.ndindex(y.shape):
        n, c, i, j = place
        window = array[n, c, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        a, b = np.unravel_index(np.argmax(window), (3, 3))
        wanted[n, c, 2 * i + a, 2 * j + b] += cotangent[place]
    np.testing.assert_allclose(gradient, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("block", [1, 5_000, 1 << 30])
def test_blocks_do_not_change_results(
    block: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = rng.normal(size=(7, 3, 9, 8))
    x = tensor("x", array.shape, "float64")
    largest, average = F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1)
    outputs = [largest, average, F.grad(F.sum(F.sin(largest) + F.sin(average)), x)]
    whole = interpret(outputs, {x: array})
    monkeypatch.setattr(pool_ref, "BLOCK", block)
    for one, other in zip(interpret(outputs, {x: array}), whole):
        np.testing.assert_array_equal(one, other)


def test_second_order_through_the_chosen_places(rng: np.random.Generator) -> None:
    """Of sum(max ** 3): 6 max at the chosen places, for windows that do not overlap."""
    array = rng.normal(size=(2, 2, 4, 6))
    x = tensor("x", array.shape, "float64")
    y = F.max_pool2d(x, 2)
    first = F.grad(F.sum(y * y * y), x)
    found = interpret([F.grad(F.sum(first), x)], {x: array})[0]
    windows = array.reshape(2, 2, 2, 2, 3, 2)
    chosen = windows == windows.max(axis=(3, 5), keepdims=True)
    np.testing.assert_allclose(found, (6 * windows * chosen).reshape(array.shape), rtol=1e-12)


def test_inputs_are_never_written(rng: np.random.Generator) -> None:
    array = rng.normal(size=(2, 3, 4, 4))
    array.flags.writeable = False
    x = tensor("x", array.shape, "float64")
    for y in (F.max_pool2d(x, 1), F.avg_pool2d(x, 1), F.max_pool2d(x, 2), F.avg_pool2d(x, 2)):
        found = interpret([y, F.grad(F.sum(y), x)], {x: array})
        assert found[1].shape == array.shape


def test_a_window_of_one_changes_nothing(rng: np.random.Generator) -> None:
    array = rng.normal(size=(2, 3, 4, 5))
    x = tensor("x", array.shape, "float64")
    found = interpret([F.max_pool2d(x, 1), F.avg_pool2d(x, 1)], {x: array})
    np.testing.assert_array_equal(found[0], array)
    np.testing.assert_array_equal(found[1], array)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precisions_sum_in_float32(dtype: str) -> None:
    (y,) = interpret([F.avg_pool1d(F.full((1, 1, 4096), 1.0, dtype), 4096)], {})
    assert float(y[0, 0, 0]) == 1.0


def test_averages_count_what_they_see() -> None:
    ones = constant(np.ones((1, 1, 5)))
    assert value(F.avg_pool1d(ones, 3, 2, 1)).tolist() == [[[1.0, 1.0, 1.0]]]
    included = value(F.avg_pool1d(ones, 3, 2, 1, count_include_pad=True))
    np.testing.assert_allclose(included, [[[2 / 3, 1.0, 2 / 3]]])
    hanging = F.avg_pool1d(ones, 2, 2, ceil_mode=True, count_include_pad=True)
    assert value(hanging).tolist() == [[[1.0, 1.0, 1.0]]]


def test_global_pools() -> None:
    x = constant(np.arange(12.0).reshape(1, 2, 2, 3))
    assert value(F.global_avg_pool2d(x)).tolist() == [[2.5, 8.5]]
    assert value(F.global_max_pool2d(x, keepdims=True)).tolist() == [[[[5.0]], [[11.0]]]]


def test_shapes_are_formulas() -> None:
    B, H = dims("B H")
    x = tensor("x", (B, 3, H, 55))
    y = F.max_pool2d(x, 3, 2)
    assert [str(size) for size in y.shape] == ["B", "3", "(H - 1)//2", "27"]
    assert F.max_pool2d(x, 3, 2, padding="same").shape[2] == (H + 1) // 2
    (guard,) = y.guards
    guard.check({B: 1, H: 3})
    with pytest.raises(GuardError, match="window of 3 must fit"):
        guard.check({B: 1, H: 2})


def test_the_index_is_small() -> None:
    """One byte for each window holds every place of windows with up to 255 elements."""
    x = tensor("x", (1, 1, 32, 32))
    for kernel, dtype in ((15, "uint8"), (16, "int32")):
        gradient = F.grad(F.sum(F.max_pool2d(x, kernel)), x)
        assert gradient.inputs[1].dtype == dtype


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x: F.max_pool2d(x, 2.0), ArgumentTypeError, "kernel must be an int"),
        (lambda x: F.max_pool2d(x, 2, padding=(0, (1, 2))), ArgumentError, "smaller than the win"),
        (lambda x: F.avg_pool2d(x, (2, 2, 2)), ArgumentError, "kernel must be an int >= 1, or 2"),
        (lambda x: F.avg_pool2d(x, 2, 0), ArgumentError, "stride must be an int >= 1"),
        (lambda x: F.avg_pool2d(x, 2, padding="full"), ArgumentError, '"same", "valid"'),
    ],
)
def test_errors_of_arguments(call: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"pool2d: .*{match}"):
        call(tensor("x", (1, 1, 4, 4)))


# -- sizes that nobody knows -----------------------------------------------------------------------


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")
@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.adaptive_max_pool2d(x, (3, 2)),
        lambda x: F.interpolate(x, size=(9, 3), mode="nearest"),
    ],
    ids=["adaptive", "resized"],
)
def test_windows_over_sizes_that_nobody_knows(call: Any, rng: np.random.Generator) -> None:
    """Without a name they are >= 0, and how many windows see a place is not divided by 0."""
    x = sg.tensor4("x")
    y = call(x)
    outputs = [y, sg.grad((y * y).sum(), x)]
    feed = rng.normal(size=(2, 3, 7, 5)).astype(np.float32)
    f = sg.function([x], outputs, backend="cpu")
    wanted = sg.function([x], outputs, backend="reference")(feed)
    for found, expected in zip(f(feed), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(GuardError, match="must not be empty"):
        f(feed[:, :, :0])
