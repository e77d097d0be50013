"""Saying what a shape is: the same value, with sizes that are checked while building or running."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from symgraph.dims import require_equal
from symgraph.errors import ShapeError
from symgraph.graph.arguments import shape_argument
from symgraph.graph.index import Compute, axes, load
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import Shape, TensorType, Type


@op
class SpecifyShape(Op):
    """The operand itself, its shape known to be `shape`."""

    takes_complex = True

    shape: Shape
    view = True

    def infer(self, x: TensorType) -> Type:
        if len(self.shape) != x.ndim:
            raise ShapeError(f"{{x}} has {x.ndim} axes, the shape says {len(self.shape)}.")
        for axis, (found, said) in enumerate(zip(x.shape, self.shape)):
            require_equal(found, said, f"axis {axis} of {{x}} must be as specified")
        return x.with_shape(self.shape)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return arrays[0]

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (F.specify_shape(g, xs[0].shape),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out = axes(self.shape)
        return Compute(out, load(0, xs[0].dtype, *out))

    samples = (
        sample(lambda x: F.specify_shape(x, (3, 4)), arg(("B", 4))),
        sample(
            lambda x: F.specify_shape(x, (x.shape[0], 5)),
            arg(("B", "C"), "int32"),
            sizes={"B": 2, "C": 5},
        ),
        sample(lambda x: F.specify_shape(x, (0, 1)), arg(("A", 1)), sizes={"A": 0}),
    )
    bad = (
        bad(lambda x: F.specify_shape(x, (3, 4)), arg((3, 5)), match=r"specify_shape.*5 != 4"),
        bad(lambda x: F.specify_shape(x, (3,)), arg((3, 5)), match="has 2 axes"),
    )


@function_of
def specify_shape(x: Any, shape: Any) -> Value:
    """Give `x` with the shape it is said to have; what is undecided is checked at run time.

    Raises `ShapeError` where a size can never be as said.

    >>> import symgraph as sg
    >>> str(sg.specify_shape(sg.matrix("x"), (2, 3)).type)
    'float32[2, 3]'
    """
    value = as_value(x)
    sizes = shape_argument("specify_shape", shape)
    return (
        value
        if value.tensor.same(value.tensor.with_shape(sizes))
        else make(SpecifyShape(sizes), value)
    )
