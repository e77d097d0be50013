"""The bodies by operation and dtype, each with its bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from symgraph.graph.dtypes import DType
from symgraph.graph.scalar import ROWS, Scalar, operands_of
from symgraph.lower.approximations.exponential import exp, expm1


@dataclass(frozen=True)
class Body:
    """An operation in terms of primitive ones, on operands as `operands_of` makes them."""

    operands: tuple[Scalar, ...]
    value: Scalar
    ulp: float  # how far from the exact result, in units of its last place


@dataclass(frozen=True)
class _Entry:
    build: Callable[..., Scalar]
    float32: float
    float64: float


TABLE: dict[str, _Entry] = {
    #               body        bounds: float32  float64
    "exp": _Entry(exp, 2.0, 2.0),
    "expm1": _Entry(expm1, 2.0, 2.0),
}


@cache
def body(op: str, dtype: DType) -> Body | None:
    """Give the body of an operation for a dtype; None if it is primitive.

    >>> body("add", "float32") is None
    True
    >>> body("exp", "float32").value.dtype
    'float32'
    """
    entry = TABLE.get(op)
    if entry is None:
        return None
    operands = tuple(operands_of([dtype] * ROWS[op].arity))
    ulp = entry.float32 if dtype == "float32" else entry.float64
    return Body(operands, entry.build(*operands), ulp)
