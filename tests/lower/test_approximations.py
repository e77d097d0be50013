"""The bodies of transcendental operations against mpmath, point by point, in units in last place.

Bodies are computed with NumPy, one scalar after another; the oracles are mpmath, fractions, Python
integers, and for special values NumPy's own functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

from symgraph.errors import DTypeError
from symgraph.graph.scalar import ROWS, Scalar, const, operands_of, scalar_order
from symgraph.lower.approximations.power import power
from symgraph.lower.approximations.table import TABLE, body
from symgraph.lower.approximations.trigonometric import DIGITS, TURN

Array = Any
Range = tuple[float, float]

MP = mpmath.MPContext()
MP.prec = 140
DTYPES = ("float32", "float64")
BITS = {"float32": np.uint32, "float64": np.uint64}
DIGITS_OF = {"float32": 24, "float64": 53}
LEAST = {"float32": -149, "float64": -1074}  # exponent of the least subnormal number
TOP = {"float32": 128, "float64": 1024}

PRIMITIVE = {
    "add", "sub", "mul", "div", "fma", "idiv", "imod", "neg", "abs", "sign", "min", "max", "sqrt",
    "floor", "ceil", "rint", "trunc", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not",
    "isnan", "isinf", "bitand", "bitor", "bitxor", "bitnot", "shl", "shr", "select", "cast",
    "bitcast", "const", "axis", "size", "operand", "load", "reduce", "row", "take", "philox",
}  # fmt: skip

EXACT: dict[str, Callable[..., Any]] = {
    "exp": MP.exp, "expm1": MP.expm1, "log": MP.log, "log1p": MP.log1p, "sin": MP.sin,
    "cos": MP.cos, "tan": MP.tan, "asin": MP.asin, "acos": MP.acos, "atan": MP.atan,
    "atan2": MP.atan2, "sinh": MP.sinh, "cosh": MP.cosh, "tanh": MP.tanh, "erf": MP.erf,
    "erfc": lambda x: MP.erfc(min(max(x, -40.0), 40.0)), "pow": MP.power,
}  # fmt: skip

NUMPY: dict[str, Callable[..., Array]] = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "atan2": np.arctan2, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "erfc": np.vectorize(math.erfc, otypes=[np.float64]),
    "pow": np.power, "fmod": np.remainder,
}  # fmt: skip

# where formulas change, results overflow or vanish, and cancel
EDGES: dict[str, Sequence[float]] = {
    "exp": (0, 88.7228, -87.3365, -103.97, 709.7827, -708.396, -745.13),
    "expm1": (0, 88.7228, 709.7827, -17.3, -36.7, 0.34657, -0.34657),
    "log": (1, 2 / 3, 4 / 3, 0.5, 2, 1e-38, 1e-308),
    "log1p": (0, -1, -0.5, -1 / 3, 1 / 3, 1, 2.0**24, 2.0**53, 3.4e38, 1.7e308),
    "sin": (0, 1e-4, 0.78539816, 2.0**20, -(2.0**20), 2.0**28, -(2.0**28), 2.0**79, -(2.0**79)),
    "cos": (0, 1e-4, 0.78539816, 2.0**20, 2.0**28, 2.0**79),
    "tan": (0, 1e-4, 0.78539816, 2.0**20, 2.0**28, 2.0**79),
    "asin": (0, 0.5, -0.5, 1, -1),
    "acos": (0, 0.5, -0.5, 1, -1),
    "atan": (0, 1, -1, 1e8, 1e17),
    "sinh": (0, 1, -1, 89.4159, 710.4758, 2.0857, 3.467),
    "cosh": (0, 1, 89.4159, 710.4758, 11.78),
    "tanh": (0, 0.625, -0.625, 0.22, 9.01, 19.06, -19.06),
    "erf": (0, 0.9, -0.9, 1, 3.92, 5.9),
    "erfc": (0, 0.5, 1, -1, 9.19, 10.05, 26.54, 27.22, -4, -5.9),
}
RANGES: dict[str, Sequence[Range]] = {
    "exp": ((-1, 1), (-104, 89), (-745, 710)),
    "expm1": ((-1, 1), (-40, 89), (-40, 710)),
    "log": ((0.3, 3), (0, 1000)),
    "log1p": ((-1, 1), (-0.4, 3), (0, 1000)),
    "sin": ((-1, 1), (-30, 30), (-1e6, 1e6), (-3e8, 3e8)),
    "cos": ((-1, 1), (-30, 30), (-1e6, 1e6), (-3e8, 3e8)),
    "tan": ((-1, 1), (-30, 30), (-1e6, 1e6), (-3e8, 3e8)),
    "asin": ((-1, 1), (0.49, 0.6)),
    "acos": ((-1, 1), (0.49, 0.6)),
    "atan": ((-1, 1), (-4, 4), (-100, 100)),
    "sinh": ((-1, 1), (-12, 12), (-711, 711)),
    "cosh": ((-1, 1), (-12, 12), (-711, 711)),
    "tanh": ((-1, 1), (0.15, 0.3), (-20, 20)),
    "erf": ((-1, 1), (0.8, 2), (-6, 6)),
    "erfc": ((-1, 1), (0.9, 3), (-6, 28)),
}
UNARY = sorted(RANGES)


def compute(operands: Sequence[Scalar], value: Scalar, *arrays: Array) -> Array:
    """Compute a scalar expression with NumPy."""
    values: dict[Scalar, Any] = dict(zip(operands, arrays))
    with np.errstate(all="ignore"):
        for node in scalar_order([value]):
            if node in values:
                continue
            args = [values[part] for part in node.args]
            if node.op == "const":
                values[node] = np.asarray(node.attr, node.dtype)
            elif node.op in ("cast", "bitcast"):
                values[node] = ROWS[node.op].numpy(np, *args, node.dtype)  # type: ignore[misc]
            else:
                values[node] = ROWS[node.op].numpy(np, *args)  # type: ignore[misc]
            assert np.asarray(values[node]).dtype == node.dtype, node
    return np.broadcast_to(values[value], np.broadcast_shapes(*(a.shape for a in arrays)))


def run(op: str, *arrays: Array) -> Array:
    found = body(op, str(arrays[0].dtype))
    assert found is not None
    return compute(found.operands, found.value, *arrays)


def distance(got: float, exact: Any, dtype: str) -> float:
    """How far a float is from the exact number, in units of the last place of that number.

    Infinity counts as the power of two after the largest float, and so does what is beyond.
    """
    top = MP.mpf(2) ** TOP[dtype]
    exact = min(max(MP.mpf(exact), -top), top)
    value = math.copysign(1, got) * top if math.isinf(got) else MP.mpf(got)
    if exact == value:
        return 0.0
    exponent = MP.mag(exact) if exact else LEAST[dtype]
    unit = max(min(exponent, TOP[dtype]) - DIGITS_OF[dtype], LEAST[dtype])
    return float(abs(value - exact) / MP.mpf(2) ** unit)


def worst(op: str, got: Array, *arrays: Array, exact: Callable[..., Any]) -> tuple[float, Any]:
    """Give the largest distance, and where it is."""
    dtype = str(got.dtype)
    columns = zip(got.tolist(), *(a.tolist() for a in arrays))
    found = [(distance(value, exact(*at), dtype), at) for value, *at in columns]
    return max(found, default=(0.0, None), key=lambda pair: pair[0])


def around(places: Sequence[float], dtype: str) -> Array:
    """Give floats next to some places, and some near them."""
    rng = np.random.default_rng(5)
    wanted = [p for p in places if abs(p) <= float(np.finfo(dtype).max)]
    bits = np.asarray(wanted, dtype).view(BITS[dtype]).astype(object)
    steps = [*range(-8, 9), *(int(s) for s in rng.integers(-(2**14), 2**14, 40))]
    moved = [int(b) + s for b in bits for s in steps]
    inside = [b for b in moved if 0 <= b < 2 ** (8 * np.dtype(dtype).itemsize)]
    return np.asarray(inside, BITS[dtype]).view(dtype)


def random_floats(count: int, dtype: str, seed: int = 1) -> Array:
    """Give floats of random bits that are finite."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, np.iinfo(BITS[dtype]).max, count, BITS[dtype], endpoint=True)
    floats = bits.view(dtype)
    return floats[np.isfinite(floats)]


