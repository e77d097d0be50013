"""Graphs computed over exact numbers: mpmath's with as many digits as wanted, or SymPy's formulas.

What an operation is taken to mean is its `expand`: other operations, or an index expression, whose
scalars get a meaning here by one of two libraries. Nothing is shared with the rules, which never
look at an expansion, nor with the floats of the references.

Where the real numbers have no answer (1/0, the logarithm of -1), `Digits` gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from symgraph.graph.dtypes import is_float
from symgraph.graph.index import Axis, Compute
from symgraph.graph.leaves import Constant, Item
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.scalar import Scalar, scalar_order
from symgraph.graph.walk import topological

Array = Any

# what may happen to positions, which stay ordinary integers
PLACES: Mapping[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative,
    "idiv": np.floor_divide, "imod": np.remainder, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
    "and": np.logical_and, "or": np.logical_or, "not": np.logical_not,
}  # fmt: skip


class Library:
    """A meaning for every scalar operation, on single numbers.

    `number` makes a number of a literal, `largest` is what the maximum of a row is that is only
    there to be subtracted again.
    """

    functions: Mapping[str, Callable[..., Any]]

    def number(self, value: Any) -> Any:
        """Make a number of a literal."""
        raise NotImplementedError

    def cast(self, value: Any, old: str, new: str) -> Any:
        """Convert a number from a dtype to another."""
        raise NotImplementedError

    def largest(self, row: Sequence[Any]) -> Any:
        """Give the largest of a row, where only the difference to it matters."""
        raise NotImplementedError


def exact(
    outputs: Sequence[Value], feeds: Mapping[Value, Array], library: Library
) -> list[np.ndarray[Any, Any]]:
    """Compute outputs as arrays of objects from arrays of objects for the inputs."""
    values: dict[Value, Any] = {}
    for node in topological(outputs):
        if node in feeds:
            values[node] = _objects(feeds[node])
        elif isinstance(node.op, Constant):
            values[node] = _each(library.number, node.op.array)
        elif isinstance(node.op, Item):
            values[node] = values[node.inputs[0]][node.op.index]
        elif node.op.name == "size_of":
            values[node] = _objects(library.number(int(node.op.dim)))
        else:
            values[node] = _operation(node, [values[x] for x in node.inputs], library)
    return [values[output] for output in outputs]


def _operation(node: Value, operands: list[Array], library: Library) -> Any:
    whole = node.op.expand(F, *node.inputs)
    if isinstance(whole, Compute):
        found = [_compute(one, operands, library) for one in whole.results]
        return found[0] if len(found) == 1 else found
    parts = whole if isinstance(whole, tuple) else (whole,)
    found = exact(parts, dict(zip(node.inputs, operands)), library)
    return found if isinstance(whole, tuple) else found[0]


def _objects(array: Any) -> np.ndarray[Any, Any]:
    found = np.empty(np.shape(array), object)
    found[...] = array
    return found


def _each(function: Callable[..., Any], *arrays: Any) -> np.ndarray[Any, Any]:
    return _objects(np.frompyfunc(function, len(arrays), 1)(*arrays))


# -- index expressions ----------------------------------------------------------------------------


def _compute(compute: Compute, operands: Sequence[Array], library: Library) -> Array:
    """Compute an index expression on the grid of its axes, then of those that it reduces."""
    order = scalar_order([compute.value])
    axes = list(compute.axes)
    for node in order:
        axes.extend(a for a in (node.attr.axes if node.op == "reduce" else ()) if a not in axes)
    grid = {a: d for d, a in enumerate(axes)}
    root = compute.value
    while root.op == "cast":
        (root,) = root.args
    values: dict[Scalar, Any] = {}
    for node in order:
        args = [values[part] for part in node.args]
        if node.op == "reduce":
            values[node] = _reduced(node, args[0], grid, library, shift=node is not root)
        else:
            values[node] = _scalar(node, args, operands, grid, library)
    shape = [int(a.extent) for a in compute.axes]
    full = np.broadcast_to(values[compute.value], shape + [1] * (len(axes) - len(shape)))
    return _objects(full.reshape(shape))


def _scalar(
    node: Scalar,
    args: list[Any],
    operands: Sequence[Array],
    grid: Mapping[Axis, int],
    library: Library,
) -> Any:
    rank = len(grid)
    if node.op == "axis":
        where = [-1 if a is node.attr else 1 for a in grid]
        return np.arange(int(node.attr.extent)).reshape(where)
    if node.op == "size":
        return np.full([1] * rank, int(node.attr))
    if node.op == "const":
        plain = not is_float(node.dtype) and node.dtype != "bool"
        number = np.int64(node.attr) if plain else library.number(node.attr)
        return np.full([1] * rank, number, None if plain else object)
    if node.op == "load":
        return _load(node, args, operands[node.attr.operand], rank, library)
    if node.op in PLACES and all(part.dtype != object for part in args):
        return PLACES[node.op](*args)
    if node.op == "cast":
        if args[0].dtype != object:
            return args[0] if node.dtype == "int64" else _each(library.number, args[0])
        return _each(lambda x: library.cast(x, node.args[0].dtype, node.dtype), args[0])
    if node.op == "select" and args[0].dtype == bool:
        return np.where(args[0], _objects(args[1]), _objects(args[2]))
    return _each(
        library.functions[node.op],
        *(part if part.dtype == object else _each(library.number, part) for part in args),
    )


def _load(node: Scalar, args: list[Any], source: Array, rank: int, library: Library) -> Array:
    index, guard = (args[:-1], args[-1]) if node.attr.guarded else (args, True)
    if not index:
        found = np.reshape(source, [1] * rank)
    elif source.size:
        found = source[tuple(np.where(guard, place, 0) for place in index)]
    else:
        found = np.empty(np.broadcast_shapes(*(place.shape for place in index)), object)
    return found if guard is True else np.where(guard, found, library.number(node.attr.fill))


def _reduced(
    node: Scalar, array: Array, grid: Mapping[Axis, int], library: Library, shift: bool
) -> Array:
    """Combine an array over axes; `shift` says that the result is not the end of it."""
    over = {grid[a]: int(a.extent) for a in node.attr.axes}
    full = np.broadcast_to(array, [over.get(d, n) for d, n in enumerate(array.shape)])
    kept = [d for d in range(full.ndim) if d not in over]
    rows = np.transpose(full, [*kept, *over]).reshape([full.shape[d] for d in kept] + [-1])
    name = node.attr.monoid.name
    found = np.empty(rows.shape[:-1], object)
    for place in np.ndindex(*found.shape):
        row = list(rows[place])
        found[place] = (
            library.largest(row) if name == "max" and shift else _fold(name, row, library)
        )
    return found.reshape([1 if d in over else n for d, n in enumerate(full.shape)])


_NEUTRAL = {"sum": ("add", 0), "prod": ("mul", 1), "any": ("or", False), "all": ("and", True)}


def _fold(name: str, row: list[Any], library: Library) -> Any:
    combine, neutral = _NEUTRAL.get(name, (name, None))
    rest = row if neutral is None else [library.number(neutral), *row]
    total = rest[0]
    for each in rest[1:]:
        total = library.functions[combine](total, each)
    return total


# -- mpmath ---------------------------------------------------------------------------------------

NAN = mpmath.nan


def _real(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give NaN where there is no real answer, or an operand is none."""

    def safe(*args: Any) -> Any:
        if any(arg != arg for arg in args):
            return NAN
        try:
            found = function(*args)
        except (ZeroDivisionError, ValueError, OverflowError):
            return NAN
        if isinstance(found, bool | int):
            return found
        return found if isinstance(found, mpmath.mpf) and mpmath.isfinite(found) else NAN

    return safe


