"""Typed scalar expressions: what one element of a result is, written once for every backend.

A `Scalar` is an interned node: an operation of the closed table `ROWS`, arguments, a dtype fixed
when it is made, and attributes. Bodies of elementwise operations are Python functions of a math
namespace `m` and operands; called with `Trace` and scalars they give exactly the operations as
written, with `NumpyMath` and arrays they compute, with `SympyMath` and symbols they are formulas.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Container, Iterable
from types import ModuleType
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from symgraph.errors import ArgumentTypeError, DTypeError, UnknownNameError
from symgraph.frozen import frozen
from symgraph.graph.dtypes import (
    DType,
    dtype_name,
    is_float,
    itemsize,
    numpy_dtype,
    weak_dtype,
)
from symgraph.graph.fma import fma
from symgraph.graph.op import canonical
from symgraph.graph.philox import philox4x32

Array = Any


@frozen
class Row:
    """One scalar operation: how many arguments, the dtype of the result, and its NumPy meaning."""

    arity: int
    result: str  # "same", "bool", or "attr" (the attribute is the dtype)
    numpy: Callable[..., Array] | None


def _erf(xp: ModuleType, x: Array) -> Array:
    if xp is np:
        return np.asarray(_erf_float64(np.asarray(x, np.float64)), np.asarray(x).dtype)
    from cupyx.scipy.special import erf  # late: CuPy is optional

    return erf(x)


def _erfc(xp: ModuleType, x: Array) -> Array:
    if xp is np:
        return np.asarray(_erfc_float64(np.asarray(x, np.float64)), np.asarray(x).dtype)
    from cupyx.scipy.special import erfc  # late: CuPy is optional

    return erfc(x)


_erf_float64 = np.vectorize(math.erf, otypes=[np.float64])
_erfc_float64 = np.vectorize(math.erfc, otypes=[np.float64])


def _integer_divide(xp: ModuleType, a: Array, b: Array) -> Array:
    return xp.floor_divide(a, xp.where(b == 0, 1, b)) * (b != 0)


def _integer_remainder(xp: ModuleType, a: Array, b: Array) -> Array:
    return xp.remainder(a, xp.where(b == 0, 1, b)) * (b != 0)


def _expm1(xp: ModuleType, x: Array) -> Array:
    found = xp.expm1(x)
    if found.dtype.kind != "c":
        return found
    # NumPy multiplies parts: inf times sin(0) is NaN. Away from 0 nothing is lost by exp(x) - 1.
    return xp.where(xp.isfinite(xp.real(x)), found, xp.exp(x) - 1)


def _power(xp: ModuleType, a: Array, b: Array) -> Array:
    kind = xp.asarray(b).dtype.kind
    if kind == "f" and xp.size(b) == 1 and xp.all(b == 0.5):
        # NumPy takes a root, which is NaN at -inf and -0.0 at -0.0; the power is inf and 0.0.
        return xp.where(a == -xp.inf, -a, xp.power(a + xp.zeros_like(a), b))
    if kind != "i":
        return xp.power(a, b)
    return xp.power(a, xp.where(b < 0, 0, b)) * (b >= 0)


def _plain(name: str) -> Callable[..., Array]:
    return lambda xp, *args: getattr(xp, name)(*args)


def _cast(xp: ModuleType, x: Array, dtype: DType) -> Array:
    return xp.asarray(x).astype(numpy_dtype(dtype))


def _bitcast(xp: ModuleType, x: Array, dtype: DType) -> Array:
    return xp.asarray(x).view(numpy_dtype(dtype))


RARE = "rare"  # the attribute of a `select` whose first choice is computed only where it is wanted

# fmt: off
ROWS: dict[str, Row] = {
    #            arity  result  NumPy
    "add":    Row(2, "same", _plain("add")),
    "sub":    Row(2, "same", _plain("subtract")),
    "mul":    Row(2, "same", _plain("multiply")),
    "div":    Row(2, "same", _plain("divide")),
    "fma":    Row(3, "same", fma),                      # a*b + c, rounded once
    "idiv":   Row(2, "same", _integer_divide),          # floors; x // 0 is 0
    "imod":   Row(2, "same", _integer_remainder),       # sign of the divisor; x % 0 is 0
    "fmod":   Row(2, "same", _plain("remainder")),      # floats, sign of the divisor
    "neg":    Row(1, "same", _plain("negative")),
    "abs":    Row(1, "same", _plain("abs")),
    "sign":   Row(1, "same", _plain("sign")),
    "min":    Row(2, "same", _plain("minimum")),        # a NaN wins
    "max":    Row(2, "same", _plain("maximum")),        # a NaN wins
    "sqrt":   Row(1, "same", _plain("sqrt")),
    "exp":    Row(1, "same", _plain("exp")),
    "expm1":  Row(1, "same", _expm1),
    "log":    Row(1, "same", _plain("log")),
    "log1p":  Row(1, "same", _plain("log1p")),
    "sin":    Row(1, "same", _plain("sin")),
    "cos":    Row(1, "same", _plain("cos")),
    "tan":    Row(1, "same", _plain("tan")),
    "asin":   Row(1, "same", _plain("arcsin")),
    "acos":   Row(1, "same", _plain("arccos")),
    "atan":   Row(1, "same", _plain("arctan")),
    "atan2":  Row(2, "same", _plain("arctan2")),
    "sinh":   Row(1, "same", _plain("sinh")),
    "cosh":   Row(1, "same", _plain("cosh")),
    "tanh":   Row(1, "same", _plain("tanh")),
    "erf":    Row(1, "same", _erf),
    "erfc":   Row(1, "same", _erfc),
    "pow":    Row(2, "same", _power),                   # whole x ** -1 is 0, as is x // 0
    "floor":  Row(1, "same", _plain("floor")),
    "ceil":   Row(1, "same", _plain("ceil")),
    "rint":   Row(1, "same", _plain("rint")),           # halves to even
    "trunc":  Row(1, "same", _plain("trunc")),
    "eq":     Row(2, "bool", _plain("equal")),
    "ne":     Row(2, "bool", _plain("not_equal")),
    "lt":     Row(2, "bool", _plain("less")),
    "le":     Row(2, "bool", _plain("less_equal")),
    "gt":     Row(2, "bool", _plain("greater")),
    "ge":     Row(2, "bool", _plain("greater_equal")),
    "and":    Row(2, "bool", _plain("logical_and")),
    "or":     Row(2, "bool", _plain("logical_or")),
    "not":    Row(1, "bool", _plain("logical_not")),
    "isnan":  Row(1, "bool", _plain("isnan")),
    "isinf":  Row(1, "bool", _plain("isinf")),
    "bitand": Row(2, "same", _plain("bitwise_and")),
    "bitor":  Row(2, "same", _plain("bitwise_or")),
    "bitxor": Row(2, "same", _plain("bitwise_xor")),
    "bitnot": Row(1, "same", _plain("invert")),
    "shl":    Row(2, "same", _plain("left_shift")),
    "shr":    Row(2, "same", _plain("right_shift")),
    "select": Row(3, "same", _plain("where")),          # condition, if true, if false
    "cast":   Row(1, "attr", _cast),
    "bitcast": Row(1, "attr", _bitcast),                # the same bits read as another dtype
    # leaves and the index language (graph/index.py gives them meaning)
    "const":  Row(0, "attr", None),
    "axis":   Row(0, "attr", None),                     # the position along an axis
    "size":   Row(0, "attr", None),                     # a size as a number
    "operand": Row(0, "attr", None),                    # an operand of an elementwise body
    "load":   Row(-1, "attr", None),                    # an element of an operand
    "reduce": Row(-1, "attr", None),                    # over axes, with a monoid
    "row":    Row(2, "attr", None),                     # a value at a place along its own axis
    "take":   Row(1, "attr", None),                     # a component of a tuple-valued scalar
    "philox": Row(6, "attr", None),                     # four counter words, two key words, all
    #                           uint32 -> four random words, read with `take` (graph/philox.py)
}
# fmt: on


class Scalar:
    """A node of a scalar expression; equal expressions are one object."""

    __slots__ = ("__weakref__", "args", "attr", "dtype", "op")

    def __init__(self, op: str, args: tuple[Scalar, ...], dtype: DType, attr: Any) -> None:
        self.op = op
        self.args = args
        self.dtype = dtype
        self.attr = attr

    __hash__ = object.__hash__

    # fmt: off
    def __add__(self, other: Any) -> Scalar: return binary("add", self, other)
    def __radd__(self, other: Any) -> Scalar: return binary("add", other, self)
    def __sub__(self, other: Any) -> Scalar: return binary("sub", self, other)
    def __rsub__(self, other: Any) -> Scalar: return binary("sub", other, self)
    def __mul__(self, other: Any) -> Scalar: return binary("mul", self, other)
    def __rmul__(self, other: Any) -> Scalar: return binary("mul", other, self)
    def __truediv__(self, other: Any) -> Scalar: return binary("div", self, other)
    def __rtruediv__(self, other: Any) -> Scalar: return binary("div", other, self)
    def __floordiv__(self, other: Any) -> Scalar: return binary("idiv", self, other)
    def __mod__(self, other: Any) -> Scalar: return binary("imod", self, other)
    def __neg__(self) -> Scalar: return unary("neg", self)
    def __and__(self, other: Any) -> Scalar: return binary(_logic("and", self), self, other)
    def __or__(self, other: Any) -> Scalar: return binary(_logic("or", self), self, other)
    def __xor__(self, other: Any) -> Scalar: return binary("bitxor", self, other)
    def __invert__(self) -> Scalar: return unary("not" if self.dtype == "bool" else "bitnot", self)
    def __lshift__(self, other: Any) -> Scalar: return binary("shl", self, other)
    def __rshift__(self, other: Any) -> Scalar: return binary("shr", self, other)
    def __eq__(self, other: Any) -> Scalar: return binary("eq", self, other)  # type: ignore[override]
    def __ne__(self, other: Any) -> Scalar: return binary("ne", self, other)  # type: ignore[override]
    def __lt__(self, other: Any) -> Scalar: return binary("lt", self, other)
    def __le__(self, other: Any) -> Scalar: return binary("le", self, other)
    def __gt__(self, other: Any) -> Scalar: return binary("gt", self, other)
    def __ge__(self, other: Any) -> Scalar: return binary("ge", self, other)
    # fmt: on

    def __bool__(self) -> bool:
        raise ArgumentTypeError(
            "body: a traced scalar has no truth value.", fix="use m.select(condition, a, b)"
        )

    def __repr__(self) -> str:
        attr = "" if self.attr is None else f"[{self.attr}]"
        inside = f"({len(self.args)} args)" if self.args else ""
        return f"<{self.op}{attr}{inside}: {self.dtype}>"


def _logic(name: str, first: Scalar) -> str:
    return name if first.dtype == "bool" else f"bit{name}"


_table: WeakValueDictionary[tuple[Any, ...], Scalar] = WeakValueDictionary()
_lock = threading.Lock()


def _new_lock() -> None:
    """Open the lock in a child of fork, which lacks the thread that may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_new_lock)


