"""Rules of one operation on placeholders, so that no walk leaves the operation.

A derivative of a derivative walks over what the first one built. Built on the operands themselves,
that would be the whole graph below them, once for each node; built on placeholders it is small, and
the operands are put in afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.graph.body import like
from symgraph.graph.dtypes import has_gradient
from symgraph.graph.leaves import items
from symgraph.graph.node import Value
from symgraph.graph.op import Cotangent
from symgraph.graph.registry import F
from symgraph.graph.types import TensorType, TupleType, Type
from symgraph.graph.walk import rebuild


def types_of(type: Type) -> tuple[TensorType, ...]:
    """Give the types of all results."""
    return type.types if isinstance(type, TupleType) else (type,)


def results_of(node: Value) -> tuple[Value, ...]:
    """Give all results of a node, one or several."""
    return items(node)


class Template:
    """Placeholders for the operands `xs`, the results `ys` and their cotangents `gs` of a node.

    Cotangents are there for the floats that `wanted` names, None elsewhere.
    """

    def __init__(
        self, xs: Sequence[TensorType], type: Type, wanted: Sequence[bool] | None = None
    ) -> None:
        self.single = not isinstance(type, TupleType)
        types = types_of(type)
        self.xs = [like(one) for one in xs]
        self.ys = [like(one) for one in types]
        chosen = [True] * len(types) if wanted is None else wanted
        self.gs: list[Value | None] = [
            like(one) if use and has_gradient(one.dtype) else None
            for one, use in zip(types, chosen)
        ]

    def pull(self, op: Any) -> tuple[Cotangent, ...]:
        """Give the cotangents of the operands, as they are from the rule: lazy ones are called."""
        if all(g is None for g in self.gs):
            return (None,) * len(self.xs)
        g: Any = self.gs[0] if self.single else tuple(self.gs)
        y: Any = self.ys[0] if self.single else tuple(self.ys)
        found: tuple[Cotangent, ...] = op.vjp(F, g, y, *self.xs)
        return found

    def known(
        self, xs: Sequence[Value], ys: Sequence[Value], gs: Sequence[Value | None] = ()
    ) -> dict[Value, Value]:
        """Give what stands for what, once operands, results and cotangents are there."""
        made = dict(zip(self.xs, xs, strict=True))
        made.update(zip(self.ys, ys, strict=True))
        made.update(
            (own, given) for own, given in zip(self.gs, gs) if own is not None and given is not None
        )
        return made


def filled(outputs: Sequence[Value], known: dict[Value, Value]) -> list[Value]:
    """Put values in place of placeholders."""
    done = rebuild(outputs, known)
    return [done[one] for one in outputs]
