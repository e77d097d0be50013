"""Constant folding: what depends on literals only is computed once, by the oracle.

Results above 1 MiB are left to be computed, and a repeated number stays a number.
"""

from __future__ import annotations

import numpy as np

from symgraph.graph.body import calls_user
from symgraph.graph.leaves import Item, constant, is_constant
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.samples import arg
from symgraph.graph.types import TupleType, Type
from symgraph.passes.rules import local_rule

LIMIT = 1 << 20  # bytes; larger results are cheaper to compute than to keep


@local_rule(
    example=lambda x: x * F.exp(F.constant(1.0)),
    operands={"x": arg((2, 3))},
    more=[(lambda x: F.pow(x, F.size_of(2) - 1), {"x": arg((2, 3))})],
    sound="exact",
)
def constant_folding(value: Value) -> Value | None:
    """Replace what is computed from literals by what comes out."""
    source = value.inputs[0] if isinstance(value.op, Item) else value
    if not source.inputs or not all(map(is_constant, source.inputs)):
        return None
    # a repeated number stays a number and its repetition, which rules can read
    if value.op.name == "broadcast_to" or isinstance(value.type, TupleType):
        return None
    if source.op.dims() or not _small(value.type) or calls_user(source.op):
        return None
    found = source.op.ref(np, *(operand.op.array for operand in source.inputs))  # type: ignore[attr-defined]
    return constant(found if source is value else value.op.ref(np, found), value.dtype)


@local_rule(
    "constant",
    example=lambda x: x + F.constant(np.ones((2, 3))),
    operands={"x": arg((2, 3))},
    sound="exact",
)
def repeated_number(value: Value) -> Value | None:
    """Write an array full of one number as that number, repeated."""
    array = value.op.array  # type: ignore[attr-defined]
    if array.size < 2 or value.op.uniform is None:  # type: ignore[attr-defined]
        return None
    return F.broadcast_to(constant(array.reshape(-1)[:1].reshape(()), value.dtype), value.shape)


def _small(type: Type) -> bool:
    parts = type.types if isinstance(type, TupleType) else (type,)
    return all(isinstance(part.nbytes, int) and part.nbytes <= LIMIT for part in parts)


RULES = (repeated_number, constant_folding)
