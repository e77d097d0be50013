"""Products by the BLAS of NumPy: right in every layout, and asked for what it can."""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.arrays import Array
from symgraph.backends.cpu import calls
from symgraph.backends.cpu.blas import library, operations
from symgraph.backends.cpu.blas.library import Blas
from symgraph.backends.cpu.blas.operations import GRAIN, Product
from symgraph.backends.cpu.blas.wrapper import WORDS
from symgraph.backends.cpu.compiler import unavailable
from symgraph.backends.cpu.driver import CALL, driver
from symgraph.backends.cpu.onednn import library as onednn
from symgraph.config import config
from symgraph.errors import BackendError
from symgraph.graph.dtypes import numpy_dtype
from symgraph.lower.plan import CallStep
from symgraph.runtime import native
from symgraph.runtime.native import NativeExecutor
from tests.tolerances import assert_close

FOUND = library.find()

pytestmark = [
    pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler"),
    pytest.mark.skipif(FOUND is None, reason="no BLAS in this process"),
]

DTYPES = ["float32", "float64"]
SIZES = [1, 2, 17, 33, 1025]
B, K = sg.dim("blas_B", min=0), sg.dim("blas_K", min=0)


def described(array: Any) -> Array:
    steps = tuple(step // array.itemsize for step in array.strides)
    return Array(array.shape, str(array.dtype), steps)


def multiply(x: Any, y: Any, out: Any, threads: int = 1) -> Product:
    """Multiply by BLAS into an array, whatever it holds."""
    assert FOUND is not None
    product = Product(FOUND, tuple(described(one) for one in (x, y, out)), threads)
    call = product.bind(dict.fromkeys(operations.ROLES, (None, 0)))
    for role, one in zip(operations.ROLES, (x, y, out)):
        call.rebind(role, one.ctypes.data)
    record = np.array([CALL, call.record[0], call.record.ctypes.data + 8, 0, 0, 0], np.int64)
    assert driver().run(record.ctypes.data, 1) == 0
    return product


def check(x: Any, y: Any, out: Any, threads: int = 1) -> Product:
    """Multiply into memory that holds NaN, and compare with NumPy in float64."""
    out[...] = np.nan
    product = multiply(x, y, out, threads)
    assert_close(out, np.matmul(x.astype("float64"), y.astype("float64")), "contract")
    return product


def matrix(rng: np.random.Generator, dtype: str, turned: bool, *shape: int) -> Any:
    """Draw matrices whose rows, or whose columns, lie one after another; sums do not cancel."""
    if not turned:
        return (1 + rng.standard_normal(shape)).astype(dtype)
    return matrix(rng, dtype, False, *shape[:-2], *shape[:-3:-1]).swapaxes(-1, -2)


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turned", list(itertools.product([False, True], repeat=3)), ids=str)
def test_every_transposition(
    turned: tuple[bool, bool, bool], dtype: str, rng: np.random.Generator
) -> None:
    for rows, inner, columns in itertools.product([1, 17, 33], repeat=3):
        x = matrix(rng, dtype, turned[0], rows, inner)
        y = matrix(rng, dtype, turned[1], inner, columns)
        check(x, y, matrix(rng, dtype, turned[2], rows, columns))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inner", SIZES)
def test_sizes(inner: int, dtype: str, rng: np.random.Generator) -> None:
    for rows, columns in [(1, 1), (1, 1025), (1025, 1), (33, 1025), (1025, 17), (2, 3)]:
        x, y = matrix(rng, dtype, False, rows, inner), matrix(rng, dtype, False, inner, columns)
        for threads in (1, 2):
            check(x, y, np.empty((rows, columns), dtype), threads)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lines_that_are_longer_than_a_row(dtype: str, rng: np.random.Generator) -> None:
    wide_x, wide_y = matrix(rng, dtype, False, 40, 70), matrix(rng, dtype, True, 70, 50)
    held = np.full((40, 60), 7.0, dtype)
    for threads in (1, 3):
        check(wide_x[3:36, 5:38], wide_y[10:43, 4:37], held[2:35, 9:42], threads)
        check(wide_x[::2, :33], wide_y[:33, ::3], held[:20, :17], threads)
        check(wide_x.T[:33, ::4], wide_y[1:11, :9], held[:33, :9], threads)
    inside = np.zeros_like(held, bool)
    inside[:35, :42] = True
    assert (held[~inside] == 7).all()


BATCHES = {
    "one to one": ((5, 17, 33), (5, 33, 4)),
    "of two axes": ((2, 3, 17, 5), (2, 3, 5, 17)),
    "by one matrix": ((5, 17, 33), (33, 4)),
    "of one matrix": ((17, 33), (5, 33, 4)),
    "crossed": ((3, 1, 17, 8), (4, 8, 9)),
    "of rows": ((6, 1, 33), (33, 17)),
    "by one, on two axes": ((2, 3, 17, 5), (1, 1, 5, 17)),
    "by one on the inner axis": ((2, 3, 17, 5), (2, 1, 5, 17)),
    "of one": ((1, 1, 3, 4), (4, 5)),
    "large": ((70, 2, 3), (70, 3, 2)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", list(BATCHES))
def test_batches(kind: str, dtype: str, rng: np.random.Generator) -> None:
    first, second = BATCHES[kind]
    shape = (*np.broadcast_shapes(first[:-2], second[:-2]), first[-2], second[-1])
    for turned in itertools.product([False, True], repeat=3):
        x, y, out = (
            matrix(rng, dtype, turn, *each) for turn, each in zip(turned, (first, second, shape))
        )
        for threads in (1, 2, 3):
            check(x, y, out, threads)
    x, y = matrix(rng, dtype, False, *first[::-1]), matrix(rng, dtype, False, *second)
    batch_last = np.moveaxis(matrix(rng, dtype, False, *first[-2:], *first[:-2]), (0, 1), (-2, -1))
    if batch_last.ndim == 2:
        check(batch_last, y, np.empty(shape, dtype))


def test_a_batch_by_one_matrix_is_one_product(rng: np.random.Generator) -> None:
    x, y = matrix(rng, "float32", False, 6, 5, 17, 33), matrix(rng, "float32", True, 33, 40)
    rows = WORDS.index("rows")
    assert check(x, y, np.empty((6, 5, 17, 40), "float32")).words[rows] == 6 * 5 * 17
    assert check(x[:, ::2], y, np.empty((6, 3, 17, 40), "float32")).words[rows] == 17
    assert check(x[..., :9, :], y, np.empty((6, 5, 9, 40), "float32")).words[rows] == 9
    assert check(x[:, :, :1], y, np.empty((6, 5, 1, 40), "float32")).words[rows] == 30


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinities_go_on(dtype: str, rng: np.random.Generator) -> None:
    for size in (3, 40, 200):
        x, y = (matrix(rng, dtype, turned, size, size) for turned in (False, True))
        x[1, 2], x[0, 0], y[2, :] = np.nan, np.inf, 0
        with np.errstate(invalid="ignore"):
            check(x, y, np.empty((size, size), dtype), 2)
            check(y, x, np.empty((size, size), dtype), 2)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda x: x[::2, ::2], id="steps on both axes"),
        pytest.param(lambda x: x[:, ::-1][:20, :20], id="backwards"),
        pytest.param(lambda x: x[::-1][:20, :20], id="from the last row"),
        pytest.param(lambda x: np.broadcast_to(x[:1, :20], (20, 20)), id="one row"),
        pytest.param(lambda x: np.broadcast_to(x[:20, :1], (20, 20)), id="one column"),
        pytest.param(
            lambda x: np.lib.stride_tricks.sliding_window_view(x[0], 20)[:20], id="windows"
        ),
    ],
)
def test_what_blas_cannot_take_is_refused(make: Callable[[Any], Any]) -> None:
    assert FOUND is not None
    plain = np.ones((40, 40), "float32")
    view, whole = make(plain), np.ones((20, 20), "float32")
    for three in [(view, whole, whole), (whole, view, whole), (whole, whole, view)]:
        with pytest.raises(BackendError, match="a library cannot take"):
            Product(FOUND, tuple(described(one) for one in three), 1)
    own = described(view)
    assert not operations.reads("matmul", own.dims, own.strides)


