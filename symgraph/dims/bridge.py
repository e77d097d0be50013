"""The bridge between sizes and SymPy, which is imported only when one of these is called."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

from symgraph.dims.core import (
    Dim,
    Size,
    Terms,
    dim,
    is_anonymous,
    polynomial,
    terms_of,
)
from symgraph.dims.extrema import maximum, minimum
from symgraph.dims.polynomial import exact_quotient
from symgraph.dims.walk import postorder
from symgraph.errors import DimError

_ALLOWED = "integers, integer symbols, +, *, powers, floor, ceiling, Mod, Min, Max"

# Anonymous sizes travel as SymPy dummies; this is the way back.
_dummies: WeakValueDictionary[int, Dim] = WeakValueDictionary()


def to_sympy(size: Size) -> Any:
    """The formula as a SymPy expression over integer symbols with the same least values."""
    import sympy

    if type(size) is not Dim:
        return sympy.Integer(size)
    known: dict[Dim, Any] = {}

    def summed(terms: Terms) -> Any:
        return sympy.Add(
            *(sympy.Mul(value, *(known[a] for a in mono)) for mono, value in terms.items())
        )

    for atom in postorder(size):
        args = [summed(terms_of(arg)) for arg in atom.args]
        if atom.kind == "symbol":
            known[atom] = _symbol(sympy, atom)
        elif atom.kind == "//":
            known[atom] = sympy.floor(args[0] / args[1])
        else:
            known[atom] = (sympy.Min if atom.kind == "min" else sympy.Max)(*args)
    return summed(size.terms)


def _symbol(sympy: Any, symbol: Dim) -> Any:
    least = (symbol.range or (0, None))[0] or 0
    assumptions = {"integer": True, "positive" if least >= 1 else "nonnegative": True}
    if not is_anonymous(symbol):
        return sympy.Symbol(symbol.name, **assumptions)
    dummy = sympy.Dummy(symbol.name, dummy_index=10**9 + symbol.order[2], **assumptions)
    _dummies[dummy.dummy_index] = symbol
    return dummy


def from_sympy(expr: Any) -> Size:
    """The size a SymPy expression stands for; symbols must be integers >= 0.

    A positive symbol becomes a size >= 1, a nonnegative one a size >= 0. Raises DimError for what
    is no size.
    """
    import sympy

    known: dict[Any, tuple[Size, Size]] = {}
    for node in sympy.postorder_traversal(sympy.sympify(expr)):
        if node not in known:
            known[node] = _fraction(sympy, node, known)
    return _whole(known[node], expr)


def _fraction(sympy: Any, node: Any, known: dict[Any, tuple[Size, Size]]) -> tuple[Size, Size]:
    """(numerator, denominator) of an expression whose parts are already known."""
    parts = [known[arg] for arg in node.args]
    if node.is_Rational:
        return int(node.p), int(node.q)
    if node.is_Symbol:
        return _size_of(node), 1
    if node.is_Add:
        top, bottom = parts[0]
        for other, under in parts[1:]:
            same = bottom is under or (type(bottom) is int and bottom == under)
            top = top + other if same else top * under + other * bottom
            bottom = bottom if same else bottom * under
        return top, bottom
    if node.is_Mul:
        return _product([top for top, _ in parts]), _product([bottom for _, bottom in parts])
    if node.is_Pow and node.exp.is_Integer:
        top, bottom = parts[0]
        power = int(node.exp)
        if power < 0:
            top, bottom, power = bottom, top, -power
        return top**power, bottom**power
    if isinstance(node, sympy.floor):
        return parts[0][0] // parts[0][1], 1
    if isinstance(node, sympy.ceiling):
        return -(-parts[0][0] // parts[0][1]), 1
    if isinstance(node, (sympy.Mod, sympy.Min, sympy.Max)):
        args = [_whole(part, node) for part in parts]
        if isinstance(node, sympy.Mod):
            return args[0] % args[1], 1
        return (minimum if isinstance(node, sympy.Min) else maximum)(*args), 1
    raise DimError(f"`{node}` ({type(node).__name__}) is no size; allowed are {_ALLOWED}.")


def _product(sizes: list[Size]) -> Size:
    result: Size = 1
    for size in sizes:
        result = result * size
    return result


def _size_of(symbol: Any) -> Size:
    if symbol.is_Dummy:
        found = _dummies.get(symbol.dummy_index)
        if found is not None:
            return found
        raise DimError(f"the dummy symbol `{symbol}` was not made by to_sympy.")
    if symbol.is_integer is not True or symbol.is_nonnegative is not True:
        raise DimError(
            f"the symbol `{symbol}` is not known to be an integer >= 0.",
            fix=f'sympy.Symbol("{symbol}", integer=True, positive=True)',
        )
    return dim(symbol.name, min=1 if symbol.is_positive else 0)


def _whole(fraction: tuple[Size, Size], expr: Any) -> Size:
    top, bottom = fraction
    if type(bottom) is int and bottom == 1:
        return top
    quotient = exact_quotient(terms_of(top), terms_of(bottom))
    if quotient is None:
        raise DimError(f"`{expr}` is no size: `{top}` divided by `{bottom}` is no integer.")
    return polynomial(quotient)
