"""The promotion table as a table: against NumPy's, with every difference stated; weak numbers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from symgraph.config import config
from symgraph.errors import ArgumentTypeError, DTypeError
from symgraph.graph.dtypes import (
    ALL,
    BOOL,
    COMPLEX,
    FLOATS,
    INTEGERS,
    PROMOTION,
    SIGNED,
    has_gradient,
    is_float,
    numpy_dtype,
    promote,
    weak_dtype,
)
from symgraph.graph.leaves import tensor
from symgraph.graph.registry import F

PAIRS = list(itertools.product(ALL, ALL))
NUMPY_HAS = tuple(dtype for dtype in ALL if dtype != "bfloat16")


def stated_difference(first: str, second: str) -> str | None:
    """Give our answer where it differs from NumPy's on purpose, "-" where we have none."""
    if {first, second} & set(INTEGERS) and {first, second} & set(FLOATS):
        return first if is_float(first) else second  # NumPy widens: int32 with float32 is float64
    if {first, second} & set(INTEGERS) and "complex64" in (first, second):
        return "complex64"  # NumPy: complex128 from int32 on
    if "uint64" in (first, second) and {first, second} & set(SIGNED):
        return "-"  # NumPy: float64, which does not hold both either
    return None


def test_the_table_is_whole_and_symmetric() -> None:
    assert set(PROMOTION) == set(PAIRS)
    assert all(PROMOTION[a, b] == PROMOTION[b, a] for a, b in PAIRS)
    assert all(PROMOTION[a, a] == a for a in ALL)
    assert set(PROMOTION.values()) == {*ALL, "-"}


@pytest.mark.parametrize(("first", "second"), list(itertools.product(NUMPY_HAS, NUMPY_HAS)))
def test_against_numpy(first: str, second: str) -> None:
    numpys = str(np.promote_types(numpy_dtype(first), numpy_dtype(second)))
    expected = stated_difference(first, second)
    assert PROMOTION[first, second] == (expected if expected is not None else numpys)


@pytest.mark.parametrize("other", ALL)
def test_bfloat16(other: str) -> None:
    wide = {name: name for name in ("float32", "float64", *COMPLEX)} | {"float16": "float32"}
    assert PROMOTION["bfloat16", other] == wide.get(other, "bfloat16")


@pytest.mark.parametrize("kinds", [BOOL + INTEGERS, FLOATS, ALL])
def test_order_does_not_matter_within_a_kind(kinds: tuple[str, ...]) -> None:
    def met(*dtypes: str) -> str:
        try:
            return promote(*dtypes)
        except DTypeError:
            return "-"

    for a, b, c in itertools.product(kinds, repeat=3):
        orders = {met(*order) for order in itertools.permutations((a, b, c))}
        # an error may come or not, by what meets first; two different dtypes may never come
        assert len(orders - {"-"}) <= 1, (a, b, c, orders)


def test_no_common_dtype_is_an_error_with_a_fix() -> None:
    with pytest.raises(DTypeError, match="no dtype holds both uint64 and int8") as info:
        promote("uint64", "int8")
    assert "cast" in info.value.fix


@pytest.mark.parametrize("dtype", ALL)
def test_a_bool_takes_any_dtype(dtype: str) -> None:
    assert weak_dtype(True, dtype) == dtype


@pytest.mark.parametrize("dtype", ALL)
def test_an_int_takes_any_dtype_of_numbers(dtype: str) -> None:
    assert weak_dtype(3, dtype) == ("int64" if dtype == "bool" else dtype)


@pytest.mark.parametrize("dtype", ALL)
def test_a_float_takes_any_dtype_of_floats(dtype: str) -> None:
    assert weak_dtype(0.5, dtype) == (dtype if has_gradient(dtype) else "float32")


@pytest.mark.parametrize("dtype", ALL)
def test_a_complex_number_takes_the_precision_of_floats(dtype: str) -> None:
    wide = dtype in ("float64", "complex128")
    assert weak_dtype(1j, dtype) == ("complex128" if wide else "complex64")


@pytest.mark.parametrize(
    ("number", "alone"), [(True, "bool"), (1, "int64"), (1.0, "float32")], ids=str
)
def test_numbers_alone_take_the_defaults(number: Any, alone: str) -> None:
    assert weak_dtype(number, None) == alone


def test_the_default_float_is_a_setting() -> None:
    with config(float_dtype="float64"):
        assert weak_dtype(1.0, None) == "float64"
        assert weak_dtype(1.0, "int8") == "float64"
        assert weak_dtype(1.0, "float16") == "float16"


@pytest.mark.parametrize(
    ("number", "dtype"),
    [
        (-1, "uint8"),
        (256, "uint8"),
        (128, "int8"),
        (-129, "int8"),
        (2**63, "int64"),
        (2**64, "uint64"),
    ],
)
def test_an_int_that_does_not_fit_is_an_error(number: int, dtype: str) -> None:
    with pytest.raises(DTypeError, match=f"{number} does not fit into {dtype}") as info:
        weak_dtype(number, dtype)
    assert "wider" in info.value.fix


@pytest.mark.parametrize("dtype", INTEGERS)
def test_the_limits_fit(dtype: str) -> None:
    limits = np.iinfo(dtype)
    assert weak_dtype(int(limits.min), dtype) == dtype
    assert weak_dtype(int(limits.max), dtype) == dtype


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_operations_follow_the_table(first: str, second: str) -> None:
    x, y = tensor("x", (2,), first), tensor("y", (2,), second)
    if PROMOTION[first, second] == "-":
        with pytest.raises(DTypeError, match=r"^maximum: promotion: no dtype holds both"):
            F.maximum(x, y)
    elif (first, second) == ("bool", "bool"):
        assert F.equal(x, y).inputs[0].dtype == "bool"
    elif {first, second} & set(COMPLEX):
        assert F.add(x, y).dtype == PROMOTION[first, second]
    else:
        assert F.maximum(x, y).dtype == PROMOTION[first, second]


def test_strong_and_weak_operands() -> None:
    x = tensor("x", (2,), "float32")
    assert (x * 2.0).dtype == "float32"
    assert (x * np.float64(2.0)).dtype == "float64", "a NumPy number has a dtype of its own"
    assert (x * np.array([2.0, 3.0])).dtype == "float64"
    assert F.add(x, [1.0, 2.0]).dtype == "float32"
    assert (tensor("h", (2,), "float16") * 2).dtype == "float16"
    assert (tensor("i", (2,), "int8") * 2).dtype == "int8"
    assert (tensor("i", (2,), "int8") * 0.5).dtype == "float32"
    assert (tensor("i", (2,), "int8") / 2).dtype == "float32"
    assert (1 - x).dtype == "float32"


def test_what_is_no_number_is_an_error() -> None:
    x = tensor("x", (2,))
    with pytest.raises(ArgumentTypeError, match="str cannot be a value of the graph"):
        x + "1"
    with pytest.raises(ArgumentTypeError, match="bytes cannot be a value"):
        x * b"1"