def test_sizes_beyond_32_bits_are_refused() -> None:
    assert FOUND is not None
    long = Array((2, 1 << 31), "float32", (1 << 31, 1))
    high = Array((1 << 31, 2), "float32", (2, 1))
    with pytest.raises(BackendError, match="32 bits"):
        Product(FOUND, (long, high, Array((2, 2), "float32", (2, 1))), 1)


# -- threads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "columns", "batch"), [(400, 300, 1), (129, 1400, 1), (64, 200, 6), (33, 200, 40)]
)
def test_results_do_not_depend_on_the_threads(
    rows: int, columns: int, batch: int, dtype: str, rng: np.random.Generator
) -> None:
    x = matrix(rng, dtype, False, batch, rows, 200)
    y = matrix(rng, dtype, False, batch, 200, columns)
    found = []
    for threads in (1, 2, 3, 5, 6):
        out = np.empty((batch, rows, columns), dtype)
        product = check(x, y, out, threads)
        assert product.threads == threads, "the test is of threads"
        found.append(out.tobytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize("length", [1, 16, 191, 192, 193, 257, 1024, 1025, 5000])
def test_parts_are_about_equal(length: int) -> None:
    part = operations._part(length)
    count = -(-length // part)
    assert part <= operations.TILE
    assert count == -(-length // operations.TILE)
    assert count == 1 or part % operations.EDGE == 0
    assert count * part - length < count * operations.EDGE


def test_small_products_stay_on_the_calling_thread() -> None:
    assert FOUND is not None
    side = round(GRAIN ** (1 / 3))
    small = Array((side, side), "float32", (side, 1))
    large = Array((4 * side, 4 * side), "float32", (4 * side, 1))
    assert Product(FOUND, (small,) * 3, 8).threads == 1
    assert Product(FOUND, (large,) * 3, 8).threads > 1


@pytest.fixture
def blas_threads() -> Iterator[Callable[[], int]]:
    """Give what tells the threads of BLAS, which are 2 for the test."""
    if FOUND is None or FOUND.limits is None:
        pytest.skip("this BLAS does not tell its threads")
    get = ctypes.CFUNCTYPE(ctypes.c_int)(FOUND.limits[0])
    put = ctypes.CFUNCTYPE(None, ctypes.c_int)(FOUND.limits[1])
    before = get()
    put(2)
    yield get
    put(before)


def test_the_threads_of_blas_are_given_back(
    blas_threads: Callable[[], int], rng: np.random.Generator
) -> None:
    x = matrix(rng, "float32", False, 300, 300)
    problems: list[str] = []

    def work() -> None:
        for _ in range(20):
            try:
                check(x, x.T, np.empty((300, 300), "float32"), 2)
            except AssertionError as problem:
                problems.append(str(problem))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    assert problems == []
    assert blas_threads() == 2


def test_a_blas_whose_threads_cannot_be_set_is_called_once(rng: np.random.Generator) -> None:
    assert FOUND is not None
    free = Blas(FOUND.path, "other", "", FOUND.products)
    x = described(matrix(rng, "float32", False, 512, 512))
    product = Product(free, (x, x, x), 8)
    assert (product.threads, product.words[WORDS.index("parts")]) == (1, 1)
    a, out = matrix(rng, "float32", False, 512, 512), np.empty((512, 512), "float32")
    call = product.bind({"src": (x, a.ctypes.data), "weights": (x, a.ctypes.data), "dst": (x, 0)})
    call.rebind("dst", out.ctypes.data)
    record = np.array([CALL, call.record[0], call.record.ctypes.data + 8, 0, 0, 0], np.int64)
    assert driver().run(record.ctypes.data, 1) == 0
    assert_close(out, a.astype("float64") @ a, "contract")


# -- functions -------------------------------------------------------------------------------------


def compiled(inputs: Any, outputs: Any, *arrays: Any) -> tuple[sg.Function, Any, list[str]]:
    """Compile, run, and tell the result and what each step ran as."""
    f = sg.function(inputs, outputs, backend="cpu")
    found = f(*arrays)
    executor = f._executor
    assert isinstance(executor, NativeExecutor)
    return f, found, names_of(f)


def names_of(f: sg.Function) -> list[str]:
    executor = f._executor
    assert isinstance(executor, NativeExecutor)
    assert executor.last is not None
    bound = executor.last
    return [
        bound._prepared(step).implementation if isinstance(step, CallStep) else "generated"
        for step in bound.plan.steps
    ]


def called(dtype: str) -> str:
    assert FOUND is not None
    return f"{FOUND.maker} {library.GENERAL[dtype]}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_onednn_products_run_on_blas(dtype: str, rng: np.random.Generator) -> None:
    x, w = sg.tensor("x", (B, 100), dtype), sg.tensor("w", (100, 70), dtype)
    a, b = (
        rng.standard_normal((40, 100)).astype(dtype),
        rng.standard_normal((100, 70)).astype(dtype),
    )
    loss = sg.tanh(x @ w)
    wanted = np.tanh(a.astype("float64") @ b)
    with config(onednn="none"):
        f, found, names = compiled([x, w], [loss, *sg.grad((loss**2).sum(), [x, w])], a, b)
        assert names.count(called(dtype)) == 3
        assert set(names) == {called(dtype), "generated"}
        assert_close(found[0], wanted, "composite")
        inner = 2 * wanted * (1 - wanted**2)
        assert_close(found[1], inner @ b.T.astype("float64"), "composite")
        assert_close(found[2], a.T.astype("float64") @ inner, "composite")
        rows = f.profile(a, b).rows
    assert [row.implementation for row in rows].count(called(dtype)) == 3
    assert {row.name for row in rows if row.implementation == called(dtype)} == {"matmul"}
    assert sum(row.flops for row in rows if row.name == "matmul") == 3 * 2 * 40 * 100 * 70
    later = [row.implementation for row in f.profile(a, b).rows]  # the setting is another now
    assert later.count(called(dtype)) == 3


@pytest.mark.skipif(bool(onednn.status().problem), reason="no oneDNN")
def test_with_onednn_only_float64_runs_on_blas(rng: np.random.Generator) -> None:
    a = rng.standard_normal((64, 64))
    for dtype, wanted in (("float32", False), ("float64", True)):
        x = sg.tensor("x", (64, 64), dtype)
        _, found, names = compiled([x], x @ x, a.astype(dtype))
        assert (names == [called(dtype)]) == wanted
        assert "generated" not in names
        assert_close(found, a.astype(dtype).astype("float64") @ a.astype(dtype), "contract")


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_plan_serves_every_size(
    dtype: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, w = sg.tensor("x", (B, K), dtype), sg.tensor("w", (K, 40), dtype)
    with config(onednn="none"):
        f = sg.function([x, w], [x @ w, (x @ w).T @ x], backend="cpu")
        for step, (rows, inner) in enumerate(itertools.product([2, 0, 1, 17, 33, 1025], repeat=2)):
            a = rng.standard_normal((rows, inner)).astype(dtype)
            b = rng.standard_normal((inner, 40)).astype(dtype)
            first, second = f(a, b)
            wide = a.astype("float64") @ b.astype("float64")
            assert_close(first, wide, "contract")
            assert_close(second, wide.T @ a, "composite")
            if step == 0:
                assert set(names_of(f)) == {called(dtype)}
                monkeypatch.setattr(native, "compile_text", None)  # nothing more is compiled


def test_batches_of_a_function(rng: np.random.Generator) -> None:
    x, y = sg.tensor("x", (B, 33, K)), sg.tensor("y", (B, K, 20))
    with config(onednn="none"):
        f = sg.function([x, y], [x @ y, sg.matrix_transpose(y) @ sg.matrix_transpose(x)])
        for batch, inner in [(3, 64), (1, 17), (0, 5), (2, 0), (5, 1)]:
            a = rng.standard_normal((batch, 33, inner)).astype("float32")
            b = rng.standard_normal((batch, inner, 20)).astype("float32")
            wide = a.astype("float64") @ b.astype("float64")
            first, second = f(a, b)
            assert_close(first, wide, "contract")
            assert_close(second, wide.swapaxes(1, 2), "contract")


VIEWS = {
    "turned": (lambda x: x.T, 0),
    "rows": (lambda x: x[3:40], 0),
    "columns": (lambda x: x[:, 3:40], 0),
    "every second row": (lambda x: x[::2], 0),
    "every second column": (lambda x: x[:, ::2], 1),
    "backwards": (lambda x: x[::-1], 1),
    "windows": (lambda x: sg.stack([x[0, i : i + 32] for i in range(20)]), 1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", list(VIEWS))
def test_views_are_read_in_place_where_blas_can(
    kind: str, dtype: str, rng: np.random.Generator
) -> None:
    make, copies = VIEWS[kind]
    x = sg.tensor("x", (64, 64), dtype)
    a = rng.standard_normal((64, 64)).astype(dtype)
    view = make(x)
    w = sg.tensor("w", (view.shape[1], 64), dtype)
    b = rng.standard_normal(w.shape).astype(dtype)
    seen = sg.function([x], view, backend="reference")(a).astype("float64")
    with config(onednn="none"):
        _, found, names = compiled([x, w], view @ w, a, b)
        assert names == ["generated"] * copies + [called(dtype)]
        assert_close(found, seen @ b, "contract")
        _, found, names = compiled([x, w], w.T @ view.T, a, b)
        assert names == ["generated"] * copies + [called(dtype)]
        assert_close(found, (seen @ b).T, "contract")


@pytest.mark.skipif(bool(onednn.status().problem), reason="no oneDNN")
@pytest.mark.parametrize("kind", list(VIEWS))
def test_what_onednn_cannot_read_is_copied(kind: str, rng: np.random.Generator) -> None:
    make, copies = VIEWS[kind]
    x = sg.tensor("x", (64, 64))
    a = rng.standard_normal((64, 64)).astype("float32")
    view = make(x)
    w = sg.tensor("w", (view.shape[1], 64))
    b = rng.standard_normal(w.shape).astype("float32")
    seen = sg.function([x], view, backend="reference")(a).astype("float64")
    _, found, names = compiled([x, w], view @ w, a, b)
    assert names[:-1] == ["generated"] * copies
    assert not names[-1].startswith("ref")
    assert_close(found, seen @ b, "contract")


LOOPS = {
    "whole numbers": ("int32", (64, 64), (64, 64)),
    "small matrices": ("float32", (B, 4), (4, 3)),
    "a few sums of few": ("float32", (300, 8), (8, 300)),
    "by a column": ("float32", (300, 300), (300, 1)),
    "of a row": ("float64", (1, 300), (300, 300)),
    "many small ones": ("float64", (B, 20, 20), (B, 20, 20)),
}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_multiplied_as_float32_and_rounded(dtype: str, rng: np.random.Generator) -> None:
    x, y = sg.tensor("x", (64, 64), dtype), sg.tensor("y", (64, 64), dtype)
    a, b = (rng.standard_normal((64, 64)).astype(numpy_dtype(dtype)) for _ in "xy")
    with config(onednn="none"):
        _, found, names = compiled([x, y], x @ y, a, b)
    assert "OpenBLAS sgemm" in names
    assert_close(found, (a.astype("float64") @ b.astype("float64")).astype(a.dtype), "contract")


@pytest.mark.parametrize("kind", list(LOOPS))
def test_other_products_stay_with_generated_loops(kind: str, rng: np.random.Generator) -> None:
    dtype, first, second = LOOPS[kind]
    x, y = sg.tensor("x", first, dtype), sg.tensor("y", second, dtype)
    a, b = (
        (3 * rng.standard_normal([20 if one is B else one for one in shape])).astype(dtype)
        for shape in (first, second)
    )
    with config(onednn="none"):
        _, found, names = compiled([x, y], x @ y, a, b)
    assert set(names) == {"generated"}
    assert_close(found, a.astype("float64") @ b.astype("float64"), "contract")


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_blas_generated_loops_multiply(
    dtype: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setattr(operations, "find", lambda: None)
    x = sg.tensor("x", (65, 65), dtype)
    a = rng.standard_normal((65, 65)).astype(dtype)
    with config(onednn="none"):
        _, found, names = compiled([x], [x @ x, x.T @ x], a)
        with pytest.raises(BackendError, match="no library"):
            calls.prepare((x @ x).op, [described(a)] * 2, described(a))
    assert set(names) == {"generated"}
    wide = a.astype("float64")
    assert_close(found[0], wide @ wide, "contract")
    assert_close(found[1], wide.T @ wide, "contract")


def test_a_short_step_with_blas_has_one_thread(rng: np.random.Generator) -> None:
    for side, wanted in ((64, 1), (700, 2)):
        x = sg.tensor("x", (side, side))
        with config(onednn="none", threads=None):
            f = sg.function([x], x @ x, backend="cpu")
            executor = f._executor
            assert isinstance(executor, NativeExecutor)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(native, "thread_count", lambda given: 2)
                f(rng.standard_normal((side, side)).astype("float32"))
        assert executor.last is not None
        (step,) = executor.last.plan.steps
        assert isinstance(step, CallStep)
        product = executor.last._prepared(step).uses[0].primitive
        assert isinstance(product, Product)
        assert product.threads == wanted
