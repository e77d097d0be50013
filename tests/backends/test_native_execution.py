"""Compiled functions as their callers see them: memory, sizes, threads, processes."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends import choice
from symgraph.backends.cpu.compiler import unavailable
from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    DeviceError,
    GraphError,
    IndexRangeError,
    MemoryLimitError,
)
from symgraph.graph.node import Value
from symgraph.runtime import arena, native
from tests.backends.test_native_updates import in_place

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")


def compiled(inputs: Any, outputs: Any, updates: Any = None) -> sg.Function:
    return sg.function(inputs, outputs, updates, backend="cpu")


def both(inputs: Any, outputs: Any, *arrays: Any) -> tuple[Any, Any]:
    """Compute natively and with the reference."""
    return (
        compiled(inputs, outputs)(*arrays),
        sg.function(inputs, outputs, backend="reference")(*arrays),
    )


# -- what belongs to whom --------------------------------------------------------------------------


def test_outputs_are_fresh_arrays() -> None:
    x = sg.vector("x")
    f = compiled([x], [x * 2, x, x, x.sum()])
    first = f([1, 2, 3])
    kept = [array.copy() for array in first]
    second = f([4, 5, 6])
    for array, before in zip(first, kept):
        np.testing.assert_array_equal(array, before)
    arrays = [*first, *second]
    for number, one in enumerate(arrays):
        assert one.flags.writeable
        assert one.flags.c_contiguous
        assert not any(np.shares_memory(one, other) for other in arrays[:number])
    assert [array.tolist() for array in second] == [[8, 10, 12], [4, 5, 6], [4, 5, 6], 15]


def test_an_output_may_be_written_without_harm() -> None:
    x, s, c = sg.vector("x"), sg.shared([1.0, 2.0]), sg.constant([3.0, 4.0])
    f = compiled([x], [x, s, c, sg.exp(c)])
    given = np.array([5, 6], np.float32)
    first = f(given)
    expected = [array.copy() for array in first]
    for array in first:
        array[...] = -1
    assert given.tolist() == [5, 6]
    assert s.value.tolist() == [1, 2]
    for array, wanted in zip(f(given), expected):
        np.testing.assert_array_equal(array, wanted)


def _operands() -> dict[str, np.ndarray[Any, Any]]:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    bytes_ = np.zeros(4 * 24 + 1, np.uint8)
    unaligned = bytes_[1:].view(np.float32).reshape(4, 6)
    unaligned[...] = base
    frozen = base.copy()
    frozen.flags.writeable = False
    return {
        "plain": base.copy(),
        "transposed": base.reshape(6, 4).T,
        "backwards": base[::-1, ::-1],
        "strided": np.arange(48, dtype=np.float32).reshape(4, 12)[:, ::2],
        "repeated": np.broadcast_to(np.float32(3), (4, 6)),
        "fortran": np.asfortranarray(base),
        "read-only": frozen,
        "unaligned": unaligned,
        "empty": np.empty((4, 0), np.float32),
        "no rows": np.empty((0, 6), np.float32),
    }


@pytest.mark.parametrize("kind", list(_operands()))
def test_inputs_are_read_as_they_lie_and_never_written(kind: str) -> None:
    x = sg.tensor("x", (sg.dim("rows_or_0", min=0), sg.dim("columns_or_0", min=0)))
    array = _operands()[kind]
    before = array.copy()
    outputs = [x * 2, x.T, x.sum(axis=0), x.sum(), sg.relu(x) + x[::-1], x @ sg.exp(-x).T]
    found, expected = both([x], outputs, array)
    np.testing.assert_array_equal(array, before)
    for one, wanted in zip(found, expected, strict=True):
        assert one.dtype == wanted.dtype
        np.testing.assert_allclose(one, wanted, 1e-6, 1e-5)


def test_inputs_that_nothing_needs_and_functions_that_compute_nothing() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    assert compiled([x, y], y + 1)([1, 2], [3]).tolist() == [4]
    assert compiled([x], None)([1, 2]) is None
    assert compiled([x], [])([1]) == []
    assert compiled([], sg.constant([1.0, 2.0]))().tolist() == [1, 2]
    assert compiled([x], sg.arange(x.shape[0]) * x.shape[0])([0, 0, 0]).tolist() == [0, 3, 6]


# -- sizes -----------------------------------------------------------------------------------------


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are compiled during the test."""
    seen: list[str] = []
    real = native.compile_text

    def count(text: str) -> bytes:
        seen.append(text)
        return real(text)

    monkeypatch.setattr(native, "compile_text", count)
    return seen


