"""Elementwise functions against NumPy's of the same name: every dtype, special values included."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import symgraph.array_api as xp
from symgraph.errors import ArgumentTypeError, DTypeError
from tests.array_api.standard import FUNCTIONS, TAKES, WORDS, lines

NAMES = [line.split("(")[0] for line in lines(FUNCTIONS["elementwise"])]
WORD_OF = {name: word for word, names in TAKES.items() for name in names.split()}
CASES = [
    (name, dtype) for name in NAMES for dtype in WORDS[WORD_OF[name]].split() if name != "clip"
]
# where libraries that compute complex numbers differ, and the standard leaves it open; expm1 of
# infinite real parts is another number in NumPy than in the standard (test_special_values.py)
OPEN = {
    "reciprocal": lambda z: z == 0,
    "sign": lambda z: ~np.isfinite(np.abs(z)),
    "expm1": lambda z: ~np.isfinite(z.real),
}


def special(dtype: str) -> np.ndarray[Any, Any]:
    """Give numbers of a dtype among which all special ones are."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return np.array([True, False])
    if kind in "iu":
        limits = np.iinfo(dtype)
        small = [0, 1, 2, 3, 5] if kind == "u" else [0, 1, -1, 2, -3, 5]
        return np.array([*small, limits.max, limits.max - 1, limits.min], dtype)
    real = dtype.replace("complex128", "float64").replace("complex64", "float32")
    limits = np.finfo(real)
    numbers = np.array(
        [0.0, -0.0, 1, -1, 0.5, -2.5, 1.5, 3.7, 1e-6, -100, np.inf, -np.inf, np.nan,
         limits.max, limits.tiny], real,
    )  # fmt: skip
    if kind == "f":
        return numbers
    parts = np.stack([one.ravel() for one in np.meshgrid(numbers, numbers)], axis=-1)
    return np.ascontiguousarray(parts).view(dtype)[:, 0]


def pairs(name: str, dtype: str) -> list[np.ndarray[Any, Any]]:
    """Give all pairs of special numbers that a function is defined for."""
    numbers = special(dtype)[:: 11 if dtype.startswith("complex") else 1]
    first, second = (one.ravel() for one in np.meshgrid(numbers, numbers))
    if name.endswith("shift"):
        second = np.clip(second, 0, np.dtype(dtype).itemsize * 8 - 1)
    if name == "pow" and np.dtype(dtype).kind == "i":
        second = np.clip(second, 0, None)
    return [first, second]


def assert_near(found: xp.Array, wanted: np.ndarray[Any, Any], where: Any = True) -> None:
    """Compare dtype, shape and numbers, the signs of zeros too; only where it is asked for."""
    numbers = np.asarray(found)
    assert (numbers.dtype, numbers.shape) == (wanted.dtype, wanted.shape)
    chosen = np.broadcast_to(where, wanted.shape)
    numbers, wanted = numbers[chosen], wanted[chosen]
    if wanted.dtype.kind in "biu":
        np.testing.assert_array_equal(numbers, wanted)
        return
    close = 64 * np.finfo(wanted.dtype).eps
    if wanted.dtype.kind == "c":  # a part may be small beside the other
        both = np.isfinite(wanted) & np.isfinite(numbers)
        near = both & (np.abs(numbers - wanted) <= close * np.abs(wanted))
        numbers, wanted = (one[~near].view(one.real.dtype) for one in (numbers, wanted))
    np.testing.assert_allclose(numbers, wanted, rtol=close, atol=0)
    zero = (wanted == 0) & (numbers == 0)
    if wanted.dtype.kind == "f" and not np.iscomplexobj(found):
        np.testing.assert_array_equal(np.signbit(numbers[zero]), np.signbit(wanted[zero]))