def scalar(op: str, args: Iterable[Scalar], dtype: DType, attr: Any = None) -> Scalar:
    """Give the node: the existing one, or a new one."""
    operands = tuple(args)
    key = (op, dtype, canonical(attr), *map(id, operands))
    found = _table.get(key)
    if found is None:
        made = Scalar(op, operands, dtype, attr)
        with _lock:
            found = _table.setdefault(key, made)
    return found


def const(value: bool | int | float, dtype: DType) -> Scalar:
    """Make a literal, rounded once to its dtype."""
    rounded = np.asarray(value).astype(numpy_dtype(dtype))
    plain = float(rounded) if is_float(dtype) else bool(rounded) if dtype == "bool" else int(value)
    return scalar("const", (), dtype, plain)


def _typed(value: Any, sibling: DType) -> Scalar:
    if isinstance(value, Scalar):
        return value
    if callable(getattr(value, "scalar", None)):  # an axis of the index language
        return value.scalar()  # type: ignore[no-any-return]
    if isinstance(value, bool | int | float):
        return const(value, weak_dtype(value, sibling))
    raise ArgumentTypeError(f"body: {type(value).__name__} is no scalar ({value!r:.60}).")


def _meet(name: str, values: tuple[Any, ...]) -> tuple[Scalar, ...]:
    dtypes = [value.dtype for value in values if isinstance(value, Scalar)]
    operands = tuple(_typed(value, dtypes[0]) for value in values)
    if any(operand.dtype != dtypes[0] for operand in operands):
        raise DTypeError(f"body: {name} of {', '.join(o.dtype for o in operands)}: cast first.")
    return operands


