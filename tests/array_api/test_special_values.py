"""Infinities, NaNs and signed zeros: what the standard says of them, for real and complex numbers.

The real table is written down by hand. Complex functions are compared with `cmath`, which follows
C99, as the standard does; where both leave a sign open, it is not compared.
"""

from __future__ import annotations

import cmath
import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

import symgraph as sg
import symgraph.array_api as xp

INF, NAN, PI = math.inf, math.nan, math.pi
Case = tuple[str, tuple[float, ...], float]


def same(found: float, wanted: float, *, signed: bool = True) -> bool:
    """Whether two numbers are the same, up to rounding; NaN is NaN, and zeros have signs."""
    if not signed:
        found, wanted = abs(found), abs(wanted)
    if math.isnan(wanted):
        return math.isnan(found)
    if wanted == 0:
        return found == 0 and math.copysign(1, found) == math.copysign(1, wanted)
    return found == wanted or math.isclose(found, wanted, rel_tol=1e-5)


def quotients(x: float, y: float) -> Iterator[Case]:
    """Give the cases of a quotient of two positive numbers, and of their negatives."""
    for a, b in itertools.product((1, -1), (1, -1)):
        sign, zero = a * b, math.copysign(0.0, a)
        yield "divide", (a * INF, b * INF), NAN
        yield "divide", (zero, b * 0.0), NAN
        yield "divide", (zero, b * y), sign * 0.0
        yield "divide", (a * x, b * 0.0), sign * INF
        yield "divide", (a * INF, b * y), sign * INF
        yield "divide", (a * x, b * INF), sign * 0.0
        yield "floor_divide", (a * INF, b * INF), NAN
        yield "floor_divide", (zero, b * y), sign * 0.0
        yield "floor_divide", (a * x, b * 0.0), sign * INF
        yield "floor_divide", (a * INF, b * y), NAN  # as in Python: the standard allows it
        yield "floor_divide", (a * x, b * INF), 0.0 if sign > 0 else -1.0  # likewise
        yield "remainder", (zero, b * y), b * 0.0
        yield "remainder", (a * x, b * INF), a * x if sign > 0 else b * INF
        for wrong in ((a * INF, b * y), (a * x, b * 0.0), (a * INF, b * INF), (zero, b * 0.0)):
            yield "remainder", wrong, NAN


def odd(s: int) -> Iterator[Case]:
    """Give the cases of functions with f(-x) = -f(x), and others, on one side of 0."""
    for name in (
        "asin", "asinh", "atan", "atanh", "sin", "sinh", "tan", "tanh", "sqrt", "floor", "ceil",
        "trunc", "round", "expm1", "log1p",
    ):  # fmt: skip
        yield name, (s * 0.0,), s * 0.0
    for name in ("ceil", "floor", "round", "trunc", "sinh", "asinh"):
        yield name, (s * INF,), s * INF
    for name in ("sin", "cos", "tan", "atanh", "asin", "acos"):
        yield name, (s * INF,), NAN
    yield from [
        ("atan", (s * INF,), s * PI / 2), ("tanh", (s * INF,), s), ("atanh", (s * 1.0,), s * INF),
        ("cosh", (s * INF,), INF), ("sign", (s * 0.0,), 0.0), ("abs", (s * 0.0,), 0.0),
        ("reciprocal", (s * 0.0,), s * INF), ("reciprocal", (s * INF,), s * 0.0),
        ("negative", (s * 0.0,), -s * 0.0), ("copysign", (2.0, s * 0.0), s * 2.0),
        ("hypot", (s * INF, NAN), INF), ("hypot", (NAN, s * INF), INF),
        ("hypot", (s * 0.0, 0.0), 0.0),
        ("atan2", (s * 0.0, 0.0), s * 0.0), ("atan2", (s * 0.0, -0.0), s * PI),
        ("atan2", (s * 0.0, -1.0), s * PI), ("atan2", (s * 1.0, s * 0.0), s * PI / 2),
        ("atan2", (s * INF, INF), s * PI / 4), ("atan2", (s * INF, -INF), s * 3 * PI / 4),
        ("atan2", (s * 2.0, INF), s * 0.0), ("atan2", (s * 2.0, -INF), s * PI),
        ("pow", (s * 0.0, 3.0), s * 0.0), ("pow", (s * 0.0, -3.0), s * INF),
        ("pow", (s * 0.0, 2.0), 0.0), ("pow", (s * 0.0, -2.0), INF), ("pow", (s * 0.0, 0.5), 0.0),
        ("pow", (s * INF, 0.5), INF), ("pow", (s * INF, 3.0), s * INF),
        ("pow", (s * INF, -3.0), s * 0.0), ("signbit", (s * 0.0,), float(s < 0)),
        ("signbit", (math.copysign(NAN, s),), float(s < 0)), ("nextafter", (0.0, s * 0.0), s * 0.0),
    ]  # fmt: skip


