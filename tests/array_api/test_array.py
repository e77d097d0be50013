"""`Array`: computed when asked, once, changed by rebinding, read by Python, NumPy and DLPack."""

from __future__ import annotations

import copy
import gc
import math
import operator
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import symgraph as sg
import symgraph.array_api as xp
from symgraph.array_api import cell
from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    GraphError,
    IndexRangeError,
    ShapeError,
)  # fmt: skip
from symgraph.graph.node import alive


def counted(calls: list[int]) -> Any:
    """Make an operation that notes when it is computed."""

    def note(numbers: np.ndarray[Any, Any]) -> None:
        calls.append(numbers.size)

    return lambda x: xp.array.call("tap", x, note)


# -- when it is computed ---------------------------------------------------------------------------


def test_nothing_is_computed_before_it_is_asked_for_and_then_once() -> None:
    calls: list[int] = []
    x = counted(calls)(xp.asarray([1.0, 2.0]))
    y, z = x + 1.0, x * 2.0
    assert not calls
    assert not y.is_computed
    assert (y.shape, y.dtype, y.ndim, y.size) == ((2,), "float32", 1, 2)
    assert np.asarray(y).tolist() == [2.0, 3.0]
    assert x.is_computed  # on the way
    assert np.asarray(z).tolist() == [2.0, 4.0]
    assert np.asarray(x).tolist() == [1.0, 2.0]
    assert repr(y) == "Array([2., 3.], dtype=float32)"
    assert calls == [2]


def test_equal_expressions_are_computed_together() -> None:
    calls: list[int] = []
    note = counted(calls)
    x = note(xp.asarray([1.0, 2.0, 3.0]))
    first, second = xp.sin(x), xp.sin(x)
    assert first.expression is second.expression
    assert float(first[0]) == pytest.approx(math.sin(1.0))
    assert second.is_computed
    assert calls == [3]


def test_a_loop_that_never_asks_does_not_grow_without_bound() -> None:
    x = xp.asarray([1.0, 2.0])
    before = alive()
    for _ in range(5 * cell.DEEPEST):
        x = x * 0.5 + 1.0
    gc.collect()
    assert alive() - before < 3 * cell.DEEPEST
    assert np.asarray(x).tolist() == [2.0, 2.0]


def test_what_was_computed_is_forgotten_with_its_arrays() -> None:
    x = xp.asarray(np.arange(5000.0))
    gc.collect()
    known, nodes = len(cell._computed), alive()
    y = xp.exp(x)
    z = y + 1.0
    assert float(y[0]) == 1.0
    assert len(cell._computed) > known
    assert float(z[0]) == 2.0
    del y, z
    gc.collect()
    assert len(cell._computed) == known
    assert alive() <= nodes


def test_an_expression_can_be_taken_out_and_put_in() -> None:
    w = xp.asarray([1.0, 2.0, 3.0])
    loss = xp.sum(w * w)
    assert str(loss.expression.type) == "float32"
    assert sg.grad(loss.expression, w.expression).eval().tolist() == [2.0, 4.0, 6.0]
    assert float(xp.asarray(loss.expression + 1)) == 15.0
    with pytest.raises(GraphError, match="no array for the input `x`"):
        xp.asarray(sg.tensor("x", (2,)))


# -- changing it -----------------------------------------------------------------------------------

IN_PLACE = [
    (operator.iadd, 2), (operator.isub, 2), (operator.imul, 3), (operator.ifloordiv, 2),
    (operator.imod, 3), (operator.ipow, 2), (operator.iand, 6), (operator.ior, 8),
    (operator.ixor, 5), (operator.ilshift, 2), (operator.irshift, 1),
]  # fmt: skip


@pytest.mark.parametrize(("change", "number"), IN_PLACE)
def test_operators_in_place_change_the_array_and_nothing_else(change: Any, number: int) -> None:
    numbers = np.array([[1, 2], [3, 4]])
    x = same = xp.asarray(numbers)
    before = x + 0
    twin = xp.asarray(x)
    x = change(x, number)
    assert x is same
    assert np.asarray(x).tolist() == change(numbers.copy(), number).tolist()
    assert np.asarray(before).tolist() == np.asarray(twin).tolist() == numbers.tolist()