def binary(name: str, first: Any, second: Any) -> Scalar:
    """Make a binary operation; Python numbers take the other side's dtype."""
    operands = _meet(name, (first, second))
    return scalar(name, operands, "bool" if ROWS[name].result == "bool" else operands[0].dtype)


def unary(name: str, value: Scalar) -> Scalar:
    """Make a unary operation."""
    return scalar(name, (value,), "bool" if ROWS[name].result == "bool" else value.dtype)


def operation(name: str, *values: Any) -> Scalar:
    """Make an operation of the table on any number of operands of one dtype."""
    row = ROWS[name]
    if len(values) != row.arity:
        raise ArgumentTypeError(f"body: {name} takes {row.arity} operands, got {len(values)}.")
    operands = _meet(name, values)
    return scalar(name, operands, "bool" if row.result == "bool" else operands[0].dtype)


class Trace:
    """The math namespace of scalars: `m.exp(x)` makes a node."""

    def __getattr__(self, name: str) -> Callable[..., Scalar]:
        row = ROWS.get(name.rstrip("_"))
        if row is None or row.numpy is None:
            raise UnknownNameError(f"body: there is no scalar operation `{name}`.")
        plain = name.rstrip("_")
        if row.arity == 1:
            return lambda value: unary(plain, value)
        if row.arity == 2:
            return lambda first, second: binary(plain, first, second)
        return lambda *values: operation(plain, *values)

    def select(self, condition: Scalar, first: Any, second: Any) -> Scalar:
        """Give `first` where the condition holds, else `second`; both must be cheap and pure."""
        operands = _meet("select", (first, second))
        return scalar("select", (condition, *operands), operands[0].dtype)

    def rare(self, condition: Scalar, first: Any, second: Any) -> Scalar:
        """Give what `select` gives; `first` is costly, seldom wanted, and else not computed."""
        operands = _meet("select", (first, second))
        return scalar("select", (condition, *operands), operands[0].dtype, RARE)

    def cast(self, value: Scalar, dtype: DType) -> Scalar:
        """Convert."""
        return value if value.dtype == dtype else scalar("cast", (value,), dtype, dtype)

    def bitcast(self, value: Scalar, dtype: DType) -> Scalar:
        """Read the bits of a value as another dtype of the same width."""
        if itemsize(value.dtype) != itemsize(dtype):
            raise DTypeError(f"body: bitcast of {value.dtype} to {dtype}: the widths differ.")
        return scalar("bitcast", (value,), dtype, dtype)

    def philox(self, *words: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        """Give four random words from four words of counter and two of key, all uint32."""
        if len(words) != 6 or any(word.dtype != "uint32" for word in words):
            raise DTypeError(
                f"body: philox takes 6 uint32 words, not ({', '.join(w.dtype for w in words)})."
            )
        whole = scalar("philox", words, "uint32")
        w0, w1, w2, w3 = (scalar("take", (whole,), "uint32", number) for number in range(4))
        return w0, w1, w2, w3

    def like(self, value: float, sibling: Scalar) -> Scalar:
        """Make a literal of a sibling's dtype."""
        return const(value, sibling.dtype)


class NumpyMath:
    """The math namespace of arrays."""

    def __init__(self, xp: ModuleType) -> None:
        self._xp = xp

    def __getattr__(self, name: str) -> Callable[..., Array]:
        row = ROWS.get(name.rstrip("_"))
        if row is None or row.numpy is None:
            raise UnknownNameError(f"body: there is no scalar operation `{name}`.")
        compute, xp = row.numpy, self._xp
        return lambda *args: compute(xp, *args)

    def cast(self, value: Array, dtype: DType) -> Array:
        """Convert."""
        return _cast(self._xp, value, dtype)

    def bitcast(self, value: Array, dtype: DType) -> Array:
        """Read the bits of an array as another dtype of the same width."""
        return _bitcast(self._xp, value, dtype)

    def philox(self, *words: Array) -> tuple[Array, Array, Array, Array]:
        """Give four random words from four words of counter and two of key, all uint32."""
        return philox4x32(*words)

    def like(self, value: float, sibling: Array) -> Array:
        """Make a literal of a sibling's dtype."""
        return self._xp.asarray(value, sibling.dtype)

    def select(self, condition: Array, first: Any, second: Any) -> Array:
        """Give `first` where the condition holds, else `second`; Python numbers stay weak."""
        sibling = first if hasattr(first, "dtype") else second
        if hasattr(sibling, "dtype"):
            first = self._xp.asarray(first, sibling.dtype)
            second = self._xp.asarray(second, sibling.dtype)
        return self._xp.where(condition, first, second)


class SympyMath:
    """The math namespace of SymPy symbols: bodies become formulas for LaTeX and for proofs."""

    def __init__(self) -> None:
        import sympy  # late: only formulas need it

        self._sympy = sympy

    def __getattr__(self, name: str) -> Callable[..., Any]:
        sp = self._sympy
        table: dict[str, Callable[..., Any]] = {
            "max": sp.Max, "min": sp.Min, "abs": sp.Abs, "sqrt": sp.sqrt, "exp": sp.exp,
            "expm1": lambda x: sp.exp(x) - 1, "log": sp.log, "log1p": lambda x: sp.log(1 + x),
            "sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "asin": sp.asin, "acos": sp.acos,
            "atan": sp.atan, "atan2": sp.atan2, "sinh": sp.sinh, "cosh": sp.cosh, "tanh": sp.tanh,
            "erf": sp.erf, "erfc": sp.erfc, "pow": sp.Pow, "sign": sp.sign, "floor": sp.floor,
            "ceil": sp.ceiling, "neg": lambda x: -x, "add": sp.Add, "mul": sp.Mul,
            "sub": lambda x, y: x - y, "div": lambda x, y: x / y, "idiv": lambda x, y: x // y,
            "fma": lambda x, y, z: x * y + z,
            "imod": sp.Mod, "fmod": sp.Mod, "eq": sp.Eq, "ne": sp.Ne, "lt": sp.Lt, "le": sp.Le,
            "gt": sp.Gt, "ge": sp.Ge, "and": sp.And, "or": sp.Or, "not": sp.Not,
            "select": lambda c, a, b: sp.Piecewise((a, c), (b, True)),
            "cast": lambda x, dtype: x, "like": lambda value, sibling: sp.nsimplify(value),
            "trunc": lambda x: sp.sign(x) * sp.floor(sp.Abs(x)),
            "rint": lambda x: sp.floor(x + sp.Rational(1, 2)),  # halves aside
            "isnan": lambda x: sp.false, "isinf": lambda x: sp.false,  # symbols are real numbers
        }  # fmt: skip
        found = table.get(name.rstrip("_"))
        if found is None:
            found = sp.Function(name.rstrip("_"))
        return found


def operands_of(dtypes: Iterable[DType]) -> list[Scalar]:
    """Make the operands with which a body is traced."""
    return [scalar("operand", (), dtype, number) for number, dtype in enumerate(dtypes)]


def scalar_order(
    roots: Iterable[Scalar],
    needed: Callable[[Scalar], Iterable[Scalar]] | None = None,
    known: Container[Scalar] = (),
) -> list[Scalar]:
    """List all nodes below the roots, arguments first, each once (iterative).

    `needed` gives what a node asks for instead of its arguments; what is `known` is left out.
    """
    order: list[Scalar] = []
    seen: set[Scalar] = set()
    for root in roots:
        stack = [(root, False)]
        while stack:
            node, entered = stack.pop()
            if entered:
                order.append(node)
            elif node not in seen and node not in known:
                seen.add(node)
                stack.append((node, True))
                wanted = node.args if needed is None else tuple(needed(node))
                stack.extend((argument, False) for argument in reversed(wanted))
    return order


def compute_dtype(dtype: DType) -> DType:
    """Give the dtype in which a body is computed: half precisions compute in float32."""
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def widen(array: Array) -> Array:
    """Give an array of a half precision in float32; others as they are."""
    dtype = dtype_name(array.dtype)
    wide = compute_dtype(dtype)
    return array if wide == dtype else array.astype(numpy_dtype(wide))