def specials(dtype: str) -> Array:
    limits = np.finfo(dtype)
    some = [0, 1, 2, 3, 0.5, 0.25, 1.5, 100, 1e-10, 1e10, 2.0**52, 2.0**53, math.inf, math.nan]
    edge = [limits.smallest_subnormal, limits.tiny / 2, limits.tiny, limits.max, limits.eps,
            np.nextafter(np.asarray(1, dtype), 0), np.nextafter(np.asarray(1, dtype), 2),
            np.nextafter(np.asarray(2, dtype), 0), 1 / limits.max]  # fmt: skip
    positive = np.asarray([*some, *edge], dtype)
    return np.concatenate([positive, -positive])


def test_every_operation_is_primitive_or_has_a_body() -> None:
    assert set(TABLE) | PRIMITIVE == set(ROWS)
    assert not set(TABLE) & PRIMITIVE
    assert all(body(op, dtype) is None for op in PRIMITIVE for dtype in DTYPES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", sorted(TABLE))
def test_a_body_is_made_of_primitive_operations(op: str, dtype: str) -> None:
    found = body(op, dtype)
    assert found is not None
    assert found.value.dtype == dtype
    assert list(found.operands) == operands_of([dtype] * ROWS[op].arity)
    assert {node.op for node in scalar_order([found.value])} <= PRIMITIVE
    assert body(op, dtype) is found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", UNARY)
def test_a_function_is_within_its_bound(op: str, dtype: str) -> None:
    rng = np.random.default_rng(2)
    inside = [rng.uniform(low, high, 800).astype(dtype) for low, high in RANGES[op]]
    x = np.concatenate([random_floats(1500, dtype), around(EDGES[op], dtype), *inside])
    got = run(op, x)
    with np.errstate(all="ignore"):
        defined = ~np.isnan(NUMPY[op](x))
    np.testing.assert_array_equal(~np.isnan(got), defined)
    defined &= np.isfinite(x)
    if op in ("log", "log1p"):
        defined &= x != (0 if op == "log" else -1)  # a pole
    error, at = worst(op, got[defined], x[defined], exact=EXACT[op])
    assert error <= body(op, dtype).ulp, at


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["sin", "cos", "tan"])
def test_multiples_of_a_quarter_turn(op: str, dtype: str) -> None:
    """There the result is what is left after almost all digits have cancelled."""
    hardest = [16367173 * 2.0**72] if dtype == "float32" else [6381956970095103 * 2.0**797]
    rng = np.random.default_rng(3)
    # of a float64 those below 2**20 have a reduction of their own
    counts = 2.0 ** np.concatenate([rng.uniform(0, TOP[dtype] - 2, 1000), rng.uniform(0, 21, 1000)])
    near = [float(MP.floor(MP.mpf(n)) * MP.pi / 2) for n in counts]
    x = np.asarray([*hardest, *near, *(k * math.pi / 2 for k in range(1, 200))], dtype)
    error, at = worst(op, run(op, x), x, exact=EXACT[op])
    assert error <= body(op, dtype).ulp, at