def test_division_and_products_in_place() -> None:
    x = xp.asarray([[1.0, 2.0], [3.0, 4.0]])
    x /= 2.0
    x @= xp.asarray([[0.0, 1.0], [1.0, 0.0]])
    assert np.asarray(x).tolist() == [[1.0, 0.5], [2.0, 1.5]]


def test_in_place_neither_dtype_nor_shape_may_change() -> None:
    x = xp.asarray([1.0, 2.0])
    with pytest.raises(ArgumentTypeError, match=r"float32\[2\] cannot become complex64\[2\]"):
        x += 1j
    with pytest.raises(ArgumentTypeError, match=r"float32\[2\] cannot become float32\[3, 2\]"):
        x += xp.ones((3, 2))
    assert np.asarray(x).tolist() == [1.0, 2.0]


KEYS: list[Any] = [
    0, -1, (1, 2), slice(None), slice(1, None), slice(None, None, -1), (slice(None), 0), ...,
    (..., 1), (None, 0), (slice(0, 0),), (0, slice(2, 0, -2)), (slice(None), None, slice(1, 3)), (),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_keys_select_and_assign_as_in_numpy(key: Any) -> None:
    numbers = np.arange(12.0, dtype="float32").reshape(3, 4)
    x = xp.asarray(numbers)
    np.testing.assert_array_equal(np.asarray(x[key]), numbers[key])
    x[key] = -1.0
    changed = numbers.copy()
    changed[key] = -1.0
    np.testing.assert_array_equal(np.asarray(x), changed)


def test_integer_arrays_and_masks_select_and_assign_as_in_numpy() -> None:
    numbers = np.arange(12, dtype="int32").reshape(3, 4)
    places = np.array([2, 0, -1])
    mask = numbers % 3 == 0
    for key in (
        (places, places),
        (places, 1),
        (slice(None), places),
        mask,
        mask[:, 0],
        (0, mask[0]),
    ):
        ours: Any = tuple(xp.asarray(k) if isinstance(k, np.ndarray) else k for k in (
            key if isinstance(key, tuple) else (key,)))  # fmt: skip
        x = xp.asarray(numbers)
        np.testing.assert_array_equal(np.asarray(x[ours]), numbers[key])
        x[ours] = xp.asarray(-5, dtype="int8")
        changed = numbers.copy()
        changed[key] = -5
        np.testing.assert_array_equal(np.asarray(x), changed)
    x = xp.asarray(numbers)
    x[x > 5] = xp.asarray([0, 1, 2, 3, 4, 5], dtype="int32")
    assert np.asarray(x)[1:].tolist() == [[4, 5, 0, 1], [2, 3, 4, 5]]
    nothing = xp.asarray(numbers)[xp.asarray(numbers) > 99]
    assert nothing.shape == (0,)
    for yes in (True, False):
        assert xp.asarray(7)[xp.asarray(yes)].shape == np.asarray(7)[np.asarray(yes)].shape
        assert x[xp.asarray(yes)].shape == numbers[np.asarray(yes)].shape
        y = xp.asarray(7)
        y[xp.asarray(yes)] = 8
        assert int(y) == 7 + yes


def test_complex_elements_are_set_by_integers_and_masks() -> None:
    x = xp.asarray([1.0, 2j, 3.0])
    x[xp.asarray([0, 2])] = xp.asarray([1j, 2.0])
    x[x == 2j] = 5.0
    assert np.asarray(x).tolist() == [1j, 5.0, 2.0]


def test_a_mask_of_nothing_selects_nothing() -> None:
    x = xp.ones((3, 2))
    assert x[xp.zeros((3, 0), dtype="bool")].shape == (0,)
    assert x[xp.zeros((0,), dtype="bool")].shape == (0, 2)
    x[xp.zeros((0, 2), dtype="bool")] = 7.0
    assert float(xp.sum(x)) == 6.0
    with pytest.raises(IndexRangeError, match=r"a mask of \(2,\) does not fit axis 0"):
        x[xp.zeros((2,), dtype="bool")]


def test_wrong_keys_and_values_are_refused() -> None:
    x = xp.asarray([1, 2, 3])
    with pytest.raises(IndexRangeError, match="3 is out of range"):
        x[3]
    with pytest.raises(DTypeError, match="index: takes integer or boolean arrays"):
        x[xp.asarray([0.0])]
    with pytest.raises(DTypeError, match="assignment: a Python float does not meet"):
        x[0] = 0.5
    with pytest.raises(DTypeError, match="assignment: int64 and float32 are of different kinds"):
        x[0] = xp.asarray(0.5)
    with pytest.raises(DTypeError, match="an array of int8 does not hold int64"):
        xp.zeros(2, dtype="int8")[0] = x[0]
    with pytest.raises(ArgumentTypeError, match=r"assignment: takes arrays .* got list"):
        x[0] = [1]
    assert np.asarray(x).tolist() == [1, 2, 3]


# -- Python, NumPy, DLPack -------------------------------------------------------------------------


def test_copies_are_arrays_of_their_own_and_files_hold_numbers() -> None:
    x = xp.asarray([1.0, 2.0]) + 1.0
    others = [copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))]
    x[0] = 9.0
    for other in others:
        assert (other.dtype, np.asarray(other).tolist()) == ("float32", [2.0, 3.0])


