"""Neighbours and signs of floats, bit by bit, and the special values that the array API names."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.graph.index import Compute, evaluate
from symgraph.graph.registry import F

NATIVE = pytest.param(
    "cpu", marks=pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "a compiler")
)
inf, nan = float("inf"), float("nan")


def numbers(dtype: str) -> Any:
    """Give all numbers of a half precision, or telling ones of a wider one."""
    if dtype in ("float16", "bfloat16"):
        kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        return np.arange(1 << 16, dtype=np.uint16).view(kind)
    limits = np.finfo(dtype)
    positive = [0, limits.smallest_subnormal, limits.tiny, 1, 1.5, 2, limits.max, inf]
    return np.array([*positive, *(-one for one in positive), nan], dtype)


@pytest.mark.parametrize("backend", ["reference", NATIVE])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_next_number_is_numpys(dtype: str, backend: str) -> None:
    array = numbers(dtype)
    x, y = (sg.tensor(name, (len(array),), dtype) for name in "xy")
    f = sg.function([x, y], sg.nextafter(x, y), backend=backend)
    expression = sg.nextafter(x, y).op.expand(F, x, y)
    assert isinstance(expression, Compute)
    for towards in (inf, -inf, 0.0, -0.0, 1.0):
        target = np.full(array.shape, towards).astype(array.dtype)
        with np.errstate(all="ignore"):
            expected = np.where(array == target, target, np.nextafter(array, target))
        for found in (f(array, target), evaluate(expression, [array, target], {})[0]):
            assert found.dtype == expected.dtype
            same = (found == expected) | (np.isnan(found) & np.isnan(expected))
            assert same.all(), (towards, array[~same][:5], found[~same][:5], expected[~same][:5])
            assert (np.signbit(found) == np.signbit(expected))[~np.isnan(found)].all()


@pytest.mark.parametrize("backend", ["reference", NATIVE])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_signs_of_zeros_and_nans(dtype: str, backend: str) -> None:
    array = numbers(dtype)[::7]
    x = sg.tensor("x", (len(array),), dtype)
    f = sg.function([x], [sg.signbit(x), sg.copysign(1.0, x)], backend=backend)
    signs, ones = f(array)
    np.testing.assert_array_equal(signs, np.signbit(array))
    np.testing.assert_array_equal(ones.astype(float), np.where(np.signbit(array), -1.0, 1.0))


SPECIAL = {  # x, y, floor_divide, remainder; "x" of a float is what the standard leaves open
    "nan": (nan, 1.0, nan, nan),
    "by nan": (1.0, nan, nan, nan),
    "inf by inf": (inf, inf, nan, nan),
    "zero by zero": (0.0, 0.0, nan, nan),
    "by zero": (3.0, 0.0, inf, nan),
    "below by zero": (-3.0, 0.0, -inf, nan),
    "inf": (inf, 2.0, None, nan),  # inf in the standard, NaN in NumPy
    "by inf": (3.0, inf, 0.0, 3.0),
    "below by inf": (-3.0, inf, -1.0, inf),
    "by -inf": (3.0, -inf, -1.0, -inf),
    "below by -inf": (-3.0, -inf, 0.0, -3.0),
    "zero": (0.0, 2.0, 0.0, 0.0),
    "-zero": (-0.0, 2.0, -0.0, 0.0),
}


@pytest.mark.parametrize("backend", ["reference", NATIVE])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_division_of_special_values(dtype: str, backend: str) -> None:
    x, y = (sg.tensor(name, (len(SPECIAL),), dtype) for name in "xy")
    f = sg.function([x, y], [x // y, x % y], backend=backend)
    columns = [np.array(column, dtype) for column in list(zip(*SPECIAL.values()))[:2]]
    quotients, rests = f(*columns)
    for name, (_, _, quotient, rest), q, r in zip(SPECIAL, SPECIAL.values(), quotients, rests):
        for wanted, found in ((quotient, q), (rest, r)):
            if wanted is not None:
                np.testing.assert_equal(float(found), wanted, name)
