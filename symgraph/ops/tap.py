"""The tap: a value that a Python function looks at whenever it is computed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size
from symgraph.errors import ArgumentTypeError
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, make
from symgraph.graph.op import ZERO, Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, Type

_places = itertools.count()


@op
class Tap(Op):
    """The first operand, after `fn` was called with it; the other operands come before.

    `place` is the order in which taps were made: no two are one, and they are called in it.
    """

    fn: Callable[[Array], object]
    place: int
    variadic = True
    host = True
    calls_user = True

    def infer(self, x: TensorType, *before: Type) -> Type:
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        # a copy: what it keeps stays, what it writes hurts nobody
        self.fn(np.array(xp.asnumpy(arrays[0]) if hasattr(xp, "asnumpy") else arrays[0]))
        return xp.array(arrays[0])

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (g, *(ZERO for _ in xs[1:]))

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        return 0


@function_of
def tap(x: Any, fn: Callable[[Array], object]) -> Value:
    """Give `x`; whenever it is computed, `fn` is called with its numbers, a NumPy array.

    It is called once in each call of a function whose outputs or updates need the tapped value, in
    each step of a loop that computes it, and in the order in which taps were made. What it gives is
    ignored. An exception in it ends the call, and no variable is updated. (Where a call is refused
    for numbers, such as a label that is none, the reference says why, and may call `fn` again.)
    The gradient passes through and calls nothing. Raises `ArgumentTypeError` where `fn` cannot be
    called.

    >>> import symgraph as sg
    >>> x = sg.vector("x")
    >>> f = sg.function([x], sg.tap(x * 2, print).sum())
    >>> float(f([1.0, 2.0]))
    [2. 4.]
    6.0
    """
    if not callable(fn):
        raise ArgumentTypeError(
            f"tap: fn must be a function of an array, got {type(fn).__name__}.",
            fix="sg.tap(x, print)",
        )
    return make(Tap(fn, next(_places)), as_value(x))


def _ignored(array: Array) -> None:
    pass


Tap.samples = (
    sample(lambda x: F.tap(x, _ignored), arg(("B", 3))),
    sample(lambda x: F.tap(F.exp(x), _ignored) * F.tap(x, _ignored), arg((2, "B"))),
    sample(lambda x: F.tap(x, _ignored) + 1, arg(("B",), "int32"), sizes={"B": 0}, label="empty"),
    sample(lambda x: F.tap(x, _ignored), arg((), "bool"), label="scalar"),
)
Tap.bad = (
    bad(lambda x: F.tap(x, 3), arg((3,)), error=ArgumentTypeError, match="must be a function"),
)