def _power(x: Any, y: Any) -> Any:
    return mpmath.power(x, int(y)) if y == int(y) and abs(y) < 1000 else mpmath.power(x, y)


def _sign(x: Any) -> Any:
    return mpmath.mpf((x > 0) - (x < 0))


def _truth(function: Callable[..., bool]) -> Callable[..., bool]:
    return lambda *args: bool(function(*args))


# fmt: off
_DIGITS: Mapping[str, Callable[..., Any]] = {
    **{name: _real(function) for name, function in {
        "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y,
        "div": lambda x, y: x / y, "neg": lambda x: -x, "abs": abs, "sign": _sign,
        "min": min, "max": max, "sqrt": mpmath.sqrt, "exp": mpmath.exp, "expm1": mpmath.expm1,
        "log": mpmath.log, "log1p": lambda x: mpmath.log(1 + x), "sin": mpmath.sin,
        "cos": mpmath.cos, "tan": mpmath.tan, "sinh": mpmath.sinh, "cosh": mpmath.cosh,
        "tanh": mpmath.tanh, "erf": mpmath.erf, "erfc": mpmath.erfc, "pow": _power,
        "floor": mpmath.floor, "ceil": mpmath.ceil, "rint": mpmath.nint,
        "trunc": lambda x: mpmath.floor(x) if x > 0 else mpmath.ceil(x),
    }.items()},
    "eq": _truth(lambda x, y: x == y), "ne": _truth(lambda x, y: x != y),
    "lt": _truth(lambda x, y: x < y), "le": _truth(lambda x, y: x <= y),
    "gt": _truth(lambda x, y: x > y), "ge": _truth(lambda x, y: x >= y),
    "and": lambda a, b: a and b, "or": lambda a, b: a or b, "not": lambda a: not a,
    "isnan": _truth(mpmath.isnan), "isinf": _truth(mpmath.isinf),
    "select": lambda c, a, b: a if c else b,
}
# fmt: on


