"""Products by cuBLASLt, against a cuBLASLt of plain loops on the CPU."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.arrays import Array
from symgraph.backends.cuda.cublaslt.library import CublasLt, declared
from symgraph.backends.cuda.cublaslt.operations import Products
from symgraph.errors import BackendError
from symgraph.graph.dtypes import dtype_name, numpy_dtype
from symgraph.graph.graph import Graph
from symgraph.lower.program import build, operand
from tests.lower.cuda_host import COMPILER

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
SOURCE = Path(__file__).with_name("fake_cublaslt.cpp")
STREAM = 77  # the fake wants it


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    assert COMPILER is not None
    target = tmp_path_factory.mktemp("cublaslt") / "libfake.so"
    command = [COMPILER, "-std=c++20", "-O1", "-shared", "-fPIC", "-o", str(target), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return declared(ctypes.CDLL(str(target)))


@pytest.fixture
def products(fake: ctypes.CDLL) -> Products:
    return Products(CublasLt(fake, STREAM))


def described(array: Any) -> Array:
    steps = tuple(step // array.itemsize for step in array.strides)
    return Array(array.shape, dtype_name(array.dtype), steps)


def multiplied(
    products: Products, *operands: Any, out: Any = None, tf32: bool = False, alignment: int = 0,
    relu: str = "",
) -> Any:  # fmt: skip
    """Run a product, in memory of its own for the result."""
    x, y, *bias = operands
    if out is None:
        shape = np.matmul(np.zeros(x.shape, np.int8), np.zeros(y.shape, np.int8)).shape
        out = np.full(shape, 7, x.dtype)
    op = sg.graph.registry.OPS[f"matmul_bias{relu}" if bias else "matmul"]()
    routine = products.prepare(
        op, tuple(map(described, operands)), described(out), alignment or x.itemsize, tf32
    )
    room = np.zeros(max(routine.workspace, 1), np.uint8)
    addresses = [one.ctypes.data for one in (*operands, out)]
    routine.run(addresses, room.ctypes.data)
    assert room.all(), "the workspace is at hand"
    return out


def random(*shape: int, dtype: str = "float32") -> Any:
    rng = np.random.default_rng(list(shape))
    return rng.standard_normal(shape).astype(numpy_dtype(dtype))


def turned(array: Any) -> Any:
    """The same matrix with columns one after another."""
    return np.ascontiguousarray(np.swapaxes(array, -1, -2)).swapaxes(-1, -2)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("first", [np.array, turned])
@pytest.mark.parametrize("second", [np.array, turned])
@pytest.mark.parametrize("result", [np.array, turned])
def test_rows_and_columns(
    products: Products, dtype: str, first: Callable[[Any], Any], second: Callable[[Any], Any],
    result: Callable[[Any], Any],
) -> None:  # fmt: skip
    x, y = random(3, 5, dtype=dtype), random(5, 4, dtype=dtype)
    out = result(np.zeros((3, 4), x.dtype))
    found = multiplied(products, first(x), second(y), out=out)
    exact = x.astype(np.float64) @ y.astype(np.float64)
    limit = {"float64": 1e-14, "float32": 1e-6, "float16": 1e-3, "bfloat16": 1e-2}[dtype]
    np.testing.assert_allclose(found.astype(np.float64), exact, rtol=limit, atol=limit)


def test_lines_with_gaps_and_single_ones(products: Products) -> None:
    x, y = random(6, 9)[:, 2:7], random(5, 8)[:, ::1][:, :4]
    np.testing.assert_allclose(multiplied(products, x, y), x @ y, rtol=1e-5)
    for rows, inner, columns in ((1, 5, 4), (3, 1, 4), (3, 5, 1), (1, 1, 1)):
        x, y = random(rows, inner), random(inner, columns)
        np.testing.assert_allclose(multiplied(products, x, y), x @ y, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_bias_is_added_to_every_row(products: Products, dtype: str) -> None:
    x, y, b = (random(*s, dtype=dtype) for s in ((3, 5), (5, 4), (4,)))
    exact = x.astype(float) @ y.astype(float) + b.astype(float)
    found = multiplied(products, x, turned(y), b)
    np.testing.assert_allclose(
        found.astype(float), exact, rtol=1e-2 if dtype != "float32" else 1e-5
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_a_relu_comes_after_the_bias(products: Products, dtype: str) -> None:
    x, y, b = (random(*s, dtype=dtype) for s in ((6, 3, 5), (5, 4), (4,)))
    exact = x.astype(float) @ y.astype(float) + b.astype(float)
    assert (exact < 0).any()
    for tf32 in {False, dtype == "float32"}:
        found = multiplied(products, x, y, b, relu="_relu", tf32=tf32).astype(float)
        limit = 1e-2 if dtype.endswith("16") else 1e-5
        np.testing.assert_allclose(found, np.maximum(exact, 0), rtol=limit, atol=limit)
        assert ((found == 0) == (exact <= 0)).all()


@pytest.mark.parametrize("relu", ["", "_relu"])
def test_no_bias_along_rows(products: Products, relu: str) -> None:
    out = turned(np.zeros((3, 4), np.float32))
    with pytest.raises(BackendError, match=f"^matmul_bias{relu}: cuBLASLt adds no bias along"):
        multiplied(products, random(3, 5), random(5, 4), random(4), out=out, relu=relu)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((6, 3, 5), (6, 5, 4)),  # one step each
        ((2, 3, 3, 5), (2, 3, 5, 4)),
        ((6, 3, 5), (5, 4)),  # rows of one product
        ((3, 5), (6, 5, 4)),  # one factor for all
        ((2, 1, 3, 5), (1, 4, 5, 2)),  # each repeated along another axis
        ((2, 3, 3, 5), (3, 5, 4)),
        ((2, 3, 4, 3, 5), (1, 3, 1, 5, 4)),
    ],
)
def test_batches(products: Products, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    x, y = random(*first), random(*second)
    np.testing.assert_allclose(multiplied(products, x, y), np.matmul(x, y), rtol=1e-5, atol=1e-6)
    wide = random(*first[:-1], 2 * first[-1])[..., : first[-1]]
    expected = np.matmul(wide, turned(y))
    np.testing.assert_allclose(
        multiplied(products, wide, turned(y)), expected, rtol=1e-5, atol=1e-6
    )


def aligned(array: Any, to: int = 64) -> Any:
    """A copy that begins at a multiple of so many bytes."""
    room = np.zeros(array.nbytes + to, np.uint8)
    start = -room.ctypes.data % to
    held = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    held[...] = array
    return held


def test_parts_of_a_batch_begin_where_they_do(products: Products) -> None:
    """Operands begin at multiples of 64 bytes, matrices of 17 x 17 in them do not."""
    x, y = aligned(random(2, 1, 17, 17)), aligned(random(1, 3, 17, 17))
    out = aligned(np.zeros((2, 3, 17, 17), np.float32))
    found = multiplied(products, x, y, out=out, alignment=64)
    np.testing.assert_allclose(found, np.matmul(x, y), rtol=1e-5, atol=1e-6)


def test_repeated_and_turned_rows(products: Products) -> None:
    for rows in (1, 3):
        vector = random(rows, 40)
        repeated = np.broadcast_to(vector[None], (4, rows, 40)).copy()[:, :, :]
        view = np.broadcast_to(repeated[:1], (4, rows, 40))
        w = random(40, 5)
        np.testing.assert_allclose(multiplied(products, view, w), view @ w, rtol=1e-5, atol=1e-6)


def test_tf32_is_only_asked_for_float32(products: Products) -> None:
    for dtype in ("float32", "float64", "float16"):
        x, y = random(3, 5, dtype=dtype), random(5, 4, dtype=dtype)
        multiplied(products, x, y, tf32=True)  # the fake refuses it for others


def test_what_cannot_be_read_is_an_error(products: Products) -> None:
    x, y = random(6, 10)[::2, ::2], random(5, 4)
    with pytest.raises(BackendError, match="cannot take a factor"):
        multiplied(products, x, y)


def test_a_status_is_an_error(fake: ctypes.CDLL) -> None:
    library = CublasLt(fake, STREAM + 1)
    with pytest.raises(BackendError, match=r"^cublasLtMatmul: cuBLASLt answered 7 \(invalid value"):
        multiplied(Products(library), random(3, 5), random(5, 4))


def test_every_handle_is_destroyed(fake: ctypes.CDLL) -> None:
    gc.collect()
    before = fake.fake_alive()
    own = Products(CublasLt(fake, STREAM))
    multiplied(own, random(3, 5), random(5, 4))
    assert fake.fake_alive() == before + 1, "the library's own"
    del own
    gc.collect()
    assert fake.fake_alive() == before


def test_what_is_taken(products: Products) -> None:
    B = sg.dim("B")

    def taken(*shapes: Any, dtype: str = "float32") -> bool:
        x, y = (sg.tensor("x", shape, dtype) for shape in shapes)
        return products.takes(x @ y)

    assert taken((B, 64), (64, 32))
    assert taken((B, 64), (64, 32), dtype="bfloat16")
    assert taken((2, B, 64), (2, 64, 32))
    assert not taken((B, 64), (64, 3)), "a tiny one"
    assert not taken((B, 64), (64,)), "a vector"
    assert not taken((B, 64), (64, 32), dtype="int32")
    none = sg.dim("none", min=0)
    assert not taken((B, none), (none, 32)), "nothing may be summed"


def test_what_is_read(products: Products) -> None:
    B = sg.dim("B")
    x, y = sg.tensor("x", (B, 64)), sg.tensor("y", (64, 32))
    value = x @ y
    program = build(Graph([x, y], [value]), lambda one: one is value)
    whole = operand(program.inputs[x])
    assert products.reads(value, whole)
    assert not products.reads(value, replace(whole, strides=(128, 2))), "every second column"
    assert not products.reads(value, replace(whole, strides=(0, 1))), "one row again and again"
    assert not products.reads(value, replace(whole, strides=(-64, 1))), "backwards"
    assert products.reads(value, replace(whole, shape=(64, B), strides=(1, 64)))


def headers() -> list[Path]:
    """The folders of headers in NVIDIA's wheels."""
    spec = importlib.util.find_spec("nvidia")
    places = spec.submodule_search_locations or () if spec else ()
    return [found for place in places for found in Path(place).glob("*/include")]


@pytest.mark.skipif(
    not any((one / "cublasLt.h").exists() for one in headers()),
    reason="the header of cuBLASLt is not installed (tox -e cudnn)",
)
def test_the_numbers_are_nvidias() -> None:
    assert COMPILER is not None
    folders = [f"-I{one}{more}" for one in headers() for more in ("", "/cccl")]
    command = [COMPILER, "-std=c++20", "-fsyntax-only", "-DNVIDIA", *folders, str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    wrong = SOURCE.read_text().replace("CUBLASLT_EPILOGUE_BIAS == 4", "CUBLASLT_EPILOGUE_BIAS == 5")
    done = subprocess.run(
        [*command[:-1], "-xc++", "-"], input=wrong, capture_output=True, text=True, check=False
    )
    assert "static assertion failed" in done.stderr