def test_the_digits_of_a_turn() -> None:
    with mpmath.workprec(DIGITS + 64):
        assert int(mpmath.floor(mpmath.mpf(2) ** DIGITS / (2 * mpmath.pi))) == TURN


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", sorted(TABLE))
def test_special_values_are_those_of_numpy(op: str, dtype: str) -> None:
    values = specials(dtype)
    arrays = [values] if ROWS[op].arity == 1 else [a.ravel() for a in np.meshgrid(values, values)]
    got = run(op, *arrays)
    with np.errstate(all="ignore"):
        wanted = np.asarray(NUMPY[op](*arrays)).astype(dtype)
    special = np.isnan(wanted) | np.isinf(wanted) | (wanted == 0)
    np.testing.assert_array_equal(got[special], wanted[special])
    np.testing.assert_array_equal(np.signbit(got[wanted == 0]), np.signbit(wanted[wanted == 0]))
    # NumPy's own functions are off by a few units
    epsilon, least = np.finfo(dtype).eps, np.finfo(dtype).smallest_subnormal
    np.testing.assert_allclose(
        got[~special], wanted[~special], rtol=float(12 * epsilon), atol=float(8 * least)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_is_within_its_bound(dtype: str) -> None:
    rng = np.random.default_rng(4)
    top = float(TOP[dtype])

    def grid(low: float, high: float, reach: float, count: int = 800) -> tuple[Array, Array]:
        base = 2.0 ** rng.uniform(low, high, count)
        return base.astype(dtype), rng.uniform(-reach, reach, count).astype(dtype)

    pairs = [grid(-10, 10, 12), grid(-top, top - 1, 1), grid(-1, 1, top), grid(-0.1, 0.1, 9 * top),
             grid(-1e-4, 1e-4, 1e4 * top)]  # fmt: skip
    x, y = (np.concatenate(parts) for parts in zip(*pairs))
    error, at = worst("pow", run("pow", x, y), x, y, exact=EXACT["pow"])
    assert error <= body("pow", dtype).ulp, at
    whole = rng.integers(-9, 9, len(x)).astype(dtype)
    error, at = worst("pow", run("pow", -x, whole), -x, whole, exact=EXACT["pow"])
    assert error <= body("pow", dtype).ulp, at
    assert np.isnan(run("pow", -x[:300], whole[:300] + np.asarray(0.5, dtype))).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_atan2_is_within_its_bound(dtype: str) -> None:
    rng = np.random.default_rng(5)
    x, y = random_floats(500, dtype, 1)[:450], random_floats(500, dtype, 2)[:450]
    turns = rng.uniform(-np.pi, np.pi, 500)
    size = 2.0 ** rng.uniform(-100, 100, 500)
    x = np.concatenate([x, (np.cos(turns) * size).astype(dtype)])
    y = np.concatenate([y, (np.sin(turns) * size).astype(dtype)])
    error, at = worst("atan2", run("atan2", y, x), y, x, exact=EXACT["atan2"])
    assert error <= body("atan2", dtype).ulp, at


@pytest.mark.parametrize("dtype", DTYPES)
def test_fmod_is_the_exact_remainder_rounded_once(dtype: str) -> None:
    rng = np.random.default_rng(6)
    a, b = random_floats(400, dtype, 3)[:350], random_floats(400, dtype, 4)[:350]
    near = rng.integers(-1000, 1000, 350).astype(dtype)
    with np.errstate(over="ignore"):
        a = np.concatenate([a, rng.normal(size=350).astype(dtype) * 1000, near * b / 7, near])
    b = np.concatenate([b, rng.normal(size=350).astype(dtype), b, np.where(near == 0, 1, near / 8)])
    a, b = a[np.isfinite(a) & (b != 0)], b[np.isfinite(a) & (b != 0)].astype(dtype)
    got = run("fmod", a, b)
    for value, top, bottom in zip(got.tolist(), a.tolist(), b.tolist()):
        p, q = Fraction(top), Fraction(bottom)
        rest = p - (p // q) * q
        exact = MP.mpf(rest.numerator) / rest.denominator
        assert distance(value, exact, dtype) <= 0.5 + 1e-9, (top, bottom)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, np.remainder(a, b))


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
def test_integer_powers_wrap(dtype: str) -> None:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(7)
    x = rng.integers(limits.min, limits.max, 200, dtype, endpoint=True)
    y = rng.integers(limits.min, limits.max, 200, dtype, endpoint=True)
    y[:120] = rng.integers(-4 if limits.min else 0, 12, 120)
    x[:60] = rng.integers(-4 if limits.min else 0, 5, 60)
    found = body("pow", dtype)
    assert found is not None
    assert found.ulp == 0
    got = compute(found.operands, found.value, x, y)
    wanted = [
        0 if e < 0 else (pow(b, e, 2**limits.bits) - limits.min) % 2**limits.bits + limits.min
        for b, e in zip(x.tolist(), y.tolist())
    ]
    assert got.tolist() == wanted
    np.testing.assert_array_equal(got, ROWS["pow"].numpy(np, x, y))  # type: ignore[misc]


def test_other_dtypes_have_no_body() -> None:
    with pytest.raises(DTypeError, match="no body for int32"):
        body("exp", "int32")
    with pytest.raises(DTypeError, match="no body for float16"):
        body("pow", "float16")


# -- powers with literal exponents ----------------------------------------------------------------

QUARTERS = [k / 4 for k in range(-32, 33)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_literal_powers(dtype: str) -> None:
    operands = operands_of([dtype])
    rng = np.random.default_rng(8)
    size = TOP[dtype] / 4
    x = np.concatenate([2.0 ** rng.uniform(-size, size, 60), -(2.0 ** rng.uniform(-9, 9, 20)),
                        2.0 ** rng.uniform(-4 * size, 4 * size - 1, 60)]).astype(dtype)  # fmt: skip
    values = specials(dtype)
    for exponent in QUARTERS:
        value = power(operands[0], exponent)
        assert value is not None
        got = compute(operands, value, x)
        with np.errstate(all="ignore"):
            # of whole arrays: with one exponent NumPy may take a root, which differs at -0 and -inf
            undefined = np.isnan(np.power(x, np.full_like(x, exponent)))
            wanted = np.power(values, np.full_like(values, exponent))
        np.testing.assert_array_equal(np.isnan(got), undefined)
        error, at = worst("pow", got[~undefined], x[~undefined],
                          exact=lambda b, e=exponent: MP.power(b, e))  # fmt: skip
        assert error <= (3.5 if abs(exponent) <= 2 else 8), (exponent, at)
        special = np.isnan(wanted) | np.isinf(wanted) | (wanted == 0)
        got = compute(operands, value, values)
        np.testing.assert_array_equal(got[special], wanted[special], err_msg=str(exponent))
        np.testing.assert_array_equal(
            np.signbit(got[wanted == 0]), np.signbit(wanted[wanted == 0]), err_msg=str(exponent)
        )


def test_literal_powers_end_somewhere() -> None:
    (x,) = operands_of(["float32"])
    assert power(x, 1.0) is x
    assert power(x, 0.0) is const(1.0, "float32")
    assert power(x, 0.3) is None
    assert power(x, 9.0) is None
    assert power(x, math.inf) is None
    assert power(x, math.nan) is None
    assert power(operands_of(["int32"])[0], 2) is None


# -- fma -------------------------------------------------------------------------------------------


def rounded(exact: Fraction, dtype: str) -> float:
    """Round to the nearest float, ties to even, with integers only."""
    size = abs(exact)
    if not size:
        return 0.0
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > size
    unit = Fraction(2) ** max(exponent - DIGITS_OF[dtype] + 1, LEAST[dtype])
    near = round(size / unit) * unit
    value = math.inf if near >= 2 ** TOP[dtype] else float(near)
    return value if exact > 0 else -value


@pytest.mark.parametrize("dtype", DTYPES)
def test_fma_rounds_once(dtype: str) -> None:
    rng = np.random.default_rng(9)
    digits, least = DIGITS_OF[dtype], LEAST[dtype]
    a, b, c = (random_floats(1000, dtype, seed)[:900] for seed in (1, 2, 3))
    p, q, r = rng.normal(size=(3, 900)).astype(dtype)
    one = np.asarray(1, dtype)
    off = one + (rng.integers(-3, 4, 900) * np.finfo(dtype).eps).astype(dtype)
    ties = rng.integers(1, 2 ** (digits - 1), (2, 900)).astype(dtype)
    small = np.ldexp(r, rng.integers(least, least + 60, 900)).astype(dtype)
    cases = [
        (a, b, c),  # of all sizes, overflow too
        (p, q, -(p * q) * off),  # cancellation
        (ties[0], ties[1] * 0 + 3, ties[1] * np.asarray(2.0**digits, dtype)),  # nearly halves
        (np.ldexp(p, least // 2), np.ldexp(q, least // 2), small),  # subnormal results
        (p, q, small),
    ]
    for parts in cases:
        parts = tuple(np.asarray(part, dtype) for part in parts)
        got = ROWS["fma"].numpy(np, *parts)  # type: ignore[misc]
        assert got.dtype == dtype
        for value, x, y, z in zip(got.tolist(), *(part.tolist() for part in parts)):
            wanted = rounded(Fraction(x) * Fraction(y) + Fraction(z), dtype)
            assert value == wanted, (x, y, z)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fma_of_special_values(dtype: str) -> None:
    large = float(np.finfo(dtype).max)
    a, b, c = np.asarray([
        (math.inf, 0, 1), (math.inf, 1, -math.inf), (large, large, -math.inf), (math.nan, 1, 1),
        (1, 1, math.nan), (-0.0, 1, -0.0), (0, 1, -0.0), (1, -1, 1), (large, 2, -large),
        (-1e-30, 1e-30, 0), (large, large, large),
    ], dtype).T  # fmt: skip
    got = ROWS["fma"].numpy(np, a, b, c)  # type: ignore[misc]
    wanted = [math.nan, math.nan, -math.inf, math.nan, math.nan, -0.0, 0.0, 0.0, large,
              -1e-60 if dtype == "float64" else -0.0, math.inf]  # fmt: skip
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    np.testing.assert_allclose(got, np.asarray(wanted, dtype), rtol=1e-6)
    np.testing.assert_array_equal(np.signbit(got)[5:], np.signbit(wanted)[5:])


def test_fma_of_integers_and_shapes() -> None:
    fma = ROWS["fma"].numpy
    assert fma is not None
    assert fma(np, np.int32(3), np.int32(4), np.int32(5)) == 17
    assert fma(np, np.ones((3, 1)), np.ones(4), np.asarray(1.0)).shape == (3, 4)
    assert fma(np, np.float32(2), np.float32(3), np.float32(4)).dtype == np.float32
