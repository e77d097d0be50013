"""Average pooling and its gradient; each is the gradient of the other."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from symgraph.dims import Size
from symgraph.errors import ArgumentError
from symgraph.frozen import frozen
from symgraph.graph.index import SUM, Compute, axes, m, position, reduce
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, op
from symgraph.graph.precision import check_float, wide_load
from symgraph.graph.registry import F, Functions
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, compute_dtype, const, widen
from symgraph.graph.sliding import is_zero
from symgraph.graph.types import Shape, TensorType
from symgraph.ops import pool_ref
from symgraph.ops.pool import Pooling


@frozen(eq=False, repr=False)
class Averaging(Pooling):
    """Average pooling and its gradient; `count_include_pad` divides by the padding too."""

    count_include_pad: bool

    def divisor(self, xp: ModuleType, frame: pool_ref.Frame, dtype: Any) -> Array:
        """Give how many elements each window averages."""
        total = xp.ones((1,) * len(frame.out), dtype)
        for axis, counts in enumerate(pool_ref.counts(frame, self.count_include_pad)):
            after = len(frame.out) - axis - 1
            total = total * xp.asarray(counts, dtype).reshape(-1, *(1,) * after)
        return total

    def count(self, positions: Sequence[Any], sizes: Sequence[Size], dtype: str) -> Scalar:
        """Give how many elements the windows at these positions average."""
        total = const(1, "int64")
        for p, size, k, s, pads in zip(positions, sizes, self.kernel, self.stride, self.padding):
            total = total * self._count(p, size, k, s, *pads)
        return m.cast(total, compute_dtype(dtype))

    def _count(self, p: Any, size: Size, k: int, s: int, low: Size, high: Size) -> Scalar:
        padded = not (is_zero(low) and is_zero(high))
        if not self.ceil_mode and (self.count_include_pad or not padded):
            return const(k, "int64")
        first = position(p) * s - position(low)
        start, end = (-low, size + high) if self.count_include_pad else (0, size)
        return m.min(first + k, position(end)) - m.max(first, position(start))


@op
class AvgPool(Averaging):
    """y[n, c, p] = the sum of x[n, c, p * stride - low + k] over the window, by their count."""

    samples = (
        sample(lambda x: F.avg_pool2d(x, 2), arg(("B", 2, "H", "W"))),
        sample(
            lambda x: F.avg_pool2d(x, (3, 2), (2, 1), padding=1),
            arg((2, 1, "H", 4)),
            label="padding",
        ),
        sample(
            lambda x: F.avg_pool2d(x, 3, 2, padding=((1, 0), (2, 1)), count_include_pad=True),
            arg((1, 2, 5, "W")),
            label="include padding",
        ),
        sample(
            lambda x: F.avg_pool2d(x, 3, 2, padding=1, ceil_mode=True),
            arg((1, 1, "H", 6)),
            sizes={"H": 5},
            label="ceil",
        ),
        sample(
            lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=True),
            arg((1, 1, "H", 6)),
            sizes={"H": 5},
            label="ceil include padding",
        ),
        sample(
            lambda x: F.avg_pool2d(x, 3, 2, padding="same"),
            arg((1, 1, "H", "W")),
            sizes={"H": 5, "W": 6},
            label="same",
        ),
        sample(lambda x: F.avg_pool2d(x, 2), arg(("B", 2, 4, 4)), sizes={"B": 0}),
        sample(lambda x: F.avg_pool1d(x, 33, 1), arg((1, 2, "L")), sizes={"L": 33}),
        sample(lambda x: F.avg_pool3d(x, (1, 2, 2)), arg((1, 1, 2, "H", 3))),
    )
    bad = (
        bad(lambda x: F.avg_pool2d(x, 3), arg((1, 1, 4, 2)), match="does not fit into the size 2"),
        bad(lambda x: F.avg_pool1d(x, 2), arg((1, 1, 4, 4)), match="`x0` must have 3 axes"),
        bad(lambda x: F.avg_pool2d(x, 2, padding=(1, 2)), arg((1, 1, 4, 4)), error=ArgumentError,
            match="must be smaller than the window"),
    )  # fmt: skip

    def infer(self, x: TensorType) -> TensorType:
        check_float(x, "x")
        self.check_rank(x, "x")
        return self.pooled(x)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = map(widen, arrays)
        frame = self.frame(x.shape[2:])
        y = pool_ref.pool(xp, x, xp.add, 0, frame)
        y /= self.divisor(xp, frame, x.dtype)
        return y.astype(arrays[0].dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        op = AvgPoolGrad(*self.shared(), self.count_include_pad, xs[0].shape[2:])
        return (make(op, g),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        (x,) = xs
        out, taps = axes(self.shape_of(x), "ncyx"), axes(self.kernel, "ij")
        places, guard = self.seen(out[2:], taps, x.shape[2:])
        total = reduce(SUM, taps, wide_load(0, x, *out[:2], *places, guard=guard))
        value = total / self.count(out[2:], x.shape[2:], x.dtype)
        return Compute(out, m.cast(value, x.dtype))


_EDGES = ((3, 2), (2, 2), ((1, 0), (0, 1)), True)  # every window at an edge is cut off


@op
class AvgPoolGrad(Averaging):
    """dx[n, c, q] = the sum of g[n, c, p] / (count of window p) over the windows p over q."""

    sizes: Shape
    samples = (
        sample(
            lambda g: make(AvgPoolGrad((2, 2), (2, 2), ((0, 0),) * 2, False, False, (4, 5)), g),
            arg(("B", 2, 2, 2)),
        ),
        sample(
            lambda g: make(AvgPoolGrad(*_EDGES, False, (3, 5)), g),
            arg((1, "C", 2, 3)),
            label="edges",
        ),
        sample(
            lambda g: make(AvgPoolGrad(*_EDGES, True, (3, 5)), g),
            arg((1, "C", 2, 3)),
            label="edges include padding",
        ),
    )
    bad = (
        bad(lambda g: make(AvgPoolGrad((2,), (2,), ((0, 0),), False, False, (4,)), g),
            arg((1, 1, 3)), match="one place for each window: 3 != 2"),
    )  # fmt: skip

    def infer(self, g: TensorType) -> TensorType:
        check_float(g, "g")
        self.check_rank(g, "g")
        self.check_positions(g, "g", self.sizes)
        return g.with_shape((*g.shape[:2], *self.sizes))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (g,) = map(widen, arrays)
        sizes: Any = self.sizes
        frame = self.frame(sizes)
        dx = pool_ref.spread(xp, g / self.divisor(xp, frame, g.dtype), frame)
        return dx.astype(arrays[0].dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (make(AvgPool(*self.shared(), self.count_include_pad), g),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        (g,) = xs
        out, taps = axes(self.shape_of(g), "ncyx"), axes(self.kernel, "ij")
        windows, guard = self.over(out[2:], taps, g.shape[2:])
        count = self.count(windows, self.sizes, g.dtype)
        one = wide_load(0, g, *out[:2], *windows, guard=guard)
        each = one / m.max(count, m.like(1, count))  # where no window is, the count means nothing
        return Compute(out, m.cast(reduce(SUM, taps, each), g.dtype))
