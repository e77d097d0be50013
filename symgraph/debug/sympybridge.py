"""Elementwise graphs as SymPy expressions, and SymPy expressions as graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from symgraph.dims.bridge import to_sympy as size_to_sympy
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.graph.dtypes import is_float
from symgraph.graph.elementwise import Elementwise
from symgraph.graph.leaves import Constant, SizeOf, as_value
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import F
from symgraph.graph.types import same_size
from symgraph.graph.walk import topological

# these give their operand, element by element, and no formula shows them
SAME = frozenset(
    {"attach", "barrier", "broadcast_to", "cast", "positive", "specify_shape", "stop_gradient",
     "tap"},
)  # fmt: skip


def to_sympy(value: Value, symbols: Mapping[Value, Any] | None = None) -> Any:
    """Give what an elementwise graph computes of each element as a SymPy expression.

    Leaves become real symbols of their names; `symbols` gives others, for any values. Casts and
    broadcasting are not shown. Raises `ArgumentError` for an operation that is not elementwise and
    for two leaves of one name.

    >>> import symgraph as sg
    >>> x = sg.vector("x")
    >>> sg.to_sympy(sg.exp(-x * x) + 1)
    1 + exp(-x**2)
    """
    import sympy

    if not isinstance(value, Value):
        raise ArgumentTypeError(f"to_sympy: takes a value, got {type(value).__name__}.")
    known: dict[Value, Any] = dict(symbols or {})
    names: dict[str, Value] = {}
    for node in topological([value], stop=known):
        if node in known:
            continue
        op = node.op
        if isinstance(op, Constant):
            known[node] = _number(sympy, node, op.array)
        elif isinstance(op, SizeOf):
            known[node] = size_to_sympy(op.dim)
        elif not node.inputs:
            if names.setdefault(node.label, node) is not node:
                raise ArgumentError(
                    f"to_sympy: two values are called `{node.label}`.",
                    details=operand_lines([names[node.label], node]),
                    fix="give symbols={value: symbol}, or other names",
                )
            known[node] = sympy.Symbol(node.label, real=True)
        elif op.name in SAME or (op.name == "reshape" and _is_spread(node)):
            known[node] = known[node.inputs[0]]
        elif isinstance(op, Elementwise):
            known[node] = sympy.sympify(op.formula(*(known[one] for one in node.inputs)))
        else:
            raise ArgumentError(
                f"to_sympy: `{op.name}` is not elementwise.",
                details=[node.describe()],
                fix="give a symbol for its result: symbols={value: sympy.Symbol('s')}",
            )
    return known[value]


def _is_spread(node: Value) -> bool:
    """Tell whether only axes of size 1 come or go, as where a number meets arrays."""
    before, after = (
        [size for size in one.shape if not (isinstance(size, int) and size == 1)]
        for one in (node.inputs[0], node)
    )
    return len(before) == len(after) and all(map(same_size, before, after))


def _number(sympy: Any, node: Value, array: np.ndarray[Any, Any]) -> Any:
    number = array.item() if array.size == 1 else node.op.uniform  # type: ignore[attr-defined]
    if number is None:
        raise ArgumentError(
            f"to_sympy: `{node.label}` holds several numbers.",
            details=[node.describe()],
            fix="give a symbol for it: symbols={value: sympy.Symbol('c')}",
        )
    if isinstance(number, bool):
        return sympy.true if number else sympy.false
    if not is_float(node.dtype) or float(number).is_integer():
        return sympy.Integer(int(number))
    if not np.isfinite(number):
        return sympy.nan if np.isnan(number) else sympy.oo * int(np.sign(number))
    return sympy.Float(str(array.reshape(-1)[0]))  # the shortest digits that mean it


def from_sympy(expression: Any, values: Mapping[Any, Any]) -> Value:
    """Give a SymPy expression as a graph; `values` has a value or number for each symbol.

    Symbols may be given by name. Numbers take the dtype of what they meet, constants such as pi are
    floats. Raises `ArgumentError` for a symbol without a value, and for a function that symgraph
    does not have.

    >>> import sympy, symgraph as sg
    >>> t = sympy.Symbol("t")
    >>> slope = sg.from_sympy(sympy.diff(sympy.sin(t) ** 2, t), {t: sg.vector("t")})
    >>> slope.eval(t=[0.0]).tolist()
    [0.0]
    """
    import sympy

    found = sympy.sympify(expression)
    by_name = {str(symbol): value for symbol, value in values.items()}
    missing = sorted(str(one) for one in found.free_symbols if str(one) not in by_name)
    if missing:
        raise ArgumentError(
            f"from_sympy: no value for {', '.join(f'`{one}`' for one in missing)}.",
            fix=f"values={{sympy.Symbol({missing[0]!r}): sg.vector({missing[0]!r})}}",
        )
    done: dict[Any, Any] = {}
    stack = [found]
    while stack:  # by hand: expressions may be deeper than Python's stack
        node = stack[-1]
        waiting = [] if node in done else [one for one in _parts(sympy, node) if one not in done]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        if node not in done:
            done[node] = _built(sympy, node, done, by_name)
    return as_value(done[found])


def _parts(sympy: Any, node: Any) -> list[Any]:
    """Give the expressions that a node is built from."""
    if isinstance(node, sympy.Piecewise):
        return [part for pair in node.args for part in pair.args]
    if isinstance(node, sympy.Pow) and node.exp.is_Number:
        return [node.base]
    return [] if node.is_Atom else list(node.args)


def _built(sympy: Any, node: Any, done: Mapping[Any, Any], values: Mapping[str, Any]) -> Any:
    if node.is_Symbol:
        return values[str(node)]
    if node in (sympy.true, sympy.false):
        return bool(node)
    if node.is_Integer:
        return int(node)
    if node.is_number and node.is_Atom:
        if not (node.is_real or node in (sympy.oo, -sympy.oo, sympy.nan)):
            raise ArgumentError(f"from_sympy: {node} is no real number.")
        return float(node)
    if isinstance(node, sympy.Pow) and node.exp.is_Number:
        return _power(sympy, done[node.base], node.exp)
    if isinstance(node, sympy.Piecewise):
        result: Any = float("nan")
        for part, condition in reversed([pair.args for pair in node.args]):
            chosen = done[condition]
            result = done[part] if chosen is True else F.where(chosen, done[part], result)
        return result
    given = [done[one] for one in node.args]
    joined = _joined(sympy).get(node.func)
    if joined is not None:
        result, *rest = given
        for one in rest:
            result = joined(result, one)
        return result
    function = _functions(sympy).get(node.func)
    if function is None:
        raise ArgumentError(
            f"from_sympy: there is no operation for `{node.func.__name__}` in {str(node)[:60]}.",
            fix="rewrite it with others: expression.rewrite(sympy.exp), or .doit()",
        )
    return function(*given)


def _power(sympy: Any, base: Any, exponent: Any) -> Any:
    """Give a power by a number, as somebody would write it."""
    simple: dict[Any, Callable[[Any], Any]] = {
        sympy.Rational(1, 2): F.sqrt, sympy.Rational(-1, 2): F.rsqrt,
        sympy.Integer(-1): lambda x: F.divide(1.0, x), sympy.Integer(2): F.square,
    }  # fmt: skip
    if exponent in simple:
        return simple[exponent](base)
    if exponent.is_Integer and exponent < 0:
        return F.divide(1.0, F.pow(base, -int(exponent)))
    return F.pow(base, int(exponent) if exponent.is_Integer else float(exponent))


def _joined(sympy: Any) -> dict[Any, Callable[[Any, Any], Any]]:
    return {
        sympy.Add: F.add, sympy.Mul: F.multiply, sympy.Max: F.maximum, sympy.Min: F.minimum,
        sympy.And: F.logical_and, sympy.Or: F.logical_or, sympy.Xor: F.logical_xor,
    }  # fmt: skip


def _functions(sympy: Any) -> dict[Any, Callable[..., Any]]:
    return {
        sympy.Pow: F.pow, sympy.exp: F.exp, sympy.log: F.log, sympy.sin: F.sin, sympy.cos: F.cos,
        sympy.tan: F.tan, sympy.asin: F.asin, sympy.acos: F.acos, sympy.atan: F.atan,
        sympy.atan2: F.atan2, sympy.sinh: F.sinh, sympy.cosh: F.cosh, sympy.tanh: F.tanh,
        sympy.asinh: F.asinh, sympy.acosh: F.acosh, sympy.atanh: F.atanh, sympy.erf: F.erf,
        sympy.erfc: F.erfc, sympy.Abs: F.abs, sympy.sign: F.sign, sympy.floor: F.floor,
        sympy.ceiling: F.ceil, sympy.Mod: F.remainder, sympy.Not: F.logical_not,
        sympy.Eq: F.equal, sympy.Ne: F.not_equal, sympy.Lt: F.less, sympy.Le: F.less_equal,
        sympy.Gt: F.greater, sympy.Ge: F.greater_equal,
        sympy.sec: lambda x: F.divide(1.0, F.cos(x)), sympy.csc: lambda x: F.divide(1.0, F.sin(x)),
        sympy.cot: lambda x: F.divide(1.0, F.tan(x)),
        sympy.Heaviside: lambda x, middle=0.5: F.where(
            F.equal(x, 0), middle, F.cast(F.greater(x, 0), F.add(x, 0.0).dtype)
        ),
    }  # fmt: skip
