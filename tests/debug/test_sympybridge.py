"""Graphs as SymPy expressions, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy

import symgraph as sg
from symgraph.errors import ArgumentError, ArgumentTypeError

A, B = sympy.symbols("a b", real=True)
NUMBERS = {"a": np.array([0.3, 0.7, 0.9]), "b": np.array([-0.4, 0.2, 0.8])}
EXPRESSIONS = [
    A + B + 1, A * B / 3, A**2 - B**3, 1 / A, A**-2, sympy.sqrt(A), 1 / sympy.sqrt(A), A**B,
    A ** sympy.Rational(1, 3), sympy.exp(B) * sympy.log(A), sympy.sin(A) + sympy.cos(B),
    sympy.tan(A), sympy.asin(B), sympy.acos(B), sympy.atan(B), sympy.atan2(B, A), sympy.sinh(A),
    sympy.cosh(B), sympy.tanh(A * B), sympy.asinh(A), sympy.acosh(1 + A), sympy.atanh(B),
    sympy.erf(A), sympy.erfc(B), sympy.Abs(B), sympy.sign(B), sympy.floor(3 * B),
    sympy.ceiling(B), sympy.Mod(B, A), sympy.Max(A, B, 0), sympy.Min(A, B),
    sympy.Piecewise((A, B > 0), (B, sympy.Rational(1, 2) < A), (sympy.pi, True)),
    sympy.sec(A) + sympy.csc(A) + sympy.cot(A), sympy.Heaviside(B), sympy.E * A + sympy.GoldenRatio,
    sympy.Piecewise((1, sympy.And(A > 0, ~(B > 0))), (2, sympy.Or(B > A, A < 0)), (3, True)),
    sympy.Float("0.1") * A - sympy.Rational(2, 7), sympy.Integer(4),
]  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=str)
def test_expressions_compute_what_sympy_says(expression: Any) -> None:
    with sg.config(float_dtype="float64"):
        values = {A: sg.vector("a", "float64"), "b": sg.vector("b", "float64")}
        value = sg.from_sympy(expression, values)
        names = {leaf.label for leaf in values.values()}
        given = {name: NUMBERS[name] for name in names if sympy.Symbol(name, real=True)
                 in expression.free_symbols}  # fmt: skip
        found = np.broadcast_to(value.eval(**given), 3)
    for place in range(3):
        numbers = {A: NUMBERS["a"][place], B: NUMBERS["b"][place]}
        assert float(found[place]) == pytest.approx(float(expression.subs(numbers)), rel=1e-12)


def test_graphs_become_what_they_compute() -> None:
    x, y = sg.tensor("x", (3,), "float64"), sg.tensor("y", (), "float64")
    X, Y = sympy.symbols("x y", real=True)
    assert sg.to_sympy(x * y + 2) == X * Y + 2
    assert sg.to_sympy(sg.sigmoid(x)).subs(X, 0) == sympy.Rational(1, 2)
    assert sg.to_sympy(sg.where(x > y, x, -y)) == sympy.Piecewise((X, X > Y), (-Y, True))
    assert sg.to_sympy(x * 0.1) == X * sympy.Float("0.1")
    assert sg.to_sympy(x.cast("float32") * np.full(3, 0.1, np.float32)) == X * sympy.Float("0.1")
    assert sg.to_sympy(sg.constant(float("-inf"))) == -sympy.oo
    assert sg.to_sympy(sg.constant(True)) is sympy.true
    slope = sg.grad(sg.tanh(x).sum(), x)
    assert sympy.simplify(sg.to_sympy(slope) - sympy.diff(sympy.tanh(X), X)) == 0
    T = sympy.Symbol("T")
    assert sg.to_sympy(sg.size_of(sg.dim("N")) * x, {x: T}).subs(T, 2).free_symbols


def test_there_and_back_is_the_same() -> None:
    x, y = sg.vector("x", "float64"), sg.vector("y", "float64")
    value = sg.exp(-x * y) * sg.maximum(x, y) + sg.where(x < 0.5, sg.sin(x), sg.atan2(x, y))
    again = sg.from_sympy(sg.to_sympy(value), {"x": x, "y": y})
    given = {"x": NUMBERS["a"], "y": NUMBERS["b"]}
    np.testing.assert_allclose(again.eval(**given), value.eval(**given), rtol=1e-12)


def test_a_deep_expression() -> None:
    expression = A
    for _ in range(300):
        expression = sympy.sin(expression, evaluate=False)
    assert sg.from_sympy(expression, {A: sg.constant(0.5)}).eval() < 0.5


def test_mistakes() -> None:
    x = sg.vector("x")
    with pytest.raises(ArgumentError, match="no value for `a`, `b`"):
        sg.from_sympy(A + B, {})
    with pytest.raises(ArgumentError, match=r"no operation for `besselj` in besselj\(0, a\)"):
        sg.from_sympy(sympy.besselj(0, A), {A: x})
    with pytest.raises(ArgumentError, match="I is no real number"):
        sg.from_sympy(sympy.I * A, {A: x})
    with pytest.raises(ArgumentError, match="`sum` is not elementwise"):
        sg.to_sympy(x.sum() + 1)
    with pytest.raises(ArgumentError, match="two values are called `x`"):
        sg.to_sympy(x + sg.tensor("x", x.shape))
    with pytest.raises(ArgumentError, match="holds several numbers"):
        sg.to_sympy(x * np.array([1.0, 2.0], np.float32))
    with pytest.raises(ArgumentTypeError, match="takes a value, got int"):
        sg.to_sympy(3)  # type: ignore[arg-type]
