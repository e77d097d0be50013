"""The branch: one of several bodies is run, the others are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from symgraph.dims import Size, maximum
from symgraph.errors import DTypeError, ShapeError
from symgraph.graph.body import Body, closed, like, require_same
from symgraph.graph.dtypes import has_gradient
from symgraph.graph.leaves import items
from symgraph.graph.node import Value, make
from symgraph.graph.op import ZERO, Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, TupleType


@op
class Branch(Op):
    """Run `branches[k]` for the int32 operand k, of which too small and too large ones are clipped.

    The other operands are the inputs of every branch.
    """

    branches: tuple[Body, ...]
    variadic = True
    takes_complex = True

    def infer(self, *types: TensorType) -> TupleType:
        which, *others = types
        if which != TensorType("int32", ()):
            raise DTypeError(f"{{x0}} must be one int32, it is {which}.", fix="cast it")
        first = self.branches[0]
        for number, body in enumerate(self.branches):
            if len(body.inputs) != len(others):
                raise ShapeError(f"branch {number} takes {len(body.inputs)} operands.")
            pairs = [*zip(others, (one.tensor for one in body.inputs))]
            for place, (found, wanted) in enumerate(pairs, 1):
                require_same(f"{{x{place}}}", found, wanted)
            if len(body.outputs) != len(first.outputs):
                raise ShapeError(
                    f"branch {number} gives {len(body.outputs)} values, the first "
                    f"{len(first.outputs)}.",
                    fix="give as many in all branches",
                )
            for place, (one, other) in enumerate(zip(body.outputs, first.outputs)):
                what = f"result {place} of branch {number}"
                require_same(what, one.tensor, other.tensor)
            body.require_guards()
        return TupleType(tuple(one.tensor for one in first.outputs))

    def ref(self, xp: ModuleType, *arrays: Array) -> Any:
        which = min(max(int(arrays[0]), 0), len(self.branches) - 1)
        return tuple(self.branches[which].run(xp, arrays[1:]))

    def flops(self, of: Callable[[Value], Size], *types: TensorType) -> Size:
        return maximum(*(body.flops(of) for body in self.branches))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        which, *others = xs
        wrt = [place for place, x in enumerate(others) if has_gradient(x.dtype)]
        seeded = [n for n, one in enumerate(g) if one is not None and has_gradient(y[n].dtype)]
        if not wrt or not seeded:
            return (None, *(ZERO if has_gradient(x.dtype) else None for x in others))
        branches = []
        for body in self.branches:
            seeds = [like(body.outputs[n].tensor) for n in seeded]
            sources = [body.inputs[place] for place in wrt]
            outputs = [body.outputs[n] for n in seeded]
            pulled: Any = F.vjp(outputs, sources, seeds, missing="zero")
            branches.append(Body((*seeds, *body.inputs), tuple(pulled)))
        found = items(make(Branch(tuple(branches)), which, *(g[n] for n in seeded), *others))
        result: list[Cotangent] = [ZERO if has_gradient(x.dtype) else None for x in others]
        for place, value in zip(wrt, found):
            result[place] = value
        return (None, *result)


@function_of
def branch(which: Value, branches: Sequence[Body], operands: Sequence[Value]) -> tuple[Value, ...]:
    """Run one of several bodies, on operands of their inputs' types; give its outputs.

    See `Branch`; `cond` and `switch` are the functions for users.
    """
    return items(make(Branch(tuple(branches)), F.cast(which, "int32"), *operands))


def _one_of(count: int) -> Any:
    def build(which: Value, x: Value, w: Value) -> Any:
        bodies = []
        for number in range(count):
            a, b = like(x.tensor), like(w.tensor)
            made = (F.tanh(a) * b, F.sum(a)) if number else (a * a - b, F.sum(b))
            bodies.append(closed("branch", [a, b], made)[0])
        return F.branch(which, bodies, [x, w])

    return build


def _unlike(which: Value, x: Value) -> Any:
    a, b = like(x.tensor), like(x.tensor)
    return F.branch(which, [closed("b", [a], [a])[0], closed("b", [b], [F.sum(b)])[0]], [x])


Branch.samples = (
    sample(_one_of(2), arg((), "int32", values=(1,)), arg(("B", 3)), arg((3,))),
    sample(_one_of(2), arg((), "int32", values=(0,)), arg(("B", 3)), arg((3,))),
    sample(_one_of(3), arg((), "int32", values=(7,)), arg((2, "N")), arg(("N",)), sizes={"N": 0}),
)
Branch.bad = (
    bad(_unlike, arg((), "int32"), arg((3,)), match="result 0 of branch 1 must be float32"),
    bad(
        lambda k, x: F.branch(k, [closed("b", [x], [x])[0]], [x]), arg((2,), "int32"), arg((3,)),
        error=DTypeError, match="must be one int32",
    ),
)  # fmt: skip
