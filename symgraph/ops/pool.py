"""Max pooling: the largest element under windows that slide over the spatial axes.

Arrays are (batch, channels, *sizes). The gradient of a maximum goes to the first largest element
of its window in row-major order; a NaN counts as largest. Max pooling is differentiated through
the places that it chose (`MaxPoolIndex`): the gradient scatters to them, and the gradient of that
gathers from them, so that derivatives of every order exist.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size, collect_guards, require_equal, window
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from symgraph.frozen import frozen
from symgraph.graph.dtypes import is_float, numpy_dtype
from symgraph.graph.index import (
    ARGMAX,
    MAX,
    SUM,
    Axis,
    Compute,
    axes,
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
from symgraph.graph.sliding import Pads, both, is_zero, places_seen, windows_over
from symgraph.graph.types import Shape, TensorType
from symgraph.ops import pool_ref

Attributes = tuple[tuple[int, ...], tuple[int, ...], Pads, bool]


@frozen(eq=False, repr=False)
class Pooling(Op):
    """What all operations here share: one number, or one pair, for each spatial axis.

    With `ceil_mode` the last window may hang over the end.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pads
    ceil_mode: bool

    def shared(self) -> Attributes:
        """Give the attributes that the operations hand on to each other."""
        return self.kernel, self.stride, self.padding, self.ceil_mode

    def check_rank(self, type: TensorType, name: str) -> None:
        """Raise unless an operand has the axes."""
        rank = len(self.kernel) + 2
        if type.ndim != rank:
            raise ShapeError(
                f"{{{name}}} must have {rank} axes, it has {type.ndim}.",
                fix="axes are (batch, channels, and one for each size of the window)",
            )

    def positions(self, sizes: Sequence[Size]) -> Shape:
        """Give how many windows there are along each axis."""
        return tuple(
            window(size, k, s, low, high, 1, self.ceil_mode)
            for size, k, s, (low, high) in zip(sizes, self.kernel, self.stride, self.padding)
        )

    def pooled(self, x: TensorType) -> TensorType:
        """Give the type of the result of pooling."""
        return x.with_shape((*x.shape[:2], *self.positions(x.shape[2:])))

    def check_positions(self, type: TensorType, name: str, sizes: Sequence[Size]) -> None:
        """Raise unless an operand has one place for each window."""
        for d, (found, needed) in enumerate(zip(type.shape[2:], self.positions(sizes)), 2):
            require_equal(
                found, needed, f"axis {d} of {{{name}}} must have one place for each window"
            )

    def shape_of(self, *xs: Value) -> Shape:
        """Give the shape of the result; its guards belong to the node, not to its expansion."""
        with collect_guards():
            found: TensorType = self.infer(*(x.tensor for x in xs))  # type: ignore[assignment]
        return found.shape

    def frame(self, sizes: Sequence[Any]) -> pool_ref.Frame:
        """Give the attributes as numbers, for the reference."""
        out: Any = self.positions(sizes)
        padding: Any = self.padding
        return pool_ref.Frame(tuple(sizes), out, self.kernel, self.stride, padding)

    def seen(
        self, out: Sequence[Axis], taps: Sequence[Axis], sizes: Sequence[Size]
    ) -> tuple[list[Scalar], Scalar | None]:
        """Give the places that windows see."""
        ones = (1,) * len(taps)
        return places_seen(out, taps, sizes, self.stride, self.padding, ones, self.ceil_mode)

    def over(
        self, out: Sequence[Axis], taps: Sequence[Axis], counts: Sequence[Size]
    ) -> tuple[list[Scalar], Scalar]:
        """Give the windows over places."""
        ones = (1,) * len(taps)
        return windows_over(out, taps, counts, self.stride, self.padding, ones)

    def number(self, taps: Sequence[Axis]) -> Scalar:
        """Give the number of a place in its window, in row-major order."""
        flat = taps[0].scalar()
        for tap in taps[1:]:
            flat = flat * position(tap.extent) + tap.scalar()
        return flat


