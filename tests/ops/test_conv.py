"""Convolution beyond its samples: large images, blocks, memory, symbolic sizes, errors."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.signal

from symgraph.dims import dim, dims
from symgraph.errors import ArgumentError, ArgumentTypeError, GuardError, ShapeError
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.walk import topological
from symgraph.ops import conv_ref

Array = Any
ALEXNET = [
    # channels, size, filters, kernel, stride, padding, groups
    (3, 35, 8, 11, 4, 0, 1),
    (6, 27, 4, 5, 1, 2, 2),
    (8, 13, 6, 3, 1, 1, 1),
    (8, 13, 6, 3, 1, 1, 2),
]


def correlate(x: Array, w: Array, stride: int, padding: int, groups: int) -> Array:
    """Convolve with SciPy, one plane with one filter plane at a time."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    each, inner = w.shape[0] // groups, w.shape[1]

    def one(n: int, o: int) -> Array:
        first = o // each * inner
        planes = [scipy.signal.correlate2d(x[n, first + c], w[o, c], "valid") for c in range(inner)]
        return np.sum(planes, axis=0)[::stride, ::stride]

    return np.array([[one(n, o) for o in range(w.shape[0])] for n in range(x.shape[0])])


def operands(case: Any, rng: np.random.Generator, batch: int = 3) -> tuple[Array, Array]:
    channels, size, filters, kernel, _, _, groups = case
    x = rng.normal(size=(batch, channels, size, size))
    return x, rng.normal(size=(filters, channels // groups, kernel, kernel))


def geometry(case: Any) -> conv_ref.Geometry:
    _, _, _, kernel, stride, padding, groups = case
    pads = ((padding, padding),) * 2
    return conv_ref.Geometry((kernel,) * 2, (stride,) * 2, pads, (1, 1), groups)


@pytest.mark.parametrize("case", ALEXNET, ids=str)
def test_the_layers_of_alexnet_against_scipy(case: Any, rng: np.random.Generator) -> None:
    x, w = operands(case, rng)
    stride, padding, groups = case[4:]
    wanted = correlate(x, w, stride, padding, groups)
    a, b = tensor("a", x.shape, "float64"), tensor("b", w.shape, "float64")
    (y,) = interpret([F.conv2d(a, b, stride, padding, groups=groups)], {a: x, b: w})
    np.testing.assert_allclose(y, wanted, atol=1e-11)


@pytest.mark.parametrize("block", [1, 3_000, 40_000, 1 << 30])
@pytest.mark.parametrize("case", ALEXNET, ids=str)
def test_blocks_do_not_change_results(
    case: Any, block: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Single rows, some rows, some images and everything at once are the same sums."""
    x, w = operands(case, rng)
    where = geometry(case)
    y = conv_ref.conv(np, x, w, where)
    g = rng.normal(size=y.shape)
    whole = (
        y,
        conv_ref.conv_weight(np, x, g, where),
        conv_ref.add_back(np, g, w, x.shape[2:], where),
    )
    monkeypatch.setattr(conv_ref, "BLOCK", block)
    parts = (
        conv_ref.conv(np, x, w, where),
        conv_ref.conv_weight(np, x, g, where),
        conv_ref.add_back(np, g, w, x.shape[2:], where),
    )
    for one, other in zip(parts, whole):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_blocks_cover_every_position_once() -> None:
    sizes = [(1, (1,)), (5, (7, 3)), (0, (4, 4)), (3, (1, 9)), (17, (2, 2, 2))]
    for (batch, out), column in itertools.product(sizes, [1, 9, 100_000, 10**8]):
        seen = np.zeros((batch, out[0]), int)
        for images, rows in conv_ref.blocks(batch, out, column, np.dtype("float32")):
            for row in rows:
                seen[images, row] += 1
        assert (seen == 1).all()


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 0), (2, 1)), ((2, 2), (1, 1))])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
def test_both_ways_to_the_gradient_by_the_input_agree(
    padding: Any, dilation: Any, rng: np.random.Generator
) -> None:
    """Convolving with turned filters gives what adding columns back gives."""
    where = conv_ref.Geometry((3, 2), (1, 1), padding, dilation, 2)
    w = rng.normal(size=(6, 2, 3, 2))
    g = rng.normal(size=(2, 6, *where.positions((7, 6))))
    one = conv_ref.conv_input(np, g, w, (7, 6), where)
    other = conv_ref.add_back(np, g, w, (7, 6), where)
    assert one.shape == (2, 4, 7, 6)
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_memory_is_bounded(rng: np.random.Generator) -> None:
    """Columns of the whole batch would take 64 times what the block takes."""
    x = rng.normal(size=(64, 64, 16, 16)).astype(np.float32)
    w = rng.normal(size=(64, 64, 5, 5)).astype(np.float32)
    where = conv_ref.Geometry((5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), 1)
    calls = (
        lambda: conv_ref.conv(np, x, w, where),
        lambda: conv_ref.conv_weight(np, x, x, where),
        lambda: conv_ref.conv_input(np, x, w, (16, 16), where),
    )
    for call in calls:
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < x.nbytes + 2 * conv_ref.BLOCK


def test_one_large_image_is_cut_into_rows(rng: np.random.Generator) -> None:
    x = rng.normal(size=(1, 16, 130, 120)).astype(np.float32)
    w = rng.normal(size=(2, 16, 5, 5)).astype(np.float32)
    where = conv_ref.Geometry((5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), 1)
    ((_, rows),) = conv_ref.blocks(1, (130, 120), 16 * 25, x.dtype)
    assert len(rows) > 1
    tracemalloc.start()
    y = conv_ref.conv(np, x, w, where)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * conv_ref.BLOCK
    np.testing.assert_allclose(y, correlate(x, w, 1, 2, 1), atol=2e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precisions_sum_in_float32(dtype: str) -> None:
    """4096 ones: float16 alone would stop counting at 2048."""
    x = F.full((1, 4096, 1, 1), 1.0, dtype)
    (y,) = interpret([F.conv2d(x, F.full((1, 4096, 1, 1), 1.0, dtype))], {})
    assert str(y.dtype) == dtype
    assert float(y[0, 0, 0, 0]) == 4096.0


def test_infinities_and_overflow_come_out_without_a_warning() -> None:
    inf = float("inf")
    x = np.array([[[1e38, 1e38, inf, 0.0]]], np.float32)
    a, b = tensor("a", x.shape), tensor("b", (1, 1, 2))
    y = F.conv1d(a, b)
    outputs = [y, *F.vjp(y, [a, b], y)]
    found = interpret(outputs, {a: x, b: np.array([[[10.0, 0.0]]], np.float32)})
    np.testing.assert_array_equal(found[0], np.array([[[inf, np.nan, inf]]]))


def test_operands_in_any_memory_order_and_never_written(rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 7, 4, 2)).transpose(3, 2, 0, 1)[:, ::-1]
    w = np.asfortranarray(rng.normal(size=(3, 4, 3, 2)))[:, :, ::-1]
    kept = x.copy(), w.copy()
    a, b = tensor("a", x.shape, "float64"), tensor("b", w.shape, "float64")
    y = F.conv2d(a, b, padding=1)
    outputs = [y, *F.vjp(y, [a, b], y)]
    found = interpret(outputs, {a: x, b: w})
    for one, other in zip(found, interpret(outputs, {a: kept[0], b: kept[1]})):
        np.testing.assert_allclose(one, other, atol=1e-12)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(w, kept[1])


# -- the graph -------------------------------------------------------------------------------------


def test_shapes_are_formulas() -> None:
    B, H, W = dims("B H W")
    x = tensor("x", (B, 3, H, W))
    w = tensor("w", (96, 3, 11, 11))
    y = F.conv2d(x, w, stride=4)
    assert [str(size) for size in y.shape] == ["B", "96", "(H - 7)//4", "(W - 7)//4"]
    same = F.conv2d(x, w, stride=2, padding="same")
    assert same.shape[2] == (H + 1) // 2
    assert F.conv2d(x, w, padding="same").shape[2] is H
    assert not F.conv2d(x, w, padding="same").guards


def test_a_symbolic_kernel(rng: np.random.Generator) -> None:
    """The size of the filter need not be known either."""
    B, H, K = dims("B H K")
    x, w = tensor("x", (B, 2, H), "float64"), tensor("w", (3, 2, K), "float64")
    y = F.conv1d(x, w, padding="same")
    dw = F.grad(F.sum(F.square(y)), w)
    feeds = {x: rng.normal(size=(2, 2, 9)), w: rng.normal(size=(3, 2, 4))}
    found, gradient = interpret([y, dw], feeds, {B: 2, H: 9, K: 4})
    padded = np.pad(feeds[x], ((0, 0), (0, 0), (1, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 4, axis=2)
    wanted = np.einsum("nclk,ock->nol", windows, feeds[w])
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    np.testing.assert_allclose(
        gradient, 2 * np.einsum("nclk,nol->ock", windows, wanted), atol=1e-11
    )


def test_what_cannot_be_decided_is_checked_at_run_time() -> None:
    H, C = dim("H"), dim("C")
    y = F.conv1d(tensor("x", (1, C, H)), tensor("w", (2, 3, 5)))
    texts = [str(guard) for guard in y.guards]
    assert len(texts) == 2
    assert any("C == 3" in text for text in texts)
    for guard in y.guards:
        guard.check({H: 5, C: 3})
    (fits,) = (guard for guard in y.guards if H in guard.free())
    with pytest.raises(GuardError, match="window of 5 must fit"):
        fits.check({H: 4, C: 3})


def test_gradients_are_convolutions_of_every_order() -> None:
    x = tensor("x", (2, 2, 6, 5), "float64")
    w = tensor("w", (3, 2, 3, 2), "float64")
    loss: Value = F.sum(F.tanh(F.conv2d(x, w, stride=2, padding=1)))
    for _ in range(3):
        dx, dw = F.grad(loss, [x, w])
        loss = F.sum(dx * dx) + F.sum(dw * dw)
    names = {node.op.name for node in topological([loss])}
    assert {"conv", "conv_input", "conv_weight"} <= names
    rng = np.random.default_rng(0)
    feeds = {x: rng.normal(size=(2, 2, 6, 5)), w: 0.3 * rng.normal(size=(3, 2, 3, 2))}
    for leaf, gradient in zip((x, w), F.grad(loss, [x, w])):
        (derivative,) = interpret([gradient], feeds)
        direction = rng.normal(size=leaf.shape)
        step = 1e-6 * direction
        above, below = (
            float(interpret([loss], {**feeds, leaf: feeds[leaf] + sign * step})[0])
            for sign in (1, -1)
        )
        expected = (above - below) / 2e-6
        assert float(np.sum(derivative * direction)) == pytest.approx(expected, rel=1e-5)


# -- arguments and errors --------------------------------------------------------------------------


def test_arguments_take_many_forms() -> None:
    x, w = tensor("x", (2, 4, 9, 9)), tensor("w", (4, 2, 3, 3))
    y = F.conv2d(x, w, 2, 1, 1, 2)
    numbers = np.int64(2), (np.int32(1), 1), [1, 1], np.int64(2)
    assert F.conv2d(x, w, *numbers) is y
    assert F.conv2d(x, w, (2, 2), ((1, 1), [1, 1]), groups=2) is y
    assert F.conv2d(x, w, padding="valid", groups=2) is F.conv2d(x, w, groups=2)


def test_numbers_become_floats() -> None:
    x = tensor("x", (1, 1, 4, 4), "uint8")
    assert F.conv2d(x, np.ones((1, 1, 2, 2), np.int64)).dtype == "float32"
    assert F.conv2d(x, tensor("w", (1, 1, 2, 2), "float64")).dtype == "float64"


def test_the_error_of_channels_that_do_not_fit() -> None:
    B = dim("B")
    image, filters = tensor("image", (B, 3, 8, 8)), tensor("filters", (4, 2, 3, 3))
    with pytest.raises(ShapeError) as info:
        F.conv2d(image, filters)
    lines = str(info.value).splitlines()
    assert lines[0] == (
        "conv: channels (axis 1) of `image` must equal axis 1 of `filters`: 3 != 2."
    )
    assert lines[1].startswith("  image   : float32[B, 3, 8, 8]")
    assert "test_conv.py" in lines[1]
    assert lines[3].startswith("  fix: filters are (filters, channels / groups, *kernel)")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"stride": 1.5}, ArgumentTypeError, "stride must be an int"),
        ({"stride": True}, ArgumentTypeError, "stride must be an int"),
        ({"dilation": (1, 0)}, ArgumentError, "dilation must be an int >= 1"),
        ({"padding": (1, 2, 3)}, ArgumentError, "one entry for each of 2 axes"),
        ({"padding": ((1, 2, 3), 0)}, ArgumentTypeError, "a number or a pair"),
        ({"padding": (0, (0, -1))}, ArgumentError, "padding must be >= 0, got -1"),
        ({"padding": 0.5}, ArgumentTypeError, "a padding must be an int"),
        ({"groups": "2"}, ArgumentTypeError, "groups must be an int"),
    ],
)
def test_errors_of_arguments(options: Any, error: type[Exception], match: str) -> None:
    x, w = tensor("x", (1, 1, 4, 4)), tensor("w", (1, 1, 2, 2))
    with pytest.raises(error, match=f"conv2d: .*{match}"):
        F.conv2d(x, w, **options)


def test_errors_of_transposed_convolution() -> None:
    x, w = tensor("x", (1, 2, 4, 4)), tensor("w", (2, 1, 2, 2))
    with pytest.raises(ArgumentError, match="padding must be numbers, got 'same'"):
        F.conv_transpose2d(x, w, padding="same")
    with pytest.raises(ShapeError, match="one place for each window"):
        F.conv_transpose2d(x, w, output_padding=1)
    with pytest.raises(ShapeError, match="`x` must have 3 axes, it has 4"):
        F.conv_transpose1d(x, w)
