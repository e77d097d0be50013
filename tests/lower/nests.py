"""What tests of loop nests share: making nests, and walking through their loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from symgraph.dims import dim
from symgraph.graph.graph import Graph
from symgraph.graph.index import Axis, position
from symgraph.graph.node import Value
from symgraph.graph.scalar import Scalar, scalar
from symgraph.lower.flatten import flatten
from symgraph.lower.fuse import fuse
from symgraph.lower.loops import For, Reduce, Statement, Tasks, loops
from symgraph.lower.nest import (
    Buffer,
    Element,
    Nest,
    Store,
)
from symgraph.lower.program import build
from symgraph.lower.schedule import choose

# sizes of one name are one size in the whole process: these names are of this file alone
A, N, M = dim("nest_rows"), dim("nest_columns"), dim("nest_other")
NOMINAL = {A: 300, N: 1000}


def read(source: Buffer, *index: Any, guard: Scalar | None = None, fill: float = 0) -> Scalar:
    """Load an element of a buffer."""
    args = [position(one) for one in index] + ([] if guard is None else [guard])
    return scalar("load", args, source.dtype, Element(source, fill, guard is not None))


def nest_of(target: Buffer, out: Sequence[Axis], value: Scalar) -> Nest:
    """Make a nest of one store, `target[out] = value`."""
    own = tuple(out)
    return Nest("made", own, (Store(target, own, tuple(a.scalar() for a in own), value),))


def definitions(outputs: Any, inputs: Sequence[Value]) -> list[Nest]:
    """Give the nests of everything fused that computes outputs without a library."""
    values = [outputs] if isinstance(outputs, Value) else list(outputs)
    order = fuse(build(Graph(inputs, values)), NOMINAL)
    return [item.nest() for item in order.nodes]


def only(outputs: Any, *inputs: Value) -> Nest:
    """Give the one nest of outputs."""
    (found,) = definitions(outputs, inputs)
    return found


def flat(nest: Nest) -> Nest:
    """Flatten a nest that stays one."""
    nests, between = flatten(nest, NOMINAL)
    assert between == []
    return nests[0]


def reduces(nest: Nest) -> list[Scalar]:
    return [node for node in nest.order() if node.op == "reduce"]


def statements(nest: Nest) -> tuple[Statement, ...]:
    """Schedule a flattened nest."""
    return loops(nest, choose(nest, NOMINAL))


def walk(body: Sequence[Statement]) -> Iterator[Statement]:
    """Give all statements, outer ones first."""
    for one in body:
        yield one
        if isinstance(one, Tasks | For):
            yield from walk(one.body)
        elif isinstance(one, Reduce):
            yield from walk([one.loop])


def innermost(body: Sequence[Statement]) -> list[For]:
    """Give the loops in which no other loop stands."""
    every = [one for one in walk(body) if isinstance(one, For)]
    return [one for one in every if not any(isinstance(s, For | Reduce) for s in one.body)]
