"""The kernels by hand of `siren` and its gradient: sizes of all kinds, and where there is none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.ops.siren_parts import MAX_WIDTH, sizes_of

native = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")


def drawn(layers: int, width: int, images: int, pixels: int) -> tuple[Any, Any]:
    """Numbers and places as of networks that a fitting begins with."""
    rng = np.random.default_rng(layers)
    rows = []
    for layer, (outputs, inputs) in enumerate(sizes_of(layers, width)):
        limit = np.sqrt(6 / inputs) / 30 if layer else 1 / inputs
        rows.append(rng.uniform(-limit, limit, (images, outputs * (inputs + 1))))
    numbers = np.concatenate(rows, axis=1).astype(np.float32)
    return numbers, rng.uniform(-1, 1, (2, pixels)).astype(np.float32)


def expected(layers: int, width: int, numbers: Any, places: Any) -> np.ndarray[Any, Any]:
    """The definition in float64."""
    value, begin = places.astype(np.float64), 0
    for layer, (outputs, inputs) in enumerate(sizes_of(layers, width)):
        middle, end = begin + outputs * inputs, begin + outputs * (inputs + 1)
        weight = numbers[:, begin:middle].reshape(-1, outputs, inputs).astype(np.float64)
        value = weight @ value + numbers[:, middle:end, None]
        value, begin = np.sin(30 * value) if layer < layers else value, end
    return value


def compiled(layers: int, width: int, count: int, pixels: int, backend: str) -> Any:
    numbers, places = (
        sg.tensor("n", (sg.dim("networks", min=0), count)),
        sg.tensor("x", (2, pixels)),
    )
    return sg.function(
        [numbers, places], sg.F.siren(numbers, places, layers, width), backend=backend
    )


def ways(f: Any, *arrays: Any) -> set[str]:
    return {row.implementation for row in f.profile(*arrays).rows}


@native
@pytest.mark.parametrize(
    ("layers", "width", "images", "pixels"),
    [
        (1, 1, 2, 16),
        (5, 13, 3, 100),
        (3, 6, 1, 31),
        (3, 7, 1, 31),
        (2, MAX_WIDTH, 2, 47),
        (10, 28, 2, 64),
    ],
)
def test_on_the_cpu(layers: int, width: int, images: int, pixels: int) -> None:
    numbers, places = drawn(layers, width, images, pixels)
    f = compiled(layers, width, numbers.shape[1], pixels, "cpu")
    wanted = expected(layers, width, numbers, places)
    for threads in (1, 2):
        with sg.config(threads=threads):
            np.testing.assert_allclose(f(numbers, places), wanted, atol=5e-6)
    assert "LLVM by hand" in ways(f, numbers, places)
    assert f(numbers[:0], places).shape == (0, 3, pixels)


@native
@pytest.mark.parametrize(("width", "pixels"), [(4, 15), (MAX_WIDTH + 1, 40)])
def test_without_a_kernel_it_is_products_and_sines(width: int, pixels: int) -> None:
    numbers, places = drawn(2, width, 2, pixels)
    f = compiled(2, width, numbers.shape[1], pixels, "cpu")
    found = f(numbers, places)
    np.testing.assert_allclose(found, expected(2, width, numbers, places), atol=5e-6)
    assert "LLVM by hand" not in ways(f, numbers, places)


@native
@pytest.mark.parametrize("bias", [1e7, -3e9, 1e12, 1e37])
def test_sums_beyond_whole_numbers_are_whole_half_turns(bias: float) -> None:
    numbers, places = np.zeros((1, 6), np.float32), np.zeros((2, 16), np.float32)
    numbers[0, 2], numbers[0, 3:] = bias, (1.0, 0.0, 0.0)  # w0 (1, 2), b0; w1 would be (3, 1)
    numbers = np.concatenate([numbers, np.zeros((1, 3), np.float32)], axis=1)
    f = compiled(1, 1, numbers.shape[1], 16, "cpu")
    assert not f(numbers, places).any()  # a float32 of that size is a whole number, and even


@native
def test_what_is_no_number_stays_none() -> None:
    numbers, places = drawn(2, 4, 4, 16)
    numbers[0, 0], numbers[1, 1], numbers[2, 2] = np.nan, np.inf, 1e30
    found = compiled(2, 4, numbers.shape[1], 16, "cpu")(numbers, places)
    assert np.isnan(found[:2]).all()
    np.testing.assert_allclose(found[3], expected(2, 4, numbers[3:], places)[0], atol=5e-6)


def test_on_a_device(there: Any) -> None:
    numbers, places = drawn(5, 13, 3, 100)
    f = compiled(5, 13, numbers.shape[1], 100, "cuda")
    wanted = expected(5, 13, numbers, places)
    np.testing.assert_allclose(f(numbers, places), wanted, atol=5e-6)
    assert "CUDA C by hand" in ways(f, numbers, places)


# -- gradients -------------------------------------------------------------------------------------


def gradient(layers: int, width: int, shape: Any, pixels: int, parts: int, backend: str) -> Any:
    numbers, places = (
        sg.tensor("n", (sg.dim("networks", min=0), shape)),
        sg.tensor("x", (2, pixels)),
    )
    g = sg.tensor("g", (numbers.shape[0], 3, pixels))
    made = sg.F.siren_gradient(numbers, places, g, layers, width, parts=parts)
    return sg.function([numbers, places, g], made, backend=backend)


def slopes(layers: int, width: int, numbers: Any, places: Any, g: Any, directions: Any) -> Any:
    """How sum(g * siren) of each image changes along directions (D, n), by differences."""
    step, found = 1e-7, []
    for direction in directions:
        ahead, back = (
            (g * expected(layers, width, numbers + sign * step * direction, places)).sum((1, 2))
            for sign in (1, -1)
        )
        found.append((ahead - back) / (2 * step))
    return np.array(found).T


@native
@pytest.mark.parametrize(
    ("layers", "width", "images", "pixels", "parts"),
    [
        (1, 1, 2, 1, 1),
        (5, 13, 3, 100, 1),
        (3, 6, 1, 64, 2),
        (3, 7, 1, 331, 3),
        (2, MAX_WIDTH, 2, 47, 1),
        (2, 17, 1, 130, 5),
        (10, 28, 2, 300, 2),
        (4, 40, 1, 65, 1),
    ],
)
def test_gradients_on_the_cpu(
    layers: int, width: int, images: int, pixels: int, parts: int
) -> None:
    numbers, places = drawn(layers, width, images, pixels)
    rng = np.random.default_rng(pixels)
    g = rng.standard_normal((images, 3, pixels)).astype(np.float32)
    f = gradient(layers, width, numbers.shape[1], pixels, parts, "cpu")
    tiles = math.ceil(math.ceil(pixels / parts) / 64)
    directions = rng.standard_normal((20, numbers.shape[1]))
    directions[:3] = np.eye(numbers.shape[1])[[0, 1, -1]]
    for threads in (1, 2):
        with sg.config(threads=threads):
            found = f(numbers, places, g)
        assert found.shape == (images, parts, numbers.shape[1])
        for part in range(parts):
            own = slice(64 * tiles * part, 64 * tiles * (part + 1))
            sliced = numbers, places[:, own], g[:, :, own]
            wanted = slopes(layers, width, *sliced, directions)
            largest = np.abs(wanted).max() + 1e-6
            np.testing.assert_allclose(
                (found[:, part].astype(np.float64) @ directions.T) / largest, wanted / largest,
                atol=2e-5,
            )  # fmt: skip
    assert "LLVM by hand" in ways(f, numbers, places, g)
    assert f(numbers[:0], places, g[:0]).shape == (0, parts, numbers.shape[1])


def test_a_frequency_may_be_a_number_of_numpy() -> None:
    numbers, places = drawn(1, 3, 2, 20)
    found = sg.F.siren(sg.constant(numbers), sg.constant(places), 1, 3, np.float32(30))
    assert found is sg.F.siren(sg.constant(numbers), sg.constant(places), 1, 3, 30)


@native
def test_a_part_without_pixels_is_zero_whatever_the_numbers_are() -> None:
    numbers, places = drawn(2, 5, 2, 70)
    numbers[0, 3] = np.nan
    g = np.ones((2, 3, 70), np.float32)
    found = gradient(2, 5, numbers.shape[1], 70, 4, "cpu")(numbers, places, g)
    assert np.isnan(found[0, :2]).any(axis=1).all()
    assert not found[:, 2:].any()
    assert np.isfinite(found[1]).all()


@native
@pytest.mark.parametrize("width", [MAX_WIDTH + 1, 5])
def test_the_gradient_of_the_operation_is_that_of_products_and_sines(width: int) -> None:
    numbers, places = drawn(2, width, 2, 1500)
    n, x = sg.tensor("n", numbers.shape), sg.tensor("x", places.shape)
    loss = sg.sum(sg.sin(3 * sg.F.siren(n, x, 2, width)))
    found = sg.function([n, x], sg.grad(loss, [n, x]), backend="cpu")(numbers, places)
    wanted = sg.function([n, x], sg.grad(loss, [n, x]), backend="reference")(numbers, places)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * np.abs(other).max())
    alone = sg.function([n, x], sg.grad(loss, n), backend="cpu")
    assert ("LLVM by hand" in ways(alone, numbers, places)) == (width <= MAX_WIDTH)


def test_gradients_on_a_device(there: Any) -> None:
    numbers, places = drawn(5, 13, 3, 100)
    g = np.random.default_rng(1).standard_normal((3, 3, 100)).astype(np.float32)
    f, r = (gradient(5, 13, numbers.shape[1], 100, 2, way) for way in ("cuda", "reference"))
    wanted = r(numbers, places, g)
    np.testing.assert_allclose(f(numbers, places, g), wanted, atol=2e-5 * np.abs(wanted).max())
