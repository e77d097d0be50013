"""The barrier: a value again, as another node, that waits for others to be computed.

Values are interned, so the same operation on the same operands is never a second node. An operation
on a barrier is one: this is how a graph says that something is computed twice. No rule and no pass
that every function runs looks through it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.graph.arguments import plain_int
from symgraph.graph.index import Compute, axes, load
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, make
from symgraph.graph.op import ZERO, Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, Type


@op
class Barrier(Op):
    """The first operand itself, after the others are computed; `copy` tells barriers apart.

    The other operands order and are not read: whoever computes a graph in an order that is
    topological computes what stands above a barrier after all of them. The index expression cannot
    say that, since it loads only the first operand; a backend that reorders index expressions has
    to take the edges of the graph for its order.
    """

    takes_complex = True

    copy: int = 0
    variadic = True
    view = True

    def infer(self, x: TensorType, *after: Type) -> Type:
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return arrays[0]

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (g, *(ZERO for _ in xs[1:]))

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out = axes(xs[0].shape)
        return Compute(out, load(0, xs[0].dtype, *out))

    samples = (
        sample(lambda x: F.barrier(x), arg(("B", 3)), label="alone"),
        sample(
            lambda x, y: F.barrier(x, y, F.exp(y), copy=2),
            arg(("B", 3)),
            arg((4,)),
            label="after others",
        ),
        sample(
            lambda x: F.exp(F.barrier(x)) + F.exp(F.barrier(x, copy=1)),
            arg(("B", 2)),
            label="computed twice",
        ),
        sample(
            lambda x, y: F.barrier(x, y), arg((), "int32"), arg(("A",), "bool"), label="integers"
        ),
        sample(lambda x: F.barrier(x, x), arg(("A", 1)), sizes={"A": 0}, label="empty"),
    )
    bad = (
        bad(lambda x: F.barrier(x, copy=-1), arg((3,)), error=ArgumentError, match="at least 0"),
        bad(lambda x: F.barrier(x, copy="a"), arg((3,)), error=ArgumentTypeError, match="an int"),
    )


@function_of
def barrier(x: Any, *after: Any, copy: int = 0) -> Value:
    """Give `x` as another node, which is there once all values in `after` are computed.

    Barriers of one value that differ in `after` or in `copy` are different nodes, and so is
    everything that is built on them. The gradient passes through to `x`. Raises `ArgumentError`
    for a negative `copy`.

    >>> import symgraph as sg
    >>> x = sg.vector("x")
    >>> sg.exp(sg.F.barrier(x)) is sg.exp(x)
    False
    """
    number = plain_int("barrier", "copy", copy)
    if number < 0:
        raise ArgumentError(f"barrier: copy must be at least 0, got {number}.", fix="copy=1")
    return make(Barrier(number), as_value(x), *map(as_value, after))
