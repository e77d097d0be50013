"""The product of all other elements along an axis: the derivative of `prod`, without division."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from symgraph.errors import ArgumentError, DTypeError
from symgraph.graph.arguments import normal_axis
from symgraph.graph.dtypes import has_gradient
from symgraph.graph.index import PROD, Compute, axes, load, m, reduce
from symgraph.graph.index import axis as loop
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import compute_dtype, widen
from symgraph.graph.types import TensorType, Type


@op
class ProdOthers(Op):
    """At each position the product of all elements along `axis` but this one."""

    takes_complex = True

    axis: int

    def infer(self, x: TensorType) -> Type:
        if not has_gradient(x.dtype):
            raise DTypeError(f"takes floats, not {x.dtype}.", fix="cast first")
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        if x.shape[self.axis] == 0:
            return x.copy()
        wide = widen(x)
        rows = xp.moveaxis(wide, self.axis, -1)
        one = xp.ones((*rows.shape[:-1], 1), rows.dtype)
        with np.errstate(all="ignore"):
            before = xp.cumprod(xp.concatenate([one, rows[..., :-1]], axis=-1), axis=-1)
            after = xp.cumprod(xp.concatenate([one, rows[..., :0:-1]], axis=-1), axis=-1)
            found = before * after[..., ::-1]
        return xp.moveaxis(found, -1, self.axis).astype(x.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        # d y[i] / d x[k] is the product of all but i and k. Row i of the square holds x with a 1
        # in place of x[i], so that the product of its others is the product of all but i and k.
        x = F.moveaxis(xs[0], self.axis, -1)
        count = x.shape[-1]
        square = (*x.shape, count)
        diagonal = F.eye(count, dtype="bool")
        rows = F.where(diagonal, 1.0, F.broadcast_to(F.expand_dims(x, -2), square))
        all_but_two = F.prod_others(rows, axis=-1)
        weight = F.expand_dims(F.moveaxis(g, self.axis, -1), -1)
        pulled = F.sum(F.where(diagonal, 0.0, weight * F.conj(all_but_two)), axis=-2)
        return (F.moveaxis(pulled, -1, self.axis),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x = xs[0].tensor
        out = axes(x.shape)
        other = loop(x.shape[self.axis], "j")
        index = [other if d == self.axis else a for d, a in enumerate(out)]
        element = m.cast(load(0, x.dtype, *index), compute_dtype(x.dtype))
        factor = m.select(out[self.axis].equals(other), m.like(1, element), element)
        return Compute(out, m.cast(reduce(PROD, (other,), factor), x.dtype))

    samples = (
        sample(lambda x: F.prod_others(x), arg(("B", 3))),
        sample(lambda x: F.prod_others(x, axis=0), arg(("B", 2))),
        sample(lambda x: F.prod_others(x), arg((2, 4), values=(0, 2, 3, 4, 0, 1, 0, 5))),
        sample(lambda x: F.prod_others(x), arg((3, 1))),
        sample(lambda x: F.prod_others(x, axis=1), arg((2, 0))),
        sample(lambda x: F.prod_others(x, axis=1), arg((2, 17, 2), low=0.5, high=1.5)),
        sample(lambda x: F.prod_others(x), arg((2, 5), "float16")),
    )
    bad = (
        bad(lambda x: F.prod_others(x, 1), arg((3,)), error=ArgumentError, match="axis 1"),
        bad(lambda x: F.prod_others(x), arg((3,), "int32"), error=DTypeError, match="takes floats"),
    )


@function_of
def prod_others(x: Any, axis: int = -1) -> Value:
    """Multiply all other elements along an axis: y[i] = product over j != i of x[j].

    It is the derivative of `prod`, right where elements are zero. The result has the type of `x`.
    Raises `DTypeError` unless `x` holds floats, `ArgumentError` for a wrong axis.
    """
    value = as_value(x)
    return make(ProdOthers(normal_axis("prod_others", axis, value.ndim)), value)
