"""The largest elements along an axis, in order."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from symgraph.dims import require_less_equal
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.graph.arguments import normal_axis, plain_int
from symgraph.graph.dtypes import is_float
from symgraph.graph.index import (
    MAX,
    SUM,
    Axis,
    Compute,
    axes,
    load,
    m,
    position,
    reduce,
)
from symgraph.graph.index import (
    axis as loop,
)
from symgraph.graph.leaves import as_value, items
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, compute_dtype, widen
from symgraph.graph.types import TensorType, TupleType

LONG = 128  # elements that are worth sorting


@op
class TopK(Op):
    """The `k` largest elements along an axis, descending, and their positions as int64.

    Of equal elements the first comes first; a NaN counts as larger than all numbers.
    """

    k: int
    axis: int
    name = "topk"

    def infer(self, x: TensorType) -> TupleType:
        if x.dtype == "bool":
            raise DTypeError("takes numbers, not bool.", fix='cast first: x.cast("int32")')
        size = x.shape[self.axis]
        require_less_equal(self.k, size, f"k must be at most the size of axis {self.axis} of {{x}}")
        shape = (*x.shape[: self.axis], self.k, *x.shape[self.axis + 1 :])
        return TupleType((x.with_shape(shape), TensorType("int64", shape)))

    def ref(self, xp: ModuleType, *arrays: Array) -> tuple[Array, Array]:
        # Sorted ascending from back to front and read backwards: NaNs, which sort last, come
        # first, and of equal elements the first, because the sort is stable.
        (x,) = arrays
        wide = widen(x)
        back = xp.flip(wide, axis=self.axis)
        order = xp.flip(xp.argsort(back, axis=self.axis, kind="stable"), axis=self.axis)
        first = (*(slice(None),) * self.axis, slice(0, self.k))
        places = (x.shape[self.axis] - 1 - order)[first].astype(xp.int64)
        return xp.take_along_axis(x, places, axis=self.axis), places

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        (x,) = xs
        if not is_float(x.dtype) or g[0] is None:
            return (None,)
        return (F.scatter_add_along_axis(g[0], y[1], x.shape[self.axis], axis=self.axis),)

    def expand(self, F: Functions, *xs: Value) -> tuple[Value, ...] | Compute:
        x, size = xs[0].tensor, xs[0].shape[self.axis]
        if not isinstance(size, int) or size >= LONG:
            order = F.argsort(xs[0], axis=self.axis, descending=True)
            places = order[(*(slice(None),) * self.axis, slice(0, self.k))]
            return F.take_along_axis(xs[0], places, axis=self.axis), places
        values, positions = (self._place(x) for _ in range(2))
        out, place = values
        index = [place if d == self.axis else a for d, a in enumerate(out)]
        return Compute(out, load(0, x.dtype, *index), others=(Compute(*positions),))

    def _place(self, x: TensorType) -> tuple[tuple[Axis, ...], Scalar]:
        """Give the axes of a result and where its element stands: the one with this rank.

        The rank of an element is the number of those that come before it.
        """
        out = axes((*x.shape[: self.axis], self.k, *x.shape[self.axis + 1 :]))
        one, other = loop(x.shape[self.axis], "i"), loop(x.shape[self.axis], "j")

        def at(place: Axis) -> Scalar:
            index = [place if d == self.axis else a for d, a in enumerate(out)]
            return m.cast(load(0, x.dtype, *index), compute_dtype(x.dtype))

        here, there = at(one), at(other)
        larger, same = there > here, m.eq(there, here)
        if is_float(x.dtype):
            larger = larger | (m.isnan(there) & ~m.isnan(here))
            same = same | (m.isnan(there) & m.isnan(here))
        before = m.cast(larger | (same & (other < one)), "int64")
        rank = reduce(SUM, (other,), before)
        chosen = m.select(m.eq(rank, out[self.axis].scalar()), position(one), 0)
        return out, reduce(MAX, (one,), chosen)

    samples = (
        sample(lambda x: F.topk(x, 2), arg(("B", 5), distinct=True)),
        sample(lambda x: F.topk(x, 3, axis=0), arg(("B", 2), distinct=True)),
        sample(lambda x: F.topk(x, 1, axis=1)[0], arg((2, 17, 2), distinct=True)),
        sample(lambda x: F.topk(x, 3)[1], arg((2, 3)), gradient=()),
        sample(lambda x: F.topk(x, 0), arg((2, 0))),
        sample(lambda x: F.topk(x, 4), arg((2, 5), values=(1, 3, 3, 1, 3)), gradient=()),
        sample(
            lambda x: F.topk(x, 4),
            arg((1, 6), values=(0, float("nan"), 7, float("nan"), -1, 7)),
            gradient=(),
        ),
        sample(lambda x: F.topk(x, 5), arg((2, 33), "bfloat16"), gradient=()),
        sample(lambda x: F.topk(x, 3), arg((4, 9), "int8", low=-128, high=128)),
        sample(lambda x: F.topk(x, 3), arg((4, 9), "uint8", low=0, high=4)),
        sample(lambda x: F.topk(x, 5, axis=0), arg((150, 2), "int16", low=0, high=9)),
    )
    bad = (
        bad(lambda x: F.topk(x, 4), arg((2, 3)), error=ShapeError, match="topk: k .* 4 > 3"),
        bad(lambda x: F.topk(x, -1), arg((3,)), error=ArgumentError, match="k must be >= 0"),
        bad(lambda x: F.topk(x, 1, 1), arg((3,)), error=ArgumentError, match="topk: axis 1"),
        bad(lambda x: F.topk(x, 1.5), arg((3,)), error=ArgumentTypeError, match="k must be an int"),
        bad(lambda x: F.topk(x, 1), arg((3,), "bool"), error=DTypeError, match="not bool"),
    )  # fmt: skip


@function_of
def topk(x: Any, k: int, axis: int = -1) -> tuple[Value, Value]:
    """Find the `k` largest elements along an axis: (values, positions), descending.

    Of equal elements the first comes first; a NaN counts as larger than all numbers. Positions are
    int64. Raises `ShapeError` when there are fewer than `k`, `DTypeError` for bools.

    >>> import symgraph as sg
    >>> values, positions = sg.F.topk(sg.constant([3, 9, 5]), 2)
    >>> values.eval().tolist(), positions.eval().tolist()
    ([9, 5], [1, 2])
    """
    value = as_value(x)
    count = plain_int("topk", "k", k)
    if count < 0:
        raise ArgumentError(f"topk: k must be >= 0, got {count}.", fix="give a number of elements")
    found = items(make(TopK(count, normal_axis("topk", axis, value.ndim)), value))
    return found[0], found[1]