def test_threads_compute_one_expression() -> None:
    x = xp.ones(1000)
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            shifted = x + float(number)
            found = list(pool.map(lambda _: float(xp.sum(shifted)), range(8)))  # noqa: B023
            assert found == [1000.0 * (number + 1)] * 8


def test_numpys_float_is_one_of_python() -> None:
    x = xp.ones(2)
    for found in (x * np.float64(2.0), np.float64(2.0) * x, xp.add(x, np.float64(1.0))):
        assert (found.dtype, np.asarray(found).tolist()) == ("float32", [2.0, 2.0])


def test_numbers_of_python() -> None:
    assert (bool(xp.asarray(3)), bool(xp.asarray(0.0)), int(xp.asarray(2.7))) == (True, False, 2)
    assert (float(xp.asarray(3)), complex(xp.asarray(1 + 2j))) == (3.0, 1 + 2j)
    assert [10, 20, 30][xp.asarray(1)] == 20
    assert range(9)[xp.asarray(2) : xp.asarray(4)] == range(2, 4)
    assert [float(one) for one in xp.asarray([1.0, 2.0])] == [1.0, 2.0]
    assert len(xp.zeros((4, 2))) == 4
    with pytest.raises(ArgumentTypeError, match=r"float: .* shape \(1,\)"):
        float(xp.asarray([1.0]))
    with pytest.raises(DTypeError, match="int: takes real-valued"):
        int(xp.asarray(1j))
    with pytest.raises(DTypeError, match="index: takes integer arrays"):
        [1, 2][xp.asarray(1.0)]
    with pytest.raises(ArgumentTypeError, match="len: an array without axes"):
        len(xp.asarray(1))
    with pytest.raises(TypeError, match="unhashable"):
        hash(xp.asarray(1))
    with pytest.raises(ArgumentTypeError, match="not made by calling"):
        xp.Array([1])


def test_numpy_reads_and_cannot_write() -> None:
    x = xp.asarray([1.0, 2.0])
    numbers = np.asarray(x)
    with pytest.raises(ValueError, match="read-only"):
        numbers[0] = 5
    own = np.array(x)
    own[0] = 5
    assert np.asarray(x).tolist() == [1.0, 2.0]
    assert np.asarray(x, dtype="float64").dtype == np.float64
    given = np.array([1.0, 2.0])
    y = xp.asarray(given)
    given[0] = 9
    assert np.asarray(y).tolist() == [1.0, 2.0]
    for operation in (operator.add, operator.mul, operator.matmul):
        with pytest.raises(ArgumentTypeError, match=r"takes arrays of .* got ndarray"):
            operation(np.ones(2), x)
        with pytest.raises(ArgumentTypeError, match=r"takes arrays of .* got ndarray"):
            operation(x, np.ones(2))
        with pytest.raises(ArgumentTypeError, match="got float32"):
            operation(x, np.float32(2))
    with pytest.raises(ArgumentTypeError, match="equal: takes arrays"):
        _ = x == np.ones(2)


def test_dlpack_goes_both_ways() -> None:
    x = xp.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert x.__dlpack_device__() == (1, 0)
    there = np.from_dlpack(x)
    assert there.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert not there.flags.writeable
    own = np.from_dlpack(x, copy=True)
    own[0, 0] = 9
    back = xp.from_dlpack(own)
    own[0, 0] = 10
    assert float(back[0, 0]) == 9.0
    assert float(x[0, 0]) == 1.0
    assert float(xp.from_dlpack(x)[1, 1]) == 4.0
    with pytest.raises(BufferError, match="read only"):
        x.__dlpack__(copy=False)
    with pytest.raises(ArgumentError, match="numbers of others are copied"):
        xp.from_dlpack(own, copy=False)
    with pytest.raises(ArgumentTypeError, match="list has no `__dlpack__`"):
        xp.from_dlpack([1])


