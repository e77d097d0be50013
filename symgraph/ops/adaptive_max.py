"""The largest element under windows whose number is given, along one axis.

Window p of `size` goes from floor(p n / size) to below ceil((p + 1) n / size), as in the rule
"area" of `resize_rules.py`. The gradient goes to the first largest element; a NaN always wins.
Several axes are pooled one after the other, the last one first, which finds the same elements.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size, require_equal, require_less_equal
from symgraph.errors import DTypeError, ShapeError
from symgraph.graph.index import (
    ARGMAX,
    MAX,
    SUM,
    Axis,
    Compute,
    axes,
    axis,
    inside,
    load,
    m,
    position,
    reduce,
    take,
)
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.precision import check_float, wide_load
from symgraph.graph.registry import F, Functions
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, widen
from symgraph.graph.types import TensorType
from symgraph.ops.pool import lowest
from symgraph.ops.resize_rules import RULES

_AREA = RULES["area"]


class Windows(Op):
    """What the two that look for the largest share."""

    axis: int
    size: Size

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype == "bool":
            raise DTypeError("takes numbers, not bool.", fix='.cast("int8")')
        if self.axis >= x.ndim:
            raise ShapeError(f"{{x}} has {x.ndim} axes, no axis {self.axis}.")
        require_less_equal(1, x.shape[self.axis], f"axis {self.axis} of {{x}} must not be empty")
        require_less_equal(1, self.size, f"the pooled axis {self.axis} must not be empty")
        return x.with_shape(self.size if d == self.axis else n for d, n in enumerate(x.shape))

    def slices(self, size: int) -> list[slice]:
        """Give the windows over an axis of a size."""
        out: Any = self.size
        return [slice(p * size // out, -(-(p + 1) * size // out)) for p in range(out)]

    def seen(self, x: Value) -> tuple[tuple[Axis, ...], Axis, Scalar, Scalar]:
        """Give the axes, the loop over a window, the element that it sees, and where that is."""
        along = x.shape[self.axis]
        shape = [self.size if d == self.axis else n for d, n in enumerate(x.shape)]
        out, inner = axes(shape), axis(_AREA.taps(along, self.size), "k")
        p, size, many = out[self.axis].scalar(), position(along), position(self.size)
        place = _AREA.first(m, p, size, many) + inner.scalar()
        top, _ = _AREA.weight(m, p, place, size, many)
        index = [place if d == self.axis else each for d, each in enumerate(out)]
        guard = inside(place, along) & (top > 0)
        return out, inner, load(0, x.dtype, *index, guard=guard, fill=lowest(x.dtype)), place


def _wrong(kind: Callable[[int, int], Op]) -> tuple[Any, ...]:
    """Give the error cases of the operation that `kind` makes of an axis and a size."""
    return (
        bad(lambda x: make(kind(1, 2), x), arg((2, 0)), match="must not be empty"),
        bad(lambda x: make(kind(1, 0), x), arg((2, 3)), match="must not be empty"),
        bad(lambda x: make(kind(2, 2), x), arg((2, 3)), match="no axis 2"),
        bad(lambda x: make(kind(0, 2), x), arg((2,), "bool"), error=DTypeError, match="bool"),
    )


_SHORT = arg(("B", 7, 2), distinct=True)
_NAN = arg((5,), values=(1.0, float("nan"), 2.0, -1.0, float("-inf")))


@op
class AdaptiveMax(Windows):
    """The largest element under each of `size` windows along one axis."""

    axis: int
    size: Size
    samples = (
        sample(lambda x: make(AdaptiveMax(1, 3), x), _SHORT),
        sample(lambda x: make(AdaptiveMax(1, 4), x), arg((2, "W"), distinct=True), label="grown"),
        sample(lambda x: make(AdaptiveMax(0, 3), x), arg(("B", 1), "int32"), sizes={"B": 17}),
        sample(lambda x: make(AdaptiveMax(1, 2), x), arg((0, 3)), label="none"),
        sample(lambda x: make(AdaptiveMax(0, 3), x), _NAN, label="nan", gradient=()),
    )
    bad = _wrong(lambda along, size: AdaptiveMax(along, size))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        moved = xp.moveaxis(x, self.axis, 0)
        windows = [moved[each] for each in self.slices(len(moved))]
        found = xp.stack([xp.max(widen(each), axis=0) for each in windows])
        return xp.ascontiguousarray(xp.moveaxis(found, 0, self.axis)).astype(x.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        (x,) = xs
        places = make(AdaptiveArgmax(self.axis, self.size), x)
        return (make(AdaptiveSpread(self.axis, x.shape[self.axis]), g, places),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out, inner, element, _ = self.seen(xs[0])
        return Compute(out, reduce(MAX, [inner], element))


@op
class AdaptiveArgmax(Windows):
    """Where along the axis the first largest element under each window is, as int64."""

    axis: int
    size: Size
    samples = (
        sample(lambda x: make(AdaptiveArgmax(1, 3), x), _SHORT, gradient=()),
        sample(
            lambda x: make(AdaptiveArgmax(0, 3), x), arg(("B", 2), "int32", low=0, high=3),
            sizes={"B": 17}, label="ties",
        ),
        sample(lambda x: make(AdaptiveArgmax(0, 3), x), _NAN, label="nan", gradient=()),
    )  # fmt: skip
    bad = _wrong(lambda along, size: AdaptiveArgmax(along, size))

    def infer(self, x: TensorType) -> TensorType:
        return super().infer(x).with_dtype("int64")

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        moved = xp.moveaxis(x, self.axis, 0)
        windows = self.slices(len(moved))
        found = [xp.argmax(widen(moved[each]), axis=0) + each.start for each in windows]
        return xp.ascontiguousarray(xp.moveaxis(xp.stack(found), 0, self.axis)).astype(np.int64)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (None,)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out, inner, element, place = self.seen(xs[0])
        return Compute(out, take(reduce(ARGMAX, [inner], element, place), 1, "int64"))


@op
class AdaptiveSpread(Op):
    """dx[q] = the sum of g[p] over the windows p over q whose place is q, along one axis."""

    axis: int
    size: Size
    samples = (
        sample(
            lambda g, i: make(AdaptiveSpread(1, 5), g, i), arg(("B", 3)),
            arg((1, 3), "int64", values=(1, 1, 4)), sizes={"B": 1},
        ),
        sample(lambda x: F.grad(F.sum(make(AdaptiveMax(1, 3), x) ** 2), x), _SHORT, label="grad"),
        sample(
            lambda x: F.grad(F.sum(make(AdaptiveMax(0, 5), x) ** 2), x),
            arg(("B", 2), distinct=True), label="grown",
        ),
    )  # fmt: skip
    bad = (
        bad(
            lambda g, i: make(AdaptiveSpread(1, 5), g, i), arg((1, 3)), arg((1, 2), "int64"),
            match="3 != 2",
        ),
        bad(
            lambda g, i: make(AdaptiveSpread(1, 5), g, i), arg((1, 3)), arg((1, 3)),
            error=DTypeError, match="must be int64",
        ),
    )  # fmt: skip

    def infer(self, g: TensorType, places: TensorType) -> TensorType:
        check_float(g, "g")
        if places.dtype != "int64":
            raise DTypeError(f"{{places}} must be int64, not {places.dtype}.")
        if places.ndim != g.ndim or self.axis >= g.ndim:
            raise ShapeError("{places} must have the shape of {g}.")
        for d, (a, b) in enumerate(zip(g.shape, places.shape)):
            require_equal(a, b, f"size {d} of {{g}} must equal size {d} of {{places}}")
        return g.with_shape(self.size if d == self.axis else n for d, n in enumerate(g.shape))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        g, places = arrays
        shape: Any = [self.size if d == self.axis else n for d, n in enumerate(g.shape)]
        total = xp.zeros(shape, widen(g).dtype)
        index = list(np.indices(g.shape, sparse=True))
        index[self.axis] = places
        xp.add.at(total, tuple(index), widen(g))
        return total.astype(g.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return F.take_along_axis(g, xs[1], self.axis), None

    def expand(self, F: Functions, *xs: Value) -> Compute:
        g, _ = xs
        along = g.shape[self.axis]
        out = axes([self.size if d == self.axis else n for d, n in enumerate(g.shape)])
        q, size, many = out[self.axis].scalar(), position(self.size), position(along)
        inner = axis(_AREA.back_taps(self.size, along), "k")
        window = _AREA.back_first(m, q, size, many) + inner.scalar()
        index = [window if d == self.axis else each for d, each in enumerate(out)]
        guard = inside(window, along)
        hit = guard & m.eq(load(1, "int64", *index, guard=guard, fill=-1), q)
        element = wide_load(0, g, *index, guard=guard)
        each = m.select(hit, element, m.like(0, element))
        return Compute(out, m.cast(reduce(SUM, [inner], each), g.dtype))
