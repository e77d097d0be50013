"""Products whose rows lie at powers of two: copied with rows farther apart, where that pays."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.arrays import Array
from symgraph.backends.cpu.onednn.operations import prepare
from symgraph.ops.linalg import Matmul
from tests.backends.onednn_memory import need_onednn
from tests.tolerances import assert_close

need_onednn()

LIBRARY = "gemm"  # what reads weights where they lie; processors with AVX-512 have others


def plain(rows: int, columns: int) -> Array:
    return Array((rows, columns), "float32", (columns, 1))


def turned(rows: int, columns: int) -> Array:
    return Array((rows, columns), "float32", (1, rows))


def primitives(x: Array, y: Array, fixed: bool = False) -> list[str]:
    """Give what a product runs as."""
    found = prepare(Matmul(), (x, y), plain(x.dims[0], y.dims[1]), (False, fixed), 0)
    if not any(use.primitive.implementation.startswith(LIBRARY) for use in found.uses):
        pytest.skip("on this processor the library copies weights by itself")
    return [use.primitive.name for use in found.uses]


@pytest.mark.parametrize(
    ("rows", "columns", "fixed", "copies"),
    [
        (64, 256, False, True),
        (63, 256, False, False),
        (2, 256, True, True),
        (384, 1024, False, True),
        (385, 1024, True, False),
        (64, 257, False, False),
    ],
)
def test_weights_of_small_batches_are_copied(
    rows: int, columns: int, fixed: bool, copies: bool
) -> None:
    names = primitives(plain(rows, 32), plain(32, columns), fixed)
    assert names == ["reorder"] * copies + ["matmul"]


@pytest.mark.parametrize(
    ("summed", "rows", "copies"), [(1024, 256, 3), (1023, 256, 0), (1024, 255, 0)]
)
def test_long_sums_of_both_copy_all(summed: int, rows: int, copies: int) -> None:
    names = primitives(turned(rows, summed), plain(summed, 256))
    assert names.count("reorder") == copies


@pytest.mark.parametrize("rows", [1, 63, 64, 100, 384])
@pytest.mark.parametrize("columns", [256, 512])
def test_products_of_copies_are_right(rows: int, columns: int, rng: np.random.Generator) -> None:
    x, w = sg.tensor("x", (rows, 48)), sg.tensor("w", (48, columns))
    a, b = (rng.standard_normal(one.shape).astype("float32") for one in (x, w))
    held = sg.shared(b, "w")
    f = sg.function([x, w], [x @ w, x @ held], backend="cpu")
    for found in f(a, b):
        assert_close(found, a.astype("float64") @ b, "contract")


def test_gradients_of_weights_are_right(rng: np.random.Generator) -> None:
    x, g = sg.tensor("x", (sg.dim("B"), 256)), sg.tensor("g", (sg.dim("B"), 256))
    f = sg.function([x, g], x.T @ g, backend="cpu")
    for batch in (1, 65, 1024, 1030):
        a, b = (rng.standard_normal((batch, 256)).astype("float32") for _ in range(2))
        assert_close(f(a, b), a.T.astype("float64") @ b, "contract")