def test_copies_and_devices() -> None:
    x = xp.asarray([1.0])
    for other in (
        xp.asarray(x),
        xp.asarray(x, copy=True),
        xp.astype(x, x.dtype),
        x.to_device("cpu"),
    ):
        other[0] = 7.0
    assert float(x[0]) == 1.0
    assert xp.astype(x, x.dtype, copy=False) is x
    assert float(xp.asarray(x, copy=False)[0]) == 1.0
    for wrong in (lambda: xp.asarray(np.ones(1), copy=False),
                  lambda: xp.asarray(x, dtype="float64", copy=False)):  # fmt: skip
        with pytest.raises(ArgumentError, match="copy=False"):
            wrong()
    for wrong in (lambda: x.to_device("gpu"), lambda: xp.zeros(1, device="cuda"),
                  lambda: x.to_device("cpu", stream=1)):  # fmt: skip
        with pytest.raises(ArgumentError):
            wrong()


def test_nested_lists_may_hold_arrays() -> None:
    x = xp.asarray([[xp.asarray(1.5), 2.0], [3.0, xp.sum(xp.ones(4))]])
    assert (x.dtype, np.asarray(x).tolist()) == ("float32", [[1.5, 2.0], [3.0, 4.0]])
    with pytest.raises(DTypeError, match="dtype: <U4 is not"):
        xp.asarray("text")
    with pytest.raises(DTypeError, match="asarray: it"):
        xp.asarray([300], dtype="int8")


def test_large_whole_numbers_of_lists_are_exact() -> None:
    numbers = [[1, 2**64 - 1], [2**63 + 1, 0]]  # NumPy makes floats of them
    assert np.asarray(xp.asarray(numbers, dtype="uint64")).tolist() == numbers
    with pytest.raises(DTypeError, match=r"it is int64, .* does not fit"):
        xp.asarray(numbers)


def test_transposes_need_axes() -> None:
    x = xp.asarray([[1, 2, 3]])
    assert x.T.shape == x.mT.shape == (3, 1)
    with pytest.raises(ShapeError, match="T: takes matrices"):
        _ = xp.ones((2, 2, 2)).T


def test_symbolic_values_and_arrays_build_graph_together() -> None:
    x = sg.tensor("x", (3,))
    y = xp.asarray([1.0, 2.0, 3.0])
    for built in (x + y, y + x, y * x, x == y, y == x, y @ x):
        assert isinstance(built, sg.Value)
    assert (y + x).eval(x=[1, 1, 1]).tolist() == [2.0, 3.0, 4.0]


def test_a_compiled_function_takes_arrays() -> None:
    @sg.jit
    def norm(v: Any) -> Any:
        space = v.__array_namespace__()
        return space.sqrt(space.sum(v * v))

    x = xp.asarray([3.0, 4.0])
    assert float(norm(x)) == float(norm.__wrapped__(x)) == 5.0


def test_float_dtype_follows_the_setting() -> None:
    with sg.config(float_dtype="float64"):
        assert xp.asarray(0.5).dtype == xp.zeros(1).dtype == xp.arange(0.5).dtype == "float64"
        assert xp.__array_namespace_info__().default_dtypes()["complex floating"] == "complex128"


def test_floats_beyond_their_dtype_are_infinite() -> None:
    assert xp.asarray(3.5e38) == float("inf")
    np.testing.assert_array_equal(np.asarray(xp.asarray([-1e39, 1.0])), [-np.inf, 1])
    narrow = xp.asarray(np.array([7e4, 2.0]), dtype="float16")
    np.testing.assert_array_equal(np.asarray(narrow), [np.inf, 2])
    with pytest.raises(DTypeError, match="does not fit"):
        xp.asarray(300, dtype="uint8")
    with pytest.raises(DTypeError, match="give lists of equal lengths"):
        xp.asarray([[1.0], [2.0, 3.0]])


def test_without_a_copy_it_is_the_same_array() -> None:
    x = xp.asarray([1, 2, 3])
    same, other = xp.asarray(x, copy=False), xp.asarray(x)
    x[0] = 7
    assert int(same[0]) == 7
    assert int(other[0]) == 1