def test_new_sizes_are_bound_and_not_compiled(texts: list[str]) -> None:
    rng = np.random.default_rng(1)
    x = sg.tensor("x", (sg.dim("B"), sg.dim("N")))
    outputs = [sg.softmax(x, axis=1), x.sum(axis=0), x.T @ x, x.reshape((-1,))]
    f, reference = compiled([x], outputs), sg.function([x], outputs, backend="reference")
    for shape in [(4, 5), (1, 1), (33, 7), (7, 33), (4, 5), (300, 130), (1, 1025), (1025, 1)]:
        array = rng.standard_normal(shape).astype(np.float32)
        for one, wanted in zip(f(array), reference(array), strict=True):
            assert one.shape == wanted.shape
            np.testing.assert_allclose(one, wanted, 1e-5, 1e-4)
    assert len(texts) == 1


def test_what_a_variable_and_a_size_decide_is_computed_for_each_size() -> None:
    C = sg.dim("any_number", min=0)
    x, w = sg.tensor("x", (C,)), sg.shared(np.float32(0.5))
    halved, _ = sg.foldl(lambda row, state: 0.5 * state, x, w)
    repeated = sg.sum(sg.broadcast_to(sg.exp(w), (C,)))
    f = sg.function([x], [halved, repeated], backend="cpu")
    for count in (1, 7, 1, 0, 2, 7):
        found = f(np.zeros(count, np.float32))
        np.testing.assert_allclose(found, [0.5 ** (count + 1), count * np.exp(0.5)], rtol=1e-6)


def test_more_sizes_than_are_kept(texts: list[str]) -> None:
    x = sg.vector("x")
    f = compiled([x], (x * x).sum())
    for _ in range(2):
        for size in range(1, native.MOST_BOUND + 5):
            assert f(np.ones(size, np.float32)) == size
    assert len(texts) == 1


def test_sizes_of_the_same_product_are_not_mixed_up() -> None:
    a, b = sg.dim("a"), sg.dim("b")
    x = sg.tensor("x", (a, b))
    f = compiled([x], x.T)
    for shape in [(2, 6), (6, 2), (3, 4), (4, 3), (2, 6)]:
        array = np.arange(12, dtype=np.float32).reshape(shape)
        np.testing.assert_array_equal(f(array), array.T)