def lowest(dtype: str) -> float:
    """Give the least number of a dtype."""
    return -math.inf if is_float(dtype) else int(np.iinfo(numpy_dtype(dtype)).min)


_EDGES = ((3, 2), (2, 2), ((1, 0), (0, 1)), True)  # every window at an edge is cut off


@op
class MaxPool(Pooling):
    """y[n, c, p] = the largest of x[n, c, p * stride - low + k] over the k of the window."""

    samples = (
        sample(
            lambda x: F.max_pool2d(x, 2),
            arg(("B", 2, "H", "W"), distinct=True),
            sizes={"H": 4, "W": 5},
        ),
        sample(
            lambda x: F.max_pool2d(x, 3, 2),
            arg((2, "C", 7, "W"), distinct=True),
            sizes={"C": 3, "W": 8},
            label="overlapping",
        ),
        sample(
            lambda x: F.max_pool2d(x, (3, 2), (1, 3), padding=((1, 2), (0, 1))),
            arg((2, 1, "H", 5), distinct=True),
            label="padding",
        ),
        sample(
            lambda x: F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True),
            arg((1, 2, "H", 6), distinct=True),
            sizes={"H": 5},
            label="ceil",
        ),
        sample(
            lambda x: F.max_pool2d(x, 3, 2, padding="same"),
            arg((1, 2, "H", "W"), distinct=True),
            sizes={"H": 5, "W": 6},
            label="same",
        ),
        sample(lambda x: F.max_pool2d(x, 1), arg((2, 1, "H", 2), distinct=True)),
        sample(lambda x: F.max_pool2d(x, 2), arg(("B", 2, 4, 4)), sizes={"B": 0}),
        sample(
            lambda x: F.max_pool2d(x, 2, 1),
            arg((1, 1, 3, 3), values=(1.0, float("nan"), 1.0, 0.0, 1.0, 0.0, 2.0, 2.0, 2.0)),
            gradient=(),
            label="nan",
        ),
        sample(
            lambda x: F.max_pool1d(x, 3, 1, padding=1),
            arg((1, 2, 17), "int8", low=-9, high=9),
            label="integers",
        ),
        sample(lambda x: F.max_pool1d(x, 3), arg((1, 2, "L"), distinct=True), sizes={"L": 1025}),
        sample(lambda x: F.max_pool3d(x, (1, 2, 2), 1), arg((1, 1, 2, "H", 3), distinct=True)),
    )
    bad = (
        bad(lambda x: F.max_pool2d(x, 3), arg((1, 1, 2, 4)), match="does not fit into the size 2"),
        bad(lambda x: F.max_pool2d(x, 2), arg((3, 4, 4)), match="`x0` must have 4 axes"),
        bad(lambda x: F.max_pool2d(x, 2, padding=2), arg((1, 1, 4, 4)), error=ArgumentError,
            match="must be smaller than the window"),
        bad(lambda x: F.max_pool2d(x, 0), arg((1, 1, 4, 4)), error=ArgumentError,
            match="kernel must be an int >= 1"),
        bad(lambda x: F.max_pool2d(x, 2, (1, 2, 3)), arg((1, 1, 4, 4)), error=ArgumentError,
            match="stride must be"),
        bad(lambda x: F.max_pool2d(x, 2), arg((1, 1, 4, 4), "bool"), error=DTypeError,
            match="numbers, not bool"),
    )  # fmt: skip

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype == "bool":
            raise DTypeError("{x} must hold numbers, not bool.", fix='.cast("int8")')
        self.check_rank(x, "x")
        return self.pooled(x)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = map(widen, arrays)
        fill = lowest(str(x.dtype))
        y = pool_ref.pool(xp, x, xp.maximum, fill, self.frame(x.shape[2:]))
        return y.astype(arrays[0].dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        (x,) = xs
        if not is_float(x.dtype):
            return (None,)
        index = make(MaxPoolIndex(*self.shared()), x)
        return (make(MaxPoolGrad(*self.shared(), x.shape[2:]), g, index),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        (x,) = xs
        out, taps = axes(self.shape_of(x), "ncyx"), axes(self.kernel, "ij")
        places, guard = self.seen(out[2:], taps, x.shape[2:])
        one = load(0, x.dtype, *out[:2], *places, guard=guard, fill=lowest(x.dtype))
        return Compute(out, reduce(MAX, taps, one))


@op
class MaxPoolIndex(Pooling):
    """Where in each window, counted in row-major order, the largest element stands first.

    uint8 where that suffices, else int32. Padding counts as the least number of the dtype.
    """

    samples = (
        sample(
            lambda x: make(MaxPoolIndex((2, 2), (2, 2), ((0, 0),) * 2, False), x),
            arg(("B", 1, "H", 4)),
            sizes={"H": 5},
        ),
        sample(
            lambda x: make(MaxPoolIndex((3, 3), (1, 1), ((1, 1),) * 2, False), x),
            arg((1, 2, "H", 4), "int32", low=0, high=3),
            label="ties",
        ),
        sample(
            lambda x: make(MaxPoolIndex(*_EDGES), x),
            arg((1, 1, 4, "W"), low=-3, high=-1),
            sizes={"W": 6},
            label="edges",
        ),
        sample(
            lambda x: make(MaxPoolIndex((16, 16), (1, 1), ((0, 0),) * 2, False), x),
            arg((1, 1, 17, "W")),
            sizes={"W": 17},
            label="large window",
        ),
        sample(
            lambda x: make(MaxPoolIndex((2,), (1,), ((0, 0),), False), x),
            arg((1, 1, 6), values=(1.0, float("nan"), 2.0, float("nan"), float("nan"), 3.0)),
            label="nan",
        ),
    )
    bad = (
        bad(lambda x: make(MaxPoolIndex((2,), (1,), ((0, 0),), False), x), arg((3, 4)),
            match="`x0` must have 3 axes"),
    )  # fmt: skip

    def infer(self, x: TensorType) -> TensorType:
        self.check_rank(x, "x")
        return self.pooled(x).with_dtype("uint8" if math.prod(self.kernel) < 256 else "int32")

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = map(widen, arrays)
        fill, frame = lowest(str(x.dtype)), self.frame(x.shape[2:])
        y = pool_ref.pool(xp, x, xp.maximum, fill, frame)
        dtype = xp.uint8 if math.prod(self.kernel) < 256 else xp.int32
        return pool_ref.first_largest(xp, x, y, fill, dtype, frame)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (None,)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        (x,) = xs
        out, taps = axes(self.shape_of(x), "ncyx"), axes(self.kernel, "ij")
        places, guard = self.seen(out[2:], taps, x.shape[2:])
        one = load(0, x.dtype, *out[:2], *places, guard=guard, fill=lowest(x.dtype))
        best = take(reduce(ARGMAX, taps, one, self.number(taps)), 1, "int64")
        return Compute(out, m.cast(best, "uint8" if math.prod(self.kernel) < 256 else "int32"))


@op
class MaxPoolGrad(Pooling):
    """dx[n, c, q] = sum of g[n, c, p] over the windows p over q whose `index` is the place of q."""

    sizes: Shape
    samples = (
        sample(
            lambda g, i: make(MaxPoolGrad((2, 2), (2, 2), ((0, 0),) * 2, False, (4, 5)), g, i),
            arg(("B", 2, 2, 2)),
            arg(("B", 2, 2, 2), "uint8", low=0, high=4),
        ),
        sample(
            lambda g, i: make(MaxPoolGrad((3, 3), (2, 2), ((0, 0),) * 2, False, (5, 7)), g, i),
            arg((2, "C", 2, 3)),
            arg((2, "C", 2, 3), "uint8", low=0, high=9),
            label="overlapping",
        ),
        sample(
            lambda g, i: make(MaxPoolGrad(*_EDGES, (3, 5)), g, i),
            arg(("B", 1, 2, 3)),
            arg(("B", 1, 2, 3), "int32", low=0, high=6),
            label="edges",
        ),
    )
    bad = (
        bad(lambda g, i: make(MaxPoolGrad((2,), (2,), ((0, 0),), False, (4,)), g, i),
            arg((1, 1, 3)), arg((1, 1, 3), "uint8"), match="one place for each window: 3 != 2"),
        bad(lambda g, i: make(MaxPoolGrad((2,), (2,), ((0, 0),), False, (4,)), g, i),
            arg((1, 1, 2)), arg((2, 1, 2), "uint8"), match="axis 0 of `x1` must equal .* 2 != 1"),
    )  # fmt: skip

    def infer(self, g: TensorType, index: TensorType) -> TensorType:
        check_float(g, "g")
        self.check_rank(g, "g")
        self.check_rank(index, "index")
        self.check_positions(g, "g", self.sizes)
        for d, (found, needed) in enumerate(zip(index.shape, g.shape)):
            require_equal(found, needed, f"axis {d} of {{index}} must equal that of {{g}}")
        return g.with_shape((*g.shape[:2], *self.sizes))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        sizes: Any = self.sizes
        dx = pool_ref.scatter(xp, widen(arrays[0]), arrays[1], self.frame(sizes))
        return dx.astype(arrays[0].dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return make(MaxPoolTake(*self.shared()), g, xs[1]), None

    def expand(self, F: Functions, *xs: Value) -> Compute:
        g, index = xs
        out, taps = axes(self.shape_of(g, index), "ncyx"), axes(self.kernel, "ij")
        windows, guard = self.over(out[2:], taps, g.shape[2:])
        chosen = load(1, index.dtype, *out[:2], *windows, guard=guard)
        here: Any = position(chosen) == self.number(taps)
        one = wide_load(0, g, *out[:2], *windows, guard=both(guard, here))
        return Compute(out, m.cast(reduce(SUM, taps, one), g.dtype))


@op
class MaxPoolTake(Pooling):
    """y[n, c, p] = the element of x in window p, at the place that `index` gives; 0 in padding."""

    samples = (
        sample(
            lambda x, i: make(MaxPoolTake((2, 3), (2, 1), ((0, 0),) * 2, False), x, i),
            arg(("B", 2, 4, 5)),
            arg(("B", 2, 2, 3), "uint8", low=0, high=6),
        ),
        sample(
            lambda x, i: make(MaxPoolTake(*_EDGES), x, i),
            arg((1, "C", 3, 5)),
            arg((1, "C", 2, 3), "uint8", low=0, high=6),
            label="edges",
        ),
    )
    bad = (
        bad(lambda x, i: make(MaxPoolTake((2,), (2,), ((0, 0),), False), x, i),
            arg((1, 1, 4)), arg((1, 1, 3), "uint8"), match="one place for each window: 3 != 2"),
    )  # fmt: skip

    def infer(self, x: TensorType, index: TensorType) -> TensorType:
        check_float(x, "x")
        self.check_rank(x, "x")
        self.check_rank(index, "index")
        self.check_positions(index, "index", x.shape[2:])
        for d, (found, needed) in enumerate(zip(index.shape[:2], x.shape)):
            require_equal(found, needed, f"axis {d} of {{index}} must equal that of {{x}}")
        return x.with_shape((*x.shape[:2], *index.shape[2:]))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        x, index = arrays
        return pool_ref.gather(xp, x, index, self.frame(x.shape[2:]))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return make(MaxPoolGrad(*self.shared(), xs[0].shape[2:]), g, xs[1]), None

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x, index = xs
        out = axes(self.shape_of(x, index), "ncyx")
        chosen = position(load(1, index.dtype, *out))
        places: list[Scalar] = []
        guard: Scalar | None = None
        for d, p in enumerate(out[2:]):
            (low, high), size = self.padding[d], x.shape[2 + d]
            below = math.prod(self.kernel[d + 1 :])
            place = p * self.stride[d] + (chosen // below) % self.kernel[d] - position(low)
            places.append(place)
            if self.ceil_mode or not (is_zero(low) and is_zero(high)):
                guard = both(guard, inside(place, size))
        return Compute(out, load(0, x.dtype, *out[:2], *places, guard=guard))
