"""Elementwise operations: what the generated tests do not see."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from symgraph.dims import dim
from symgraph.errors import ArgumentTypeError, DTypeError, GradError, ShapeError
from symgraph.graph.dtypes import is_float, numpy_dtype
from symgraph.graph.elementwise import Elementwise
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import Input, constant, tensor
from symgraph.graph.node import Value
from symgraph.graph.registry import OPS, F
from symgraph.graph.walk import topological
from symgraph.ops import clip, exp, pow, relu, where
from tests.ops.registry_cases import NAMES, instances

INF, NAN = float("inf"), float("nan")


def value(found: Value, **named: Any) -> Any:
    """Compute a value from arrays by the name of the input."""
    feeds = {
        node: np.asarray(named[node.label], numpy_dtype(node.dtype))
        for node in topological([found])
        if isinstance(node.op, Input) and node.label in named
    }
    return interpret([found], feeds, {})[0]


def slope(build: Any, numbers: list[float], dtype: str = "float32", order: int = 1) -> list[float]:
    """Give the derivative of a function of one element at some numbers."""
    x = tensor("x", (len(numbers),), dtype)
    y = build(x)
    for _ in range(order):
        y = F.vjp(y, x, constant(np.ones(len(numbers), numpy_dtype(dtype))), missing="zero")
    return [float(one) for one in value(y, x=numbers)]


# -- derivatives at the edges ----------------------------------------------------------------------

EDGES = [-INF, -1e4, 0.0, 1e4, INF]
# fmt: off
AT_EDGES: dict[str, list[float]] = {
    #              -inf  -1e4   0     1e4  inf
    "sigmoid":    [0,     0,    0.25, 0,   0],
    "tanh":       [0,     0,    1,    0,   0],
    "softplus":   [0,     0,    0.5,  1,   1],
    "relu":       [0,     0,    0,    1,   1],
    "silu":       [0,     0,    0.5,  1,   1],
    "gelu":       [0,     0,    0.5,  1,   1],
    "elu":        [0,     0,    1,    1,   1],
    "leaky_relu": [0.01,  0.01, 0.01, 1,   1],
    "abs":        [-1,   -1,    0,    1,   1],
    "exp":        [0,     0,    1,    INF, INF],
    "expm1":      [0,     0,    1,    INF, INF],
    "atan":       [0,     1e-8, 1,    1e-8, 0],
    "asinh":      [0,     1e-4, 1,    1e-4, 0],
    "erf":        [0,     0,    2 / np.sqrt(np.pi), 0, 0],
    "erfc":       [0,     0,   -2 / np.sqrt(np.pi), 0, 0],
    "floor":      [0,     0,    0,    0,   0],
}
# fmt: on


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", list(AT_EDGES))
def test_derivatives_at_the_edges(name: str, dtype: str) -> None:
    found = slope(getattr(F, name), EDGES, dtype)
    allowed = 1e-2 if "16" in dtype else 1e-6
    np.testing.assert_allclose(found, AT_EDGES[name], rtol=allowed, atol=1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus", "silu", "gelu", "elu"])
def test_second_derivatives_stay_finite(name: str) -> None:
    found = slope(getattr(F, name), [-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4], order=2)
    assert np.all(np.isfinite(found)), found
    assert found[0] == 0
    assert found[-1] == 0


def test_gelu_by_tanh_at_the_edges() -> None:
    found = slope(lambda x: F.gelu(x, approximate=True), EDGES)
    np.testing.assert_allclose(found, [0, 0, 0.5, 1, 1], atol=1e-6)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4.0])
def test_pow_with_a_literal_exponent_at_zero_and_below(exponent: float) -> None:
    numbers = [-2.0, 0.0, 3.0]
    expected = [exponent * x ** max(exponent - 1, 0) for x in numbers]
    assert slope(lambda x: x**exponent, numbers) == pytest.approx(expected)
    bent = [exponent * (exponent - 1) * x ** max(exponent - 2, 0) for x in numbers]
    assert slope(lambda x: x**exponent, numbers, order=2) == pytest.approx(bent)


def test_pow_with_a_literal_exponent_builds_no_logarithm() -> None:
    x = tensor("x", (3,))
    gradient = F.vjp(x**2.5, x, constant(np.ones(3, np.float32)))
    assert "log" not in {node.op.name for node in topological([gradient])}


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_pow_with_a_computed_exponent_at_zero(exponent: float) -> None:
    x, y = tensor("x", (1,)), tensor("y", (1,))
    one = constant(np.ones(1, np.float32))
    by_x, by_y = F.vjp(F.pow(x, y), [x, y], one)
    bent = F.vjp(by_x, x, one)
    assert value(by_x, x=[0.0], y=[exponent]) == [1.0 if exponent == 1 else 0.0]
    assert value(by_y, x=[0.0], y=[exponent]) == [0.0]
    assert value(bent, x=[0.0], y=[exponent]) == [2.0 if exponent == 2 else 0.0]


def test_equals_share_the_gradient_of_maximum_and_minimum() -> None:
    x, y = tensor("x", (3,)), tensor("y", (3,))
    for build, mine in ((F.maximum, [0, 0.5, 1]), (F.minimum, [1, 0.5, 0])):
        by_x, by_y = F.vjp(build(x, y), [x, y], constant(np.ones(3, np.float32)))
        assert value(by_x, x=[1, 2, 3], y=[2, 2, 2]).tolist() == mine
        assert value(by_y, x=[1, 2, 3], y=[2, 2, 2]).tolist() == mine[::-1]


def test_the_gradient_of_clip_is_one_on_the_bounds() -> None:
    assert slope(lambda x: clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0]) == [0, 1, 1, 1, 0]
    assert slope(lambda x: x.clip(high=1), [-INF, 1.0, 2.0]) == [1, 1, 0]


@pytest.mark.parametrize("build", [relu, lambda x: where(x > 0, x, 0), lambda x: clip(x, low=0)])
def test_an_infinite_cotangent_makes_no_nan_where_the_gradient_is_zero(build: Any) -> None:
    x, g = tensor("x", (2,)), tensor("g", (2,))
    assert value(F.vjp(build(x), x, g), x=[-1.0, 1.0], g=[INF, INF]).tolist() == [0.0, INF]


def test_the_gradient_of_cast_is_cast_back() -> None:
    x = tensor("x", (2,), "float32")
    g = tensor("g", (2,), "float16")
    back = F.vjp(x.cast("float16"), x, g)
    assert back.dtype == "float32"
    assert value(back, g=[0.5, -2.0]).tolist() == [0.5, -2.0]
    with pytest.raises(GradError, match="every path is cut"):
        F.vjp(x.cast("int32").cast("float32"), x, constant(np.ones(2, np.float32)))


def test_stop_gradient_stops_it() -> None:
    x = tensor("x", (2,))
    one = constant(np.ones(2, np.float32))
    assert value(F.vjp(x * F.stop_gradient(x), x, one), x=[3.0, 4.0]).tolist() == [3.0, 4.0]
    with pytest.raises(GradError, match="every path is cut"):
        F.vjp(F.stop_gradient(x), x, one)


def test_a_broadcast_operand_gets_the_sum() -> None:
    row, column = tensor("row", (3,)), tensor("column", (2, 1))
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    by_row, by_column = F.vjp(row * column, [row, column], constant(weights))
    numbers = {"row": [1.0, 2.0, 3.0], "column": [[10.0], [20.0]]}
    assert value(by_row, **numbers).tolist() == [60.0, 90.0, 120.0]
    assert value(by_column, **numbers).tolist() == [[8.0], [26.0]]


# -- what comes out --------------------------------------------------------------------------------


def test_integers_are_kept_by_rounding_and_become_floats_elsewhere() -> None:
    i = tensor("i", (3,), "int16")
    assert F.floor(i) is i
    assert F.round(i) is i
    assert exp(i).dtype == "float32"
    assert (i / i).dtype == "float32"
    assert (i // 2).dtype == "int16"
    assert F.sqrt(F.cast(i, "float64")).dtype == "float64"


def test_floor_division_is_by_the_true_quotient() -> None:
    x = tensor("x", (2,), "float64")
    assert value(x // 0.1, x=[1.0, -1.0]).tolist() == [1.0 // 0.1, -1.0 // 0.1]


def test_division_of_integers_by_zero_gives_zero() -> None:
    x = tensor("x", (3,), "int32")
    assert value(x // 0, x=[7, 0, -7]).tolist() == [0, 0, 0]
    assert value(x % 0, x=[7, 0, -7]).tolist() == [0, 0, 0]
    assert value(pow(x, -1), x=[7, 0, 1]).tolist() == [0, 0, 0]


def test_half_precisions_compute_in_float32() -> None:
    x = tensor("x", (1,), "float16")
    # 300 squared overflows float16; the root of it does not
    silu = value(F.logaddexp(x, x), x=[11.0])
    assert silu.dtype == np.float16
    assert float(silu[0]) == pytest.approx(11 + np.log(2), rel=1e-3)
    assert np.isinf(value(F.square(x), x=[300.0]))


def test_numbers_on_either_side_of_operators() -> None:
    x = tensor("x", (2,))
    assert value(1 - x, x=[3.0, 4.0]).tolist() == [-2.0, -3.0]
    assert value(2 / x, x=[4.0, 8.0]).tolist() == [0.5, 0.25]
    assert value(2**x, x=[3.0, 4.0]).tolist() == [8.0, 16.0]
    assert value((x > 3) & ~(x > 5), x=[4.0, 6.0]).tolist() == [True, False]
    assert value(np.sin(x), x=[0.0, 1.0])[1] == pytest.approx(np.sin(1.0))


def test_casting_to_the_same_dtype_is_nothing() -> None:
    x = tensor("x", (2,))
    assert F.cast(x, "float32") is x
    assert F.cast(x, float) is x


# -- errors ----------------------------------------------------------------------------------------


def test_broadcast_error_shows_both_operands() -> None:
    size = dim("B")
    h = tensor("h", (size, 3))
    bias = tensor("bias", (4,))
    with pytest.raises(ShapeError) as info:
        h + bias
    text = str(info.value)
    assert text.startswith("add: cannot broadcast (B, 3) with (4,)")
    assert "h    : float32[B, 3]   made at test_elementwise.py:" in text
    assert "bias : float32[4]      made at test_elementwise.py:" in text
    assert "fix: " in text


def test_a_wrong_number_of_operands_is_an_error() -> None:
    x = tensor("x", (2,))
    with pytest.raises(ArgumentTypeError, match=r"^maximum: takes 2 operands \(x, y\), got 1"):
        F.maximum(x)


def test_bools_are_not_numbers() -> None:
    x = tensor("x", (2,), "bool")
    with pytest.raises(DTypeError, match=r"^add: takes numbers, not bool") as info:
        x + x
    assert "cast" in info.value.fix


# -- what follows from a body ----------------------------------------------------------------------

ELEMENTWISE = [name for name in NAMES if name in OPS and issubclass(OPS[name], Elementwise)]
REAL = [
    name
    for name in ELEMENTWISE
    if any(all(is_float(x.dtype) for x in node.inputs) for _, node in instances(name))
    and OPS[name].result == "same"  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_operation_is_documented(name: str) -> None:
    assert OPS[name].__doc__
    assert len(str(OPS[name].__doc__)) > 10
    assert getattr(F, name).__doc__


@pytest.fixture
def _deep() -> Iterator[None]:
    """Let SymPy call itself for each level of a continued fraction."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.usefixtures("_deep")
def test_the_formula_means_the_same(name: str) -> None:
    import sympy

    op, node = next(
        (op, node)
        for op, node in instances(name)
        if all(is_float(x.dtype) for x in node.inputs) and node.inputs
    )
    assert isinstance(op, Elementwise)
    symbols = sympy.symbols(f"x0:{len(node.inputs)}", real=True)
    formula = sympy.sympify(op.formula(*symbols))
    assert formula.free_symbols <= set(symbols)
    middles = [sum(area) / 2 + 0.13 for area in (*op.domain, *op.domain, *op.domain)]
    numbers = dict(zip(symbols, middles))
    inputs = [tensor(f"x{i}", (), "float64") for i in range(len(symbols))]
    arrays = [np.asarray(numbers[symbol]) for symbol in symbols]
    found = op.ref(np, *arrays)
    assert len(inputs) == len(arrays)
    assert float(formula.subs(numbers).evalf()) == pytest.approx(float(found), rel=1e-9)
