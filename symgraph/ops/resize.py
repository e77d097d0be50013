"""Resizing one axis, and its transpose: each a weighted sum of a few places.

What is summed follows from the rules in `resize_rules.py`. A place whose weight is 0 is not read
into the sum, so that an infinite neighbour makes no NaN. Half precisions compute in float32.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size, require_less_equal
from symgraph.errors import ShapeError
from symgraph.graph.index import SUM, Axis, Compute, axes, axis, inside, m, position, reduce
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.precision import check_float, wide_load
from symgraph.graph.registry import Functions
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import NumpyMath, Scalar, widen
from symgraph.graph.types import TensorType
from symgraph.ops.resize_rules import RULES


def _resized(type: TensorType, along: int, size: Size, name: str) -> TensorType:
    check_float(type, name)
    if along >= type.ndim:
        raise ShapeError(f"{{{name}}} has {type.ndim} axes, no axis {along}.")
    return type.with_shape(size if d == along else n for d, n in enumerate(type.shape))


def _summed(
    x: Value, along: int, out: tuple[Axis, ...], first: Any, taps: Size, weigh: Any, loop: bool
) -> Scalar:
    """Give the sum over `taps` places from `first` on, each by its weight.

    It is a loop, or, for a number of taps that never depends on sizes, written out.
    """
    extent = x.shape[along]

    def term(tap: Any) -> Scalar:
        place = first + tap
        top, bottom = weigh(place)
        seen = inside(place, extent) & (top > 0)
        index = [place if d == along else each for d, each in enumerate(out)]
        element = wide_load(0, x, *index, guard=seen)
        if bottom is None:
            return element
        share = m.cast(top, element.dtype) / m.cast(position(bottom), element.dtype)
        # what is not seen may have an infinite weight by a denominator of 0
        return m.select(seen, element * share, m.like(0, element))

    if loop or not isinstance(taps, int):
        inner = axis(taps, "k")
        total = reduce(SUM, [inner], term(inner.scalar()))
    else:
        total = term(0)
        for number in range(1, taps):
            total = total + term(number)
    return m.cast(total, x.dtype)


def _computed(x: Array, along: int, first: Array, taps: int, weigh: Any) -> Array:
    """Compute the same with NumPy or CuPy, tap by tap."""
    wide = widen(x)
    column = [-1 if d == along else 1 for d in range(x.ndim)]
    shape = [len(first) if d == along else n for d, n in enumerate(x.shape)]
    total = np.zeros_like(wide, shape=shape)
    with np.errstate(all="ignore"):
        for tap in range(taps if x.size else 0):
            place = first + tap
            top, bottom = weigh(place)
            seen = (place >= 0) & (place < x.shape[along]) & (top > 0)
            element = np.take(wide, np.where(seen, place, 0), axis=along)
            share = top.astype(wide.dtype) / (1 if bottom is None else bottom)
            weight = share.astype(wide.dtype).reshape(column)
            total += np.where(seen.reshape(column), element * weight, 0)
    return total.astype(x.dtype, copy=False)


@op
class Resize(Op):
    """y[..., p, ...] = the sum over q of weight(p, q) x[..., q, ...] along one axis."""

    axis: int
    size: Size
    mode: str
    samples = (
        sample(lambda x: make(Resize(1, 5, "linear"), x), arg(("B", 3)), label="linear"),
        sample(lambda x: make(Resize(0, 4, "linear"), x), arg(("B", 2)), label="shrunk",
               sizes={"B": 9}),
        sample(lambda x: make(Resize(2, x.shape[2] * 2, "corners"), x), arg((2, 1, "W")),
               label="corners"),
        sample(lambda x: make(Resize(1, 4, "area"), x), arg((2, "W", 3)), label="area",
               sizes={"W": 7}),
        sample(lambda x: make(Resize(0, 5, "area"), x), arg(("B", 1)), label="more",
               sizes={"B": 2}),
        sample(lambda x: make(Resize(1, 7, "nearest"), x), arg((2, "W")), label="nearest"),
        sample(lambda x: make(Resize(1, 3, "nearest-exact"), x), arg((0, 17)), label="none"),
    )  # fmt: skip
    bad = (
        bad(lambda x: make(Resize(1, 2, "area"), x), arg((2, 0)), match="must not be empty"),
        bad(lambda x: make(Resize(1, 0, "area"), x), arg((2, 3)), match="must not be empty"),
        bad(lambda x: make(Resize(2, 2, "area"), x), arg((2, 3)), match="no axis 2"),
    )

    def infer(self, x: TensorType) -> TensorType:
        found = _resized(x, self.axis, self.size, "x")
        require_less_equal(1, x.shape[self.axis], f"axis {self.axis} of {{x}} must not be empty")
        require_less_equal(1, self.size, f"the resized axis {self.axis} must not be empty")
        return found

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        out: Any = self.size
        rule, size, math = RULES[self.mode], x.shape[self.axis], NumpyMath(xp)
        p = xp.arange(out)
        first = rule.first(math, p, size, out)
        taps: Any = rule.taps(size, out)
        return _computed(x, self.axis, first, taps, lambda q: rule.weight(math, p, q, size, out))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (make(ResizeBack(self.axis, xs[0].shape[self.axis], self.mode), g),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        (x,) = xs
        rule, along = RULES[self.mode], x.shape[self.axis]
        out = axes(_resized(x.tensor, self.axis, self.size, "x").shape)
        p, size, many = out[self.axis].scalar(), position(along), position(self.size)
        value = _summed(
            x, self.axis, out, rule.first(m, p, size, many), rule.taps(along, self.size),
            lambda q: rule.weight(m, p, q, size, many), loop=self.mode == "area",
        )  # fmt: skip
        return Compute(out, value)


@op
class ResizeBack(Op):
    """The transpose of `Resize`: dx[q] = the sum over p of weight(p, q) g[p] along one axis."""

    axis: int
    size: Size
    mode: str
    samples = (
        sample(lambda g: make(ResizeBack(1, 3, "linear"), g), arg(("B", 8)), label="linear"),
        sample(lambda g: make(ResizeBack(0, 9, "linear"), g), arg(("B", 2)), label="shrunk"),
        sample(lambda g: make(ResizeBack(1, 1, "corners"), g), arg((2, "W")), label="corners"),
        sample(lambda g: make(ResizeBack(1, 7, "area"), g), arg((2, "W", 3)), label="area"),
        sample(lambda g: make(ResizeBack(0, 2, "area"), g), arg(("B", 1)), label="more"),
        sample(lambda g: make(ResizeBack(1, 3, "nearest"), g), arg((2, "W")), label="nearest",
               sizes={"W": 7}),
        sample(lambda g: make(ResizeBack(1, 3, "nearest-exact"), g), arg((0, 17)), label="none"),
    )  # fmt: skip
    bad = (
        bad(lambda g: make(ResizeBack(1, 2, "area"), g), arg((2, 0)), match="must not be empty"),
        bad(lambda g: make(ResizeBack(2, 2, "area"), g), arg((2, 3)), match="no axis 2"),
    )

    def infer(self, g: TensorType) -> TensorType:
        found = _resized(g, self.axis, self.size, "g")
        require_less_equal(1, g.shape[self.axis], f"axis {self.axis} of {{g}} must not be empty")
        require_less_equal(1, self.size, f"the axis {self.axis} must not be empty")
        return found

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (g,) = arrays
        size: Any = self.size
        rule, out, math = RULES[self.mode], g.shape[self.axis], NumpyMath(xp)
        q = xp.arange(size)
        first = rule.back_first(math, q, size, out)
        taps: Any = rule.back_taps(size, out)
        return _computed(g, self.axis, first, taps, lambda p: rule.weight(math, p, q, size, out))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (make(Resize(self.axis, xs[0].shape[self.axis], self.mode), g),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        (g,) = xs
        rule, along = RULES[self.mode], g.shape[self.axis]
        out = axes(_resized(g.tensor, self.axis, self.size, "g").shape)
        q, size, many = out[self.axis].scalar(), position(self.size), position(along)
        value = _summed(
            g, self.axis, out, rule.back_first(m, q, size, many),
            rule.back_taps(self.size, along), lambda p: rule.weight(m, p, q, size, many),
            loop=True,
        )  # fmt: skip
        return Compute(out, value)