ONE_BY_ONE: list[Case] = [
    ("pow", (NAN, 0.0), 1.0), ("pow", (1.0, NAN), 1.0), ("pow", (-2.0, 0.5), NAN),
    ("pow", (2.0, INF), INF), ("pow", (2.0, -INF), 0.0), ("pow", (0.5, INF), 0.0),
    ("pow", (0.5, -INF), INF), ("acosh", (0.5,), NAN), ("acosh", (1.0,), 0.0),
    ("acos", (1.0,), 0.0),
    ("exp", (-INF,), 0.0), ("expm1", (-INF,), -1.0), ("log", (0.0,), -INF), ("log", (-1.0,), NAN),
    ("log1p", (-1.0,), -INF), ("log1p", (-2.0,), NAN), ("log2", (0.0,), -INF),
    ("log10", (-0.0,), -INF), ("sqrt", (-1.0,), NAN), ("square", (-INF,), INF),
    ("round", (0.5,), 0.0), ("round", (-0.5,), -0.0), ("round", (2.5,), 2.0),
    ("ceil", (-0.5,), -0.0),
    ("trunc", (-0.5,), -0.0), ("add", (-0.0, -0.0), -0.0), ("add", (INF, -INF), NAN),
    ("subtract", (-0.0, 0.0), -0.0), ("multiply", (INF, -0.0), NAN), ("sign", (NAN,), NAN),
    ("logaddexp", (-INF, -INF), -INF), ("logaddexp", (INF, -INF), INF),
    ("maximum", (INF, NAN), NAN),
    ("minimum", (NAN, -INF), NAN), ("logaddexp", (NAN, 1.0), NAN), ("nextafter", (1.0, NAN), NAN),
]  # fmt: skip
REAL = [*quotients(1.5, 2.0), *odd(1), *odd(-1), *ONE_BY_ONE]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_real_numbers(dtype: str) -> None:
    wrong = []
    for name, numbers, wanted in REAL:
        operands = [xp.asarray(number, dtype=getattr(xp, dtype)) for number in numbers]
        found = float(getattr(xp, name)(*operands))
        if not same(found, wanted):
            wrong.append(f"{name}{numbers} is {found}, not {wanted}")
    assert not wrong


COMPLEX = (
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "log", "log10", "sin",
    "sinh", "sqrt", "tan", "tanh",
)  # fmt: skip
PARTS = (0.0, -0.0, 0.7, -2.5, INF, -INF, NAN)
# At 0 and NaN these say more than C99: the standard's word, and C23's, is in the second table.
OPEN = {
    ("acosh", 0.0, NAN): (NAN, PI / 2),
    ("tanh", 0.0, NAN): (0.0, NAN),
    ("tan", NAN, 0.0): (NAN, 0.0),
}


def wanted_of(name: str, a: float, b: float) -> tuple[float, float] | None:
    """Give the parts of a function at a + bj; None where `cmath` raises."""
    key = (name, abs(a), abs(b))
    for known, parts in OPEN.items():
        if all(one is other or one == other or (one != one and other != other)
               for one, other in zip(key, known)):  # fmt: skip
            return parts
    try:
        found: complex = getattr(cmath, name)(complex(a, b))
    except (ValueError, OverflowError):
        return None
    return found.real, found.imag


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers(name: str, dtype: str) -> None:
    """Signs are open where a part is NaN, or both are infinite."""
    grid = list(itertools.product(PARTS, PARTS))
    numbers = xp.asarray([complex(a, b) for a, b in grid], dtype=getattr(xp, dtype))
    wrong, compared = [], 0
    for (a, b), found in zip(grid, np.asarray(getattr(xp, name)(numbers)), strict=True):
        wanted = wanted_of(name, a, b)
        if wanted is None:
            continue
        compared += 1
        signed = not (math.isnan(a) or math.isnan(b) or (math.isinf(a) and math.isinf(b)))
        parts = float(found.real), float(found.imag)
        if not all(same(one, other, signed=signed) for one, other in zip(parts, wanted)):
            wrong.append(f"{name}({a}, {b}) is {parts}, not {wanted}")
    assert not wrong
    assert compared > 30


# a, b, and the parts of exp(a + bj) - 1; the last column says whether signs are told
EXPM1 = [
    (0.0, 0.0, 0.0, 0.0, True), (-0.0, 0.0, -0.0, 0.0, False), (1.0, INF, NAN, NAN, True),
    (1.0, NAN, NAN, NAN, True), (INF, 0.0, INF, 0.0, True), (INF, 1.0, INF, INF, True),
    (INF, 2.0, -INF, INF, True), (-INF, 1.0, -1.0, 0.0, True), (-INF, INF, -1.0, 0.0, False),
    (INF, INF, INF, NAN, False), (-INF, NAN, -1.0, 0.0, False), (INF, NAN, INF, NAN, False),
    (NAN, 0.0, NAN, 0.0, True), (NAN, 1.0, NAN, NAN, True), (NAN, NAN, NAN, NAN, True),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_expm1_of_complex_numbers(dtype: str) -> None:
    z = sg.tensor("z", (sg.dim("N"),), dtype)
    numbers = np.array([complex(a, b) for a, b, *_ in EXPM1], dtype)
    eager = np.asarray(xp.expm1(xp.asarray(numbers)))
    for found in (eager, sg.function([z], sg.expm1(z))(numbers)):
        for one, (a, b, real, imaginary, signed) in zip(found, EXPM1, strict=True):
            assert same(float(one.real), real, signed=signed), (a, b, one)
            assert same(float(one.imag), imaginary, signed=signed), (a, b, one)
            upside_down = np.asarray(xp.expm1(xp.asarray(complex(a, -b), dtype=xp.complex128)))
            assert same(float(upside_down.imag), -imaginary, signed=signed), (a, b)


def test_a_power_of_one_half_is_no_root() -> None:
    """NumPy takes a root where the exponent is one number, which is another function below 0."""
    for exponent in (0.5, xp.asarray(0.5), xp.asarray([0.5]), xp.asarray([0.5, 0.5, 0.5])):
        found = np.asarray(xp.asarray([-0.0, -INF, 4.0]) ** exponent)
        assert found.tolist() == [0.0, INF, 2.0]
        assert not np.signbit(found).any()
