"""Running sums over long axes, which are cut into blocks, and a search in long vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable

BACKENDS = [
    "reference",
    pytest.param(
        "cpu", marks=pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "a compiler")
    ),
]
rng = np.random.default_rng(3)


def function(symbolic: bool, size: int, build: Any, backend: str) -> Any:
    x = sg.tensor("x", (2, sg.dim("n", min=0) if symbolic else size), "float64")
    return sg.function([x], build(x), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("symbolic", [False, True])
def test_long_axes(symbolic: bool, backend: str) -> None:
    def build(x: Any) -> list[Any]:
        return [
            sg.cumulative_sum(x, axis=1),
            sg.cumulative_sum(x, axis=1, reverse=True),
            sg.cummax(x, axis=1),
            sg.cummin(x, axis=1, reverse=True),
            sg.cumulative_prod(1 + x / 1000, axis=1),
        ]

    f = function(symbolic, 5000, build, backend)
    for size in (0, 1, 32, 33, 1025, 5000) if symbolic else (5000,):
        x = rng.normal(size=(2, size))
        sums, back, high, low, products = f(x)
        np.testing.assert_allclose(sums, np.cumsum(x, 1), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(back, np.cumsum(x[:, ::-1], 1)[:, ::-1], rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(high, np.maximum.accumulate(x, 1))
        np.testing.assert_array_equal(low, np.minimum.accumulate(x[:, ::-1], 1)[:, ::-1])
        np.testing.assert_allclose(products, np.cumprod(1 + x / 1000, 1), rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinities_and_nan_stay_behind_where_they_are(backend: str) -> None:
    f = function(True, 0, lambda x: [sg.cumulative_sum(x, axis=1), sg.cummax(x, axis=1)], backend)
    x = rng.normal(size=(2, 300))
    x[0, 100], x[0, 200], x[1, 70] = np.inf, -np.inf, np.nan
    sums, high = f(x)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(sums, np.cumsum(x, 1))
    np.testing.assert_array_equal(high, np.maximum.accumulate(x, 1))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_searches_in_vectors_of_any_size(backend: str, side: str) -> None:
    x, v = (sg.tensor(name, (sg.dim(f"size_{name}", min=0),)) for name in "xv")
    f = sg.function([x, v], sg.searchsorted(x, v, side=side), backend=backend)
    for size in (0, 1, 63, 64, 65, 4159, 4160, 4161, 70_000):
        array = np.sort(rng.integers(0, size + 2, size)).astype(np.float32)
        wanted = rng.integers(-1, size + 3, 50).astype(np.float32)
        wanted[:3] = np.nan, np.inf, -np.inf
        np.testing.assert_array_equal(f(array, wanted), np.searchsorted(array, wanted, side))
