"""The table of batch rules for operations that do not bring their own, and what rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symgraph.dims import Size
from symgraph.graph.node import Value
from symgraph.graph.registry import Functions

BatchRule = Callable[[Functions, Size, Any, Sequence[bool], Sequence[Value]], Any]

BATCH: dict[str, BatchRule] = {}


def batch_rule(*names: str) -> Callable[[BatchRule], BatchRule]:
    """Register a rule: it gives the results for all lanes, or NotImplemented (the derived rule)."""

    def register(rule: BatchRule) -> BatchRule:
        BATCH.update(dict.fromkeys(names, rule))
        return rule

    return register


def front(F: Functions, size: Size, x: Value, batched: bool) -> Value:
    """Give a value with an axis of lanes in front: as it is, or the same for all lanes."""
    return x if batched else F.broadcast_to(x, (size, *x.shape))


def aligned(F: Functions, xs: Sequence[Value], flags: Sequence[bool]) -> list[Value]:
    """Give all batched operands as many axes, so that they broadcast behind the first one."""
    rank = max(x.ndim - flag for x, flag in zip(xs, flags))
    return [
        F.reshape(x, (x.shape[0], *(1,) * (rank + 1 - x.ndim), *x.shape[1:])) if flag else x
        for x, flag in zip(xs, flags)
    ]


def fronts(
    F: Functions, size: Size, xs: Sequence[Value], flags: Sequence[bool]
) -> list[Value]:  # fmt: skip
    """Give all operands with an axis of lanes."""
    return [front(F, size, x, flag) for x, flag in zip(xs, flags, strict=True)]