def test_a_function_survives_a_call_that_got_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    executor_arena = arena.Arena()
    monkeypatch.setattr(arena, "_map", _no_memory)
    with pytest.raises(MemoryLimitError):
        executor_arena.reserve(100)
    monkeypatch.undo()
    script = (
        "import numpy as np, symgraph as sg\n"
        "from symgraph.runtime import arena\n"
        "from symgraph.errors import MemoryLimitError\n"
        "from tests.backends.test_native_execution import _no_memory\n"
        "x = sg.tensor('x', (sg.dim('B'), 64))\n"
        "f = sg.function([x], sg.softmax(x, axis=0) @ sg.exp(x).T, backend='cpu')\n"
        "small = np.ones((8, 64), 'float32')\n"
        "before, real = f(small), arena._map\n"
        "arena._map = _no_memory\n"
        "try:\n"
        "    f(np.ones((8000, 64), 'float32'))\n"
        "except MemoryLimitError:\n"
        "    print('refused')\n"
        "arena._map = real\n"
        "print((f(small) == before).all())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "refused\nTrue\n"), done.stderr


def _no_memory(size: int) -> Any:
    raise OSError("no memory")


# -- what is wrong is said as the reference says it ------------------------------------------------


def _indexed() -> dict[str, tuple[Any, type[Exception]]]:
    return {
        "take": (lambda x, i: sg.take(x, i, axis=0), IndexRangeError),
        "along": (
            lambda x, i: sg.take_along_axis(x, sg.expand_dims(i, 1), 1),
            IndexRangeError,
        ),
        "cross_entropy": (lambda x, i: sg.cross_entropy(x, i), ArgumentError),
        "scatter": (
            lambda x, i: sg.grad((sg.take(x, i, axis=0) ** 2).sum(), x),
            IndexRangeError,
        ),
        "gradient of cross_entropy": (
            lambda x, i: sg.grad(sg.cross_entropy(x, i).sum(), x),
            ArgumentError,
        ),
    }


@pytest.mark.parametrize("bad", [6, -7, 2**20, 2**40, -(2**62)])
@pytest.mark.parametrize("kind", list(_indexed()))
def test_a_wrong_index_raises_the_references_error_and_writes_nothing(kind: str, bad: int) -> None:
    build, error = _indexed()[kind]
    x = sg.tensor("x", (6, 6))
    i = sg.tensor("i", (6,), "int64")
    step, total = sg.shared(np.zeros(6), "step"), sg.shared(np.ones((6, 6)), "total")
    result = build(x, i)
    updates = {step: step + 1, total: total + x.sum()}
    f = compiled([x, i], result, updates)
    reference = sg.function([x, i], result, backend="reference")
    array, good = np.eye(6, dtype=np.float32), np.arange(6)
    np.testing.assert_allclose(f(array, good), reference(array, good), 1e-6)
    before = step.value, total.value, step.storage.version
    wrong = good.copy()
    wrong[4] = bad
    with pytest.raises(error) as found:
        f(array, wrong)
    with pytest.raises(error) as expected:
        reference(array, wrong)
    assert str(found.value) == str(expected.value)
    np.testing.assert_array_equal(step.value, before[0])
    np.testing.assert_array_equal(total.value, before[1])
    assert step.storage.version == before[2]
    np.testing.assert_allclose(f(array, good), reference(array, good), 1e-6)
    assert (step.value == 2).all()


def test_a_check_stands_before_updates_that_do_not_depend_on_it() -> None:
    x, i = sg.vector("x"), sg.tensor("i", (sg.dim("K"),), "int64")
    table = sg.shared(np.arange(500, dtype=np.float32), "table")
    f = compiled([x, i], sg.take(x, i), {table: table * 2})
    f([1, 2, 3], [0, 2])
    assert in_place(f) == {"table"}
    with pytest.raises(IndexRangeError):
        f([1, 2, 3], [0, 3])
    np.testing.assert_array_equal(table.value, np.arange(500) * 2)


# -- which backend ---------------------------------------------------------------------------------


def _x() -> tuple[list[Value], Value]:
    x = sg.vector("x")
    return [x], sg.exp(x)


def test_a_function_tells_its_backend() -> None:
    assert sg.function(*_x(), backend="cpu").backend == "cpu"
    assert sg.function(*_x(), backend="reference").backend == "reference"
    assert sg.function(*_x(), backend="auto").backend == "cpu"
    assert sg.function(*_x(), backend="cpu", nan_guard=True).backend == "cpu"


@pytest.mark.parametrize("setting", ["cpu", "reference", "auto"])
def test_the_argument_comes_before_the_setting(setting: str) -> None:
    with sg.config(backend=setting):
        plain = sg.function(*_x())
        assert plain.backend == ("cpu" if setting == "auto" else setting)
        assert sg.function(*_x(), backend="cpu").backend == "cpu"
        assert sg.function(*_x(), backend="reference").backend == "reference"
    assert plain.backend == ("cpu" if setting == "auto" else setting)


@pytest.mark.parametrize("name", ["gpu", "CPU", "", "native"])
def test_unknown_backends_are_refused(name: str) -> None:
    with pytest.raises(ArgumentTypeError, match="step: there is no backend"):
        sg.function(*_x(), name="step", backend=name)


def test_a_bias_where_images_are_empty() -> None:
    """Padding makes a result of nothing: it is the bias."""
    x = sg.tensor("x", (2, 16, sg.dim("none", min=0)))
    w = sg.shared(np.ones((16, 16, 2), np.float32))
    b = sg.shared(np.full((16, 1), 5, np.float32))
    f = sg.function([x], sg.conv1d(x, w, padding=1) + b, backend="cpu", precision="bf16")
    assert (f(np.zeros((2, 16, 0), np.float32)) == 5).all()
    assert f(np.ones((2, 16, 3), np.float32))[0, 0].tolist() == [21, 37, 37, 21]


def test_what_a_library_has_is_not_told_by_sizes_of_nothing() -> None:
    x = sg.tensor("x", (2, 16, sg.dim("none", min=0)))
    w = sg.shared(np.ones((16, 16, 2), np.float32))
    f = sg.function([x], sg.conv1d(x, w, padding=1), backend="cpu", precision="bf16")
    assert (f(np.zeros((2, 16, 0), np.float32)) == 0).all()
    assert f(np.ones((2, 16, 3), np.float32))[0, 0].tolist() == [16, 32, 32, 16]


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "unavailable", lambda: "llvmlite is not installed")
    with pytest.raises(DeviceError, match=r"step: the backend cpu .* llvmlite is not"):
        sg.function(*_x(), name="step", backend="cpu")
    with sg.config(backend="cpu"), pytest.raises(DeviceError):
        sg.function(*_x())
    for backend in ("auto", "reference"):
        f = sg.function(*_x(), backend=backend)
        assert f.backend == "reference"
        assert f([0]).tolist() == [1]


def test_a_compiled_function_is_not_copied() -> None:
    f = compiled(*_x())
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(GraphError, match="cannot be copied or pickled"):
            attempt(f)


def test_a_loop_without_operands_runs() -> None:
    x, state = sg.tensor("x", (2, 3)), sg.tensor("state", ())
    rows, _ = sg.scan(lambda row, before: before, [x - x], [state])
    gradient = sg.grad(sg.sum(sg.sin(sg.square(rows))), x, missing="zero")
    ours, theirs = both([x, state], [rows, gradient], np.ones((2, 3), np.float32), 2.0)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
