"""To SymPy and back, checked by SymPy's own evaluation."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings

from symgraph.dims import anonymous, bounds, dim, dims, evaluate, from_sympy, maximum, to_sympy
from symgraph.errors import DimError
from tests.dims.formulas import SYMBOLS, Formula, box, formulas

sympy = pytest.importorskip("sympy")

B, C = dims("B C")
Z = dim("Z", min=0)


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(formulas(leaves_at_most=4))
def test_sympy_computes_the_same(formula: Formula) -> None:
    expression = to_sympy(formula.size)
    names = [to_sympy(symbol) for symbol in SYMBOLS]
    for env in list(box(reach=2))[:20]:
        values = {name: env[symbol] for name, symbol in zip(names, SYMBOLS)}
        assert expression.subs(values, simultaneous=True) == formula.meaning(env)


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(formulas(leaves_at_most=4))
def test_there_and_back(formula: Formula) -> None:
    again = from_sympy(to_sympy(formula.size))
    for env in box(reach=2):
        assert evaluate(again, env) == formula.meaning(env)


def test_symbols() -> None:
    b, z = to_sympy(B), to_sympy(Z)
    assert (b.is_integer, b.is_positive) == (True, True)
    assert (z.is_integer, z.is_positive, z.is_nonnegative) == (True, None, True)
    n = anonymous("x.shape[0]")
    assert from_sympy(to_sympy(n)) is n
    assert from_sympy(to_sympy(n // 2 + B)) is n // 2 + B
    fresh = from_sympy(sympy.Symbol("fresh", integer=True, nonnegative=True))
    assert bounds(fresh) == (0, None)


def test_expressions() -> None:
    b, c = to_sympy(B), to_sympy(C)
    for expression, expected in [
        (sympy.Integer(7), 7), (sympy.floor(b / 2), B // 2), (sympy.ceiling(b / 2), -(-B // 2)),
        (sympy.Mod(b, 3), B % 3), (sympy.Max(b, c), maximum(B, C)), (b**3 - c, B**3 - C),
        (sympy.floor(b / c), B // C), (sympy.floor(b / 2 + c / 3), (3 * B + 2 * C) // 6),
        (b * c / b, C), ((b**2 - 1) / (b + 1), B - 1),
    ]:  # fmt: skip
        found = from_sympy(expression)
        assert found is expected or found == expected


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (sympy.sin(sympy.Symbol("B", integer=True, positive=True)), "allowed are integers"),
        (sympy.Rational(1, 2), "is no integer"),
        (sympy.Symbol("B", integer=True, positive=True) / 2, "`B` divided by `2` is no integer"),
        (sympy.Symbol("x"), "not known to be an integer >= 0"),
        (sympy.Float(1.5), "allowed are integers"),
        (sympy.Dummy("d", integer=True, positive=True), "was not made by to_sympy"),
        (sympy.Symbol("a b", integer=True, positive=True), "must be a Python identifier"),
    ],
)
def test_what_is_no_size(expression: sympy.Expr, words: str) -> None:
    with pytest.raises(DimError) as error:
        from_sympy(expression)
    assert words in str(error.value)


def test_sympy_is_imported_late() -> None:
    code = "import sys, symgraph.dims; sys.exit('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