@pytest.mark.parametrize(("name", "dtype"), CASES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_function_gives_what_numpy_gives(name: str, dtype: str) -> None:
    function = getattr(xp, name)
    count = len(inspect.signature(function).parameters)
    operands = [special(dtype)] if count == 1 else pairs(name, dtype)
    wanted = np.asarray(getattr(np, name)(*operands))
    asked: Any = True
    if dtype.startswith("complex") and name in OPEN:
        asked = ~OPEN[name](operands[0])
    assert_near(function(*map(xp.asarray, operands)), wanted, asked)


@pytest.mark.parametrize("name", NAMES)
def test_a_function_refuses_what_the_standard_leaves_out(name: str) -> None:
    function, word = getattr(xp, name), WORD_OF[name]
    count = 1 if name == "clip" else len(inspect.signature(function).parameters)
    for dtype in set(WORDS["any"].split()) - set(WORDS[word].split()):
        x = xp.asarray(special(dtype))
        with pytest.raises(DTypeError, match=f"{name}: takes {word} arrays"):
            function(*[x] * count)


SPECIAL = [  # cases of the standard, which NumPy's function does not decide here
    (xp.floor_divide, (-0.0, -1.0), 0.0),
    (xp.floor_divide, (-1.0, -2.5), 0.0),
    (xp.floor_divide, (-0.0, float("inf")), -0.0),
    (xp.floor_divide, (1.0, float("-inf")), -1.0),
    (xp.remainder, (-0.0, 2.0), 0.0),
    (xp.remainder, (0.0, -2.0), -0.0),
    (xp.copysign, (1.0, -0.0), -1.0),
    (xp.hypot, (float("inf"), float("nan")), float("inf")),
    (xp.pow, (float("nan"), 0.0), 1.0),
    (xp.maximum, (1.0, float("nan")), float("nan")),
    (xp.nextafter, (0.0, -0.0), -0.0),
]


@pytest.mark.parametrize(("function", "operands", "wanted"), SPECIAL)
def test_special_cases_of_the_standard(function: Any, operands: Any, wanted: float) -> None:
    found = function(*(xp.asarray(one, dtype="float64") for one in operands))
    assert_near(found, np.asarray(wanted))


SHAPES = [((), ()), ((3,), ()), ((2, 1, 3), (4, 1)), ((0,), (1,)), ((2, 0), (1, 1)), ((1,), (5,))]


@pytest.mark.parametrize(("first", "second"), SHAPES)
def test_shapes_are_broadcast(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    x = np.arange(np.prod(first, dtype=int), dtype="float32").reshape(first)
    y = np.arange(np.prod(second, dtype=int), dtype="float64").reshape(second) + 1
    assert_near(xp.divide(xp.asarray(x), xp.asarray(y)), np.asarray(x / y))
    assert_near(xp.less(xp.asarray(x), xp.asarray(y)), np.asarray(x < y))


@pytest.mark.parametrize("one", WORDS["any"].split())
def test_arrays_of_one_kind_meet_and_others_do_not(one: str) -> None:
    for other in WORDS["any"].split():
        assert_they_meet_or_not(one, other)


def assert_they_meet_or_not(one: str, other: str) -> None:
    kinds = ({"bool"}, set(WORDS["integer"].split()), set(WORDS["floating-point"].split()))
    together = any({one, other} <= kind for kind in kinds)
    signed = "uint64" in (one, other) and one.startswith("int") | other.startswith("int")
    x, y = xp.zeros(1, dtype=one), xp.zeros(1, dtype=other)
    if together and not signed:
        assert xp.result_type(x, y) == np.result_type(one, other).name
        assert (x == y).dtype == "bool"
        assert xp.where(x == y, x, y).dtype == np.result_type(one, other).name
    else:
        with pytest.raises(DTypeError):
            xp.equal(x, y)
        with pytest.raises(DTypeError):
            xp.result_type(x, y)


NUMBERS = [
    ("bool", True, "bool"), ("bool", 1, None), ("int8", 3, "int8"), ("int8", 300, None),
    ("int8", True, None), ("uint64", 2**64 - 1, "uint64"), ("int32", 0.5, None),
    ("float32", 2, "float32"), ("float32", 0.5, "float32"), ("float32", 1j, "complex64"),
    ("float64", 1j, "complex128"), ("complex64", 0.5, "complex64"), ("int16", 1j, None),
    ("float32", False, None),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "number", "wanted"), NUMBERS)
def test_a_python_number_takes_the_dtype_of_the_array(
    dtype: str, number: Any, wanted: str | None
) -> None:
    x = xp.ones(2, dtype=dtype)
    if wanted is None:
        with pytest.raises(DTypeError):
            xp.equal(x, number)
        with pytest.raises(DTypeError):
            xp.result_type(x, number)
        return
    assert xp.result_type(x, number) == wanted
    assert xp.where(x == x, x, number).dtype == wanted
    if dtype == "bool":
        assert np.asarray(x & number).tolist() == np.asarray(number & x).tolist()
    else:
        assert_near(x * number, np.ones(2, dtype) * np.asarray(number, wanted))
        assert_near(number - x, np.asarray(number, wanted) - np.ones(2, dtype))


def test_two_numbers_are_no_arrays() -> None:
    with pytest.raises(ArgumentTypeError, match="add: takes at least one array"):
        xp.add(1, 2)
    with pytest.raises(ArgumentTypeError, match="sin: takes arrays of symgraph"):
        xp.sin(np.ones(2))
    with pytest.raises(ArgumentTypeError, match="add: takes arrays"):
        xp.add(xp.ones(2), np.ones(2))


def test_clip_keeps_the_dtype_and_takes_open_sides() -> None:
    x = np.array([-5, 0, 300], "int16")
    for low, high in ((None, None), (-1, None), (None, 7), (-1, 7)):
        wanted = x if low is None is high else np.clip(x, low, high)
        assert_near(xp.clip(xp.asarray(x), low, high), wanted)
    bounds = xp.asarray([0, 1, 2], dtype="int8")
    assert_near(xp.clip(xp.asarray(x), max=bounds), np.array([-5, 0, 2], "int16"))
    with pytest.raises(DTypeError, match="clip: a bound of int32 is wider"):
        xp.clip(xp.asarray(x), xp.asarray(0, dtype="int32"))
