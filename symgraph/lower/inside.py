"""Definitions that are computed where they are read: loads become what would have been stored."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from types import MappingProxyType

from symgraph.graph.index import m
from symgraph.graph.scalar import Scalar, const, scalar, scalar_order
from symgraph.lower.linear import replaced, substitute
from symgraph.lower.nest import Buffer, Element
from symgraph.lower.program import Definition
from symgraph.lower.rows import Row

KEEP_ZERO = ("add", "sub", "neg", "abs", "min", "max", "sqrt", "cast")


def put_inside(
    value: Scalar,
    inner: Mapping[Buffer, Definition],
    narrow: Container[Buffer] = (),
    rows: Mapping[Buffer, Row] = MappingProxyType({}),
) -> Scalar:
    """Compute definitions where they are read, at the reader's places.

    Where a load is guarded so are all loads that come in its place. What is read from a buffer in
    `narrow` is widened to the dtype it had before; what is in `rows` is kept along an axis.
    """

    def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
        if node.op == "load" and node.attr.buffer in narrow:
            return m.cast(scalar("load", args, node.attr.buffer.dtype, node.attr), node.dtype)
        if node.op != "load" or node.attr.buffer not in inner:
            return None
        own = inner[node.attr.buffer]
        index = args[:-1] if node.attr.guarded else args
        if node.attr.buffer in rows:
            guard = args[-1] if node.attr.guarded else None
            kept = rows[node.attr.buffer].read(index, guard)
            fill = const(node.attr.fill, node.dtype)
            return kept if guard is None else m.select(guard, kept, fill)
        places = {axis.scalar(): at for axis, at in zip(own.axes, index, strict=True)}
        found = replaced([own.value], places)[own.value]
        if not node.attr.guarded:
            return found
        held = guarded(found, args[-1])
        if node.attr.fill == 0 and vanishes(held):
            return held
        return m.select(args[-1], held, const(node.attr.fill, node.dtype))

    return substitute([value], change)[value]


def guarded(value: Scalar, guard: Scalar) -> Scalar:
    """Let every load of an expression touch memory only where a guard holds."""

    def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
        if node.op != "load":
            return None
        which = node.attr
        both = m.and_(args[-1], guard) if which.guarded else guard
        index = args[:-1] if which.guarded else args
        attr = Element(which.buffer, which.fill, True)
        return scalar("load", (*index, both), node.dtype, attr)

    return substitute([value], change)[value]


def vanishes(value: Scalar) -> bool:
    """Tell whether an expression is zero where all that it loads is, so that no guard is needed."""
    zero: dict[Scalar, bool] = {}
    for node in scalar_order([value]):
        known = [zero[argument] for argument in node.args]
        if node.op == "load":
            zero[node] = node.attr.guarded and node.attr.fill == 0
        elif node.op == "const":
            zero[node] = node.attr == 0
        elif node.op == "mul":
            finite = [n.op == "const" and math.isfinite(n.attr) for n in node.args]
            zero[node] = all(known) or (known[0] and finite[1]) or (known[1] and finite[0])
        elif node.op == "select":
            zero[node] = all(known[1:])
        elif node.op == "reduce":
            zero[node] = node.attr.monoid.name in ("sum", "max", "min") and all(known)
        else:
            zero[node] = node.op in KEEP_ZERO and all(known)
    return zero[value]