class Digits(Library):
    """mpmath's numbers; how many digits they have is mpmath's own setting."""

    functions = _DIGITS

    def number(self, value: Any) -> Any:
        """Make an mpmath number, exactly; bools stay bools."""
        return bool(value) if isinstance(value, bool | np.bool_) else mpmath.mpf(float(value))

    def cast(self, value: Any, old: str, new: str) -> Any:
        """Convert; floats of all widths are one kind of number."""
        if new == "bool":
            return value != 0
        if old == "bool":
            return mpmath.mpf(int(value))
        return value if is_float(new) or not is_float(old) else self.functions["trunc"](value)

    def largest(self, row: Sequence[Any]) -> Any:
        """Give the largest."""
        return _fold("max", list(row), self)


DIGITS = Digits()


def numbers(array: Array) -> np.ndarray[Any, Any]:
    """Make mpmath numbers of the floats of an array."""
    return _each(DIGITS.number, array)


# -- SymPy ----------------------------------------------------------------------------------------

_KNOWN = (sp.sqrt(2), sp.sqrt(2) / 2, sp.log(2), sp.sqrt(sp.pi))


@cache
def named_number(value: float) -> Any:
    """Give the number that a rounded literal stands for: 0.7071068 is sqrt(2)/2, 0.1 is 1/10."""
    for known in _KNOWN:
        for sign in (1, -1):
            if abs(value - sign * float(known)) < 1e-7 * float(known):
                return sign * known
    simple = sp.Rational(value).limit_denominator(1000)
    close = abs(float(simple) - value) <= 1e-7 * abs(value)
    return simple if close else sp.nsimplify(value, rational=True, tolerance=1e-7)


@cache
def _fresh(row: frozenset[Any]) -> Any:
    """Give one symbol for the largest of a set of formulas."""
    return sp.Dummy("largest", real=True)


# fmt: off
_FORMULAS: Mapping[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y, "neg": lambda x: -x, "abs": sp.Abs, "sign": sp.sign,
    "min": sp.Min, "max": sp.Max, "sqrt": sp.sqrt, "exp": sp.exp, "expm1": lambda x: sp.exp(x) - 1,
    "log": sp.log, "log1p": lambda x: sp.log(1 + x), "sin": sp.sin, "cos": sp.cos, "tan": sp.tan,
    "sinh": sp.sinh, "cosh": sp.cosh, "tanh": sp.tanh, "erf": sp.erf, "erfc": sp.erfc,
    "pow": sp.Pow, "floor": sp.floor, "ceil": sp.ceiling, "rint": sp.Function("rint"),
    "trunc": lambda x: sp.Piecewise((sp.floor(x), x >= 0), (sp.ceiling(x), True)),
    "eq": sp.Eq, "ne": sp.Ne, "lt": sp.Lt, "le": sp.Le, "gt": sp.Gt, "ge": sp.Ge,
    "and": sp.And, "or": sp.Or, "not": sp.Not, "isnan": lambda x: sp.false,
    "isinf": lambda x: sp.false, "select": lambda c, a, b: sp.Piecewise((a, c), (b, True)),
}
# fmt: on


class Formulas(Library):
    """SymPy's formulas. A conversion is a function of which nothing is known."""

    functions = _FORMULAS

    def number(self, value: Any) -> Any:
        """Make a rational number, or the irrational one that the literal stands for."""
        if isinstance(value, bool | np.bool_):
            return sp.true if value else sp.false
        return sp.Integer(int(value)) if float(value).is_integer() else named_number(float(value))

    def cast(self, value: Any, old: str, new: str) -> Any:
        """Convert, in name only: numbers and truth values are different things to SymPy."""
        return value if new == old else sp.Function(f"to_{new}")(value)

    def largest(self, row: Sequence[Any]) -> Any:
        """Give a symbol, which must cancel."""
        return _fresh(frozenset(row))


FORMULAS = Formulas()
