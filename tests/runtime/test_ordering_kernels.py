"""The kernels by hand that sort and scatter on CUDA, against NumPy: this CPU runs the same text."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cuda import offline
from symgraph.errors import IndexRangeError
from symgraph.graph.dtypes import ALL, is_complex, numpy_dtype
from symgraph.graph.node import Value
from symgraph.graph.types import TensorType
from symgraph.ops import scatter_kernels, sorting_kernels
from symgraph.ops.scatter_kernels import piece_of, scatter_kernel
from symgraph.ops.sorting_kernels import ordering_kernel
from tests.lower.cuda_host import COMPILER

Array = Any
BY_HAND = "CUDA C by hand"
NUMBERS = [dtype for dtype in ALL if dtype != "bool" and not is_complex(dtype)]
FLOATS = ("float16", "bfloat16", "float32", "float64")
needed = pytest.mark.skipif(offline.found()[0] is None, reason=offline.found()[1])
on_host = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")


def mostly_full(names: Any, *daily: Any) -> list[Any]:
    """Leave all but some to the full matrix."""
    return [pytest.param(one, marks=() if one in daily else pytest.mark.full) for one in names]


def draw(rng: np.random.Generator, dtype: str, shape: Any) -> Array:
    """Draw whole numbers of all sizes, many of them equal; with zeros of both signs and NaNs."""
    if dtype in FLOATS:
        found = rng.integers(-9, 9, shape).astype(numpy_dtype(dtype))
        found[rng.random(shape) < 0.2] = -0.0
        for one in (np.nan, -np.nan, np.inf, -np.inf):
            found[rng.random(shape) < 0.05] = one
        return found
    limits = np.iinfo(numpy_dtype(dtype))
    found = rng.integers(limits.min, limits.max, shape, numpy_dtype(dtype), endpoint=True)
    return np.where(rng.random(shape) < 0.5, found % 5, found).astype(numpy_dtype(dtype))


def positions(x: Array, axis: int = 0, descending: bool = False) -> Array:
    """Sort stably, NaN behind all numbers, by the definition."""
    wide = x.astype(np.float64) if x.dtype in (ml_dtypes.bfloat16, np.float16) else x
    if not descending:
        return np.argsort(wide, axis=axis, kind="stable")
    back = np.argsort(np.flip(wide, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(back, axis)


def compiled(inputs: Any, outputs: Any) -> Any:
    return sg.function(inputs, outputs, backend="cuda")


def ways(f: Any, *arrays: Any) -> set[str]:
    return {row.implementation for row in f.profile(*arrays, repeat=1).rows}


# -- sorting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", mostly_full(NUMBERS, "bfloat16"))
def test_every_dtype(dtype: str, there: Any, rng: np.random.Generator) -> None:
    x = sg.tensor("x", (sg.dim("rows_or_none", min=0),), dtype)
    f = compiled([x], [sg.argsort(x), sg.argsort(x, descending=True), sg.sort(x)])
    for size in (0, 1, 17, 33, 1025):
        array = draw(rng, dtype, size)
        up, down, ordered = f(array)
        np.testing.assert_array_equal(up, positions(array))
        np.testing.assert_array_equal(down, positions(array, descending=True))
        assert ordered.tobytes() == array[up].tobytes()


@pytest.mark.parametrize("axis", mostly_full((0, 1, 2), 1))
def test_rows_along_any_axis(axis: int, there: Any, rng: np.random.Generator) -> None:
    shape = [3, 3, 2]
    shape[axis] = 1100 if axis == 1 else 40
    x = sg.tensor("x", (sg.dim("a"), sg.dim("b"), sg.dim("c")))
    f = compiled([x], [sg.argsort(x, axis=axis), sg.F.sort_places(x, axis=axis)])
    for array in (draw(rng, "float32", shape), draw(rng, "float32", (2, 3, 4))):
        order, places = f(array)
        np.testing.assert_array_equal(order, positions(array, axis))
        np.testing.assert_array_equal(places, positions(order, axis))  # the inverse
    assert BY_HAND in ways(f, array)


@pytest.mark.full
@pytest.mark.parametrize("size", [2048, 100_000])
def test_long_rows(size: int, there: Any, rng: np.random.Generator) -> None:
    x = sg.tensor("x", (sg.dim("ordering_n"),), "int32")
    array = rng.integers(0, size // 4, size).astype(np.int32)
    np.testing.assert_array_equal(compiled([x], sg.argsort(x))(array), positions(array))


def test_what_rests_on_sorting(there: Any, rng: np.random.Generator) -> None:
    x = sg.tensor("x", (sg.dim("ordering_n"),))
    array = rng.integers(-50, 50, 300).astype(np.float32)
    best, where = sg.F.topk(x, 5)
    gradient = sg.grad((sg.sort(x) * sg.arange(x.shape[0])).sum(), x)
    f = compiled([x], [best, where, sg.F.median(x), gradient])
    found, at, middle, slopes = f(array)
    np.testing.assert_array_equal(at, positions(array, descending=True)[:5])
    np.testing.assert_array_equal(found, array[at])
    assert middle == np.median(array)
    np.testing.assert_array_equal(slopes, positions(positions(array)))
    kinds = compiled([x], sg.unique_counts(x))(array)
    for one, other in zip(kinds, np.unique(array, return_counts=True), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_known_to_be_small_is_left_to_generated_kernels(there: Any) -> None:
    x, u, i = sg.tensor("x", (3, 32)), sg.tensor("u", (33,)), index("i", 33)
    few = [sg.F.scatter_add((32,), i, u), sg.F.scatter_add((99,), i[1:], u[1:])]
    f = compiled([x, u, i], [sg.argsort(x), *few])
    ones = np.ones(33, np.float32)
    *_, found = f(np.zeros((3, 32), np.float32), ones, np.full(33, 2, np.int16))
    assert found[2] == 32
    assert BY_HAND not in ways(f, np.zeros((3, 32), np.float32), ones, np.zeros(33, np.int16))


# -- scattering ------------------------------------------------------------------------------------

MODES = {
    "set": lambda old, new: new, "add": np.add, "multiply": np.multiply,
    "max": np.maximum, "min": np.minimum,
}  # fmt: skip
WRITTEN = [f"{dtype} {mode}" for dtype in NUMBERS for mode in MODES] + ["bool set"]


@pytest.mark.parametrize(
    "case",
    mostly_full(WRITTEN, "float16 multiply", "int8 add", "bool set"),
)
def test_bits_are_those_of_one_update_after_the_other(
    case: str, there: Any, rng: np.random.Generator
) -> None:
    dtype, mode = case.split()
    k, p = sg.dim("places_or_none", min=0), sg.dim("p")
    x, u, i = sg.tensor("x", (3, p, 4), dtype), sg.tensor("u", (3, k, 4), dtype), index("i", k)
    f = compiled([x, i, u], sg.scatter(x, i, u, axis=1, mode=mode))
    kind = numpy_dtype(dtype)
    wide = np.dtype(np.float32) if dtype in FLOATS[:2] else kind
    start = (3 * rng.standard_normal((3, 5, 4))).astype(kind)
    for count in (0, 1, 17, 33, 60):
        places = rng.integers(-5, 5, count).astype(np.int16)
        updates = (2 * rng.standard_normal((3, count, 4))).astype(kind)
        wanted = start.astype(wide)
        with np.errstate(all="ignore"):
            for number, place in enumerate(places):
                old, new = wanted[:, place], updates[:, number].astype(wide)
                wanted[:, place] = MODES[mode](old, new)
            found = f(start, places, updates)
        assert found.tobytes() == wanted.astype(kind).tobytes()


def index(name: str, *shape: Any, dtype: str = "int16") -> Value:
    return sg.tensor(name, shape, dtype)


def sums(updates: Array, places: Array, count: int) -> Array:
    """Add up the definition's way: pieces of each place's updates, in order, then those sums."""
    piece, found = piece_of(len(updates)), np.zeros((count, *updates.shape[1:]), np.float32)
    for place in range(count):
        own = updates[places == place]
        parts = [own[first : first + piece] for first in range(0, len(own), piece)]
        each = [np.add.accumulate(part)[-1] for part in parts]
        found[place] = np.add.accumulate(each)[-1] if each else 0
    return found


@pytest.mark.parametrize("count", [1025, pytest.param(100_000, marks=pytest.mark.full)])
def test_many_updates_of_a_place_are_cut(count: int, there: Any, rng: np.random.Generator) -> None:
    k = sg.dim("ordering_k")
    u, i = sg.tensor("u", (k, 2)), index("i", k, dtype="int64")
    f = compiled([u, i], sg.segment_sum(u, i, 40))
    updates = rng.standard_normal((count, 2)).astype(np.float32)
    shares = (0.3, 0.002, 0.5, 0.03, 0, 0.06, 0.06, 0.048, 0)  # some less than a piece, some none
    several = rng.choice(9, count, p=shares)
    for places in (several, np.full(count, 39), np.sort(several)):
        found = f(updates, places)
        assert found.tobytes() == sums(updates, places, 40).tobytes()
        exact = np.zeros((40, 2))
        np.add.at(exact, places, updates)
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5 * np.sqrt(count))
    assert BY_HAND in ways(f, updates, places)


def test_each_lane_has_places_of_its_own(there: Any, rng: np.random.Generator) -> None:
    k = sg.dim("ordering_k")
    u, i = sg.tensor("u", (2, k, 2)), index("i", 2, k, 2, dtype="int32")
    f = compiled([u, i], sg.F.scatter_add_along_axis(u, i, 50, axis=1))
    for count in (40, 1100):
        updates = rng.standard_normal((2, count, 2)).astype(np.float32)
        places = rng.integers(-7, 7, (2, count, 2)).astype(np.int32)
        found = f(updates, places)
        for a, b in np.ndindex(2, 2):
            wanted = sums(updates[a, :, b], places[a, :, b] % 50, 50)
            assert found[a, :, b].tobytes() == wanted.tobytes()


def test_gradients_of_selections(there: Any, rng: np.random.Generator) -> None:
    table = sg.tensor("table", (50, 6))  # more rows, and places, than are worth looking at
    i, j = index("i", 8, sg.dim("ordering_k")), index("j", sg.dim("ordering_k"), dtype="uint8")
    loss = (sg.F.embedding(i, table) ** 2).sum() + (table[i[0], j]).sum()
    f = compiled([table, i, j], sg.grad(loss, table))
    numbers = rng.integers(-8, 8, (50, 6)).astype(np.float32)
    rows, columns = rng.integers(-50, 50, (8, 40)), rng.integers(0, 6, 40)
    expected = np.zeros((50, 6))
    np.add.at(expected, rows, 2 * numbers[rows])
    np.add.at(expected, (rows[0], columns), 1)
    arrays = numbers, rows.astype(np.int16), columns.astype(np.uint8)
    np.testing.assert_array_equal(f(*arrays), expected)
    assert BY_HAND in ways(f, *arrays)


def test_an_index_that_does_not_exist_is_an_error(there: Any) -> None:
    x, i = sg.tensor("x", (48, 2)), index("i", 40, dtype="int64")
    f = compiled([x, i], sg.scatter(x, i, 1.0))
    places, array = np.zeros(40, np.int64), np.zeros((48, 2), np.float32)
    for wrong in (48, -49, 2**40, -(2**63)):
        places[17] = wrong
        with pytest.raises(IndexRangeError, match=rf"scatter: index {wrong} at position \(17,\)"):
            f(array, places)
    places[17] = -1
    assert f(array, places).sum() == 4


@on_host
def test_sizes_beyond_32_bits(
    host: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is then computed in 64 bits, at sizes that can be run."""
    for module in (sorting_kernels, scatter_kernels):
        monkeypatch.setattr(module, "NARROW", 0)
    x, i = sg.tensor("x", (sg.dim("ordering_n"),), "uint16"), index("i", sg.dim("ordering_n"))
    f = compiled([x, i], [sg.argsort(x), sg.scatter(x, i, x, mode="add")])
    array, places = draw(rng, "uint16", 1500), rng.integers(0, 1500, 1500).astype(np.int16)
    order, found = f(array, places)
    np.testing.assert_array_equal(order, positions(array))
    wanted = array.copy()
    np.add.at(wanted, places, array)
    np.testing.assert_array_equal(found, wanted)


# -- for devices that are not there ----------------------------------------------------------------


@needed
@pytest.mark.parametrize("architecture", mostly_full(("sm_80", "sm_90", "sm_100"), "sm_90"))
def test_compiled_for_devices(architecture: str) -> None:
    x = TensorType("float16", (300, 5000, 4))
    sort = ordering_kernel(x, 1, True, False, "cuda")
    i = TensorType("int64", (5000,))
    add = scatter_kernel(TensorType("float16", (300, 9, 4)), x, [i], 1, "add", into=True)
    assert sort is not None
    assert add is not None
    for kernel in (sort, add):
        made = offline.compiled(kernel.source, architecture)
        assert {one.name for one in made.kernels} == {one.name for one in kernel.launches}
        for one in made.kernels:
            assert 0 < one.registers <= 64, one
            assert one.shared <= 48 << 10, one
            assert one.spilled == one.stack == 0, one
