"""The bodies by operation and dtype, each with its bound."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from symgraph.errors import DTypeError
from symgraph.frozen import frozen
from symgraph.graph.dtypes import DType, is_integer
from symgraph.graph.scalar import ROWS, Scalar, operands_of
from symgraph.lower.approximations.error_function import erf, erfc
from symgraph.lower.approximations.exponential import exp, expm1
from symgraph.lower.approximations.hyperbolic import cosh, sinh, tanh
from symgraph.lower.approximations.inverse import acos, asin, atan, atan2
from symgraph.lower.approximations.logarithm import log, log1p
from symgraph.lower.approximations.pieces import LAYOUTS
from symgraph.lower.approximations.power import pow
from symgraph.lower.approximations.remainder import fmod
from symgraph.lower.approximations.trigonometric import cos, sin, tan


@frozen
class Body:
    """An operation in terms of primitive ones, on operands as `operands_of` makes them."""

    operands: tuple[Scalar, ...]
    value: Scalar
    ulp: float  # how far from the exact result, in units of its last place


@frozen
class _Entry:
    """A formula, and its largest error in each dtype, in ulps."""

    build: Callable[..., Scalar]
    float32: float
    float64: float


# Bounds are measured, not proved: the worst of some 10**8 float32 and 10**6 float64 arguments (of
# every exponent, and dense where a formula ends) against more digits, rounded up.
# fmt: off
TABLE: dict[str, _Entry] = {
    #                     float32  float64
    "exp":    _Entry(exp,    1.5,     1.5),
    "expm1":  _Entry(expm1,  2.0,     2.0),
    "log":    _Entry(log,    1.2,     1.0),
    "log1p":  _Entry(log1p,  2.0,     1.5),
    "sin":    _Entry(sin,    1.7,     1.0),
    "cos":    _Entry(cos,    1.7,     1.0),
    "tan":    _Entry(tan,    0.7,     2.5),
    "asin":   _Entry(asin,   1.5,     1.5),
    "acos":   _Entry(acos,   1.5,     1.5),
    "atan":   _Entry(atan,   1.7,     2.0),
    "atan2":  _Entry(atan2,  2.0,     2.0),
    "sinh":   _Entry(sinh,   2.0,     2.0),
    "cosh":   _Entry(cosh,   1.5,     1.5),
    "tanh":   _Entry(tanh,   1.5,     3.0),
    "erf":    _Entry(erf,    1.7,     2.0),
    "erfc":   _Entry(erfc,   5.0,     8.0),
    "pow":    _Entry(pow,    0.7,     3.0),
    "fmod":   _Entry(fmod,   0.5,     0.5),
}
# fmt: on


@cache
def body(op: str, dtype: DType) -> Body | None:
    """Give the body of an operation for float32 or float64; None if it is primitive.

    `pow` has bodies for integers too, which are exact. Raises `DTypeError` for other dtypes.

    >>> body("add", "float32") is None
    True
    >>> body("exp", "float32").value.dtype
    'float32'
    """
    entry = TABLE.get(op)
    if entry is None:
        return None
    if dtype not in LAYOUTS and not (op == "pow" and is_integer(dtype)):
        raise DTypeError(f"lower: `{op}` has no body for {dtype}.", fix="compute it in float32")
    operands = tuple(operands_of([dtype] * ROWS[op].arity))
    ulp = {"float32": entry.float32, "float64": entry.float64}.get(dtype, 0.0)
    return Body(operands, entry.build(*operands), ulp)
