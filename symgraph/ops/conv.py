"""Convolution, as neural networks mean it (the filter is not reversed), in any number of axes.

Arrays are (batch, channels, *sizes), filters (filters, channels / groups, *kernel). The gradient by
the input and the gradient by the filters are operations of their own; each of the three has the
other two as its gradients, so that derivatives of every order are convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar

from symgraph.dims import Size, collect_guards, require_divides, require_equal, window
from symgraph.errors import ArgumentError, DimError, DTypeError, ShapeError
from symgraph.frozen import frozen
from symgraph.graph.index import SUM, Axis, Compute, axes, axis, m, position, reduce
from symgraph.graph.leaves import cast_to
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.precision import check_bias, check_same_dtype, wide_load
from symgraph.graph.registry import F, Functions
from symgraph.graph.samples import Bad, Sample, arg, bad, sample
from symgraph.graph.scalar import Scalar, widen
from symgraph.graph.sliding import Pads, places_seen, windows_over
from symgraph.graph.types import Shape, TensorType
from symgraph.ops import conv_ref


@frozen(eq=False, repr=False)
class Sliding(Op):
    """What the three operations share: one number, or one pair, for each spatial axis."""

    stride: tuple[int, ...]
    padding: Pads
    dilation: tuple[int, ...]
    groups: int

    def geometry(self, kernel: Sequence[int]) -> conv_ref.Geometry:
        """Give the attributes as numbers, for the reference."""
        return conv_ref.Geometry(
            tuple(kernel), self.stride, self.padding, self.dilation, self.groups  # type: ignore[arg-type]
        )  # fmt: skip

    def check(self, **types: TensorType) -> None:
        """Raise unless operands, given by name, hold floats of one dtype and have the axes."""
        check_same_dtype(types)
        rank = len(self.stride)
        for name, type in types.items():
            if type.ndim != rank + 2:
                raise ShapeError(
                    f"{{{name}}} must have {rank + 2} axes, it has {type.ndim}.",
                    fix=f"{rank} spatial axes come after two others",
                )

    def positions(self, sizes: Sequence[Size], kernel: Sequence[Size]) -> Shape:
        """Give the sizes of the result of the convolution."""
        return tuple(
            window(size, k, s, low, high, d)
            for size, k, s, (low, high), d in zip(
                sizes, kernel, self.stride, self.padding, self.dilation
            )
        )

    def shape_of(self, *xs: Value) -> Shape:
        """Give the shape of the result; its guards belong to the node, not to its expansion."""
        with collect_guards():
            found: TensorType = self.infer(*(x.tensor for x in xs))  # type: ignore[assignment]
        return found.shape

    def check_filters(self, count: Size, name: str) -> None:
        """Raise unless the groups can share the filters."""
        require_divides(self.groups, count, f"groups must divide the filters {name}")

    def check_positions(self, g: TensorType, sizes: Sequence[Size], kernel: Sequence[Size]) -> None:
        """Raise unless a cotangent has the sizes of the result of the convolution."""
        for d, (found, needed) in enumerate(zip(g.shape[2:], self.positions(sizes, kernel)), 2):
            require_equal(found, needed, f"axis {d} of {{g}} must have one place for each window")

    def own_group(self, channel: Any, total: Size) -> Scalar | None:
        """Give the group of a channel or filter, one of `total`; None where all are one group."""
        return None if self.groups == 1 else channel // position(total // self.groups)


@op
class Conv(Sliding):
    """y[n, o, p] = sum over c, k of x[n, c, p * stride - low + k * dilation] w[o, c, k].

    With groups, filters o of group i see the channels of group i only.
    """

    samples: ClassVar[tuple[Sample, ...]] = (
        sample(lambda x, w: F.conv2d(x, w), arg(("B", 2, "H", "W")), arg((3, 2, 2, 3))),
        sample(
            lambda x, w: F.conv2d(x, w, stride=(2, 3), padding=1),
            arg((2, 1, "H", 7)),
            arg((2, 1, 3, 3)),
            label="stride",
        ),
        sample(
            lambda x, w: F.conv2d(x, w, padding=((1, 0), (2, 1))),
            arg((2, 1, 3, "W")),
            arg((2, 1, 3, 2)),
            label="asymmetric",
        ),
        sample(
            lambda x, w: F.conv2d(x, w, dilation=(2, 1), groups=2, padding=2),
            arg((2, 4, "H", 3)),
            arg((6, 2, 2, 3)),
            label="dilation groups",
        ),
        sample(
            lambda x, w: F.conv2d(x, w, padding="same", stride=2),
            arg((1, 2, "H", "W")),
            arg((2, 2, 3, 2)),
            sizes={"H": 5, "W": 6},
            label="same",
        ),
        sample(
            lambda x, w: F.conv2d(x, w, padding="same", groups=3),
            arg(("B", 3, 4, 4)),
            arg((3, 1, 3, 3)),
            label="depthwise",
        ),
        sample(lambda x, w: F.conv2d(x, w), arg((2, "C", 3, 2)), arg(("O", "C", 1, 1))),
        sample(lambda x, w: F.conv2d(x, w), arg(("B", 1, 2, 2)), arg((1, 1, 2, 2)), sizes={"B": 0}),
        sample(
            lambda x, w: F.conv2d(x, w), arg((1, "C", 2, 2)), arg((1, "C", 2, 2)), sizes={"C": 0}
        ),
        sample(
            lambda x, w: F.conv1d(x, w, stride=2, padding=((2, 1),)),
            arg((1, 2, "L")),
            arg((3, 2, 3)),
            sizes={"L": 33},
            label="conv1d",
        ),
        sample(
            lambda x, w: F.conv3d(x, w, padding="valid"),
            arg((1, 2, 2, "H", 3)),
            arg((2, 2, 1, 2, 2)),
            label="conv3d",
        ),
        sample(
            lambda x, w: F.conv1d(F.permute_dims(x, (0, 2, 1)), w),
            arg((2, 4, "C")),
            arg((2, "C", 2)),
            label="strided operand",
        ),
    )
    bad: ClassVar[tuple[Bad, ...]] = (
        bad(lambda x, w: F.conv2d(x, w), arg((1, 3, 4, 4)), arg((2, 4, 3, 3)),
            match="channels .axis 1. of `x0` must equal .* 3 != 4"),
        bad(lambda x, w: F.conv2d(x, w, groups=2), arg((1, 4, 4, 4)), arg((2, 4, 3, 3)),
            match="groups=2 times axis 1 of `x1`: 4 != 8"),
        bad(lambda x, w: F.conv2d(x, w, groups=2), arg((1, 4, 4, 4)), arg((3, 2, 3, 3)),
            match="groups must divide the filters .axis 0. of `x1`"),
        bad(lambda x, w: F.conv2d(x, w), arg((1, 1, 2, 4)), arg((1, 1, 3, 3)),
            match="does not fit into the size 2"),
        bad(lambda x, w: F.conv2d(x, w), arg((3, 4, 4)), arg((2, 3, 3, 3)),
            match="`x0` must have 4 axes"),
        bad(lambda x, w: F.conv2d(x, w), arg((1, 3, 4, 4)), arg((2, 3, 3)),
            match="`x1` must have 4 axes"),
        bad(lambda x, w: F.conv2d(x, w, stride=0), arg((1, 1, 2, 2)), arg((1, 1, 1, 1)),
            error=ArgumentError, match="stride must be an int >= 1"),
        bad(lambda x, w: F.conv2d(x, w, dilation=(1, 2, 3)), arg((1, 1, 2, 2)), arg((1, 1, 1, 1)),
            error=ArgumentError, match="dilation must be"),
        bad(lambda x, w: F.conv2d(x, w, padding=-1), arg((1, 1, 2, 2)), arg((1, 1, 1, 1)),
            error=ArgumentError, match="padding must be >= 0"),
        bad(lambda x, w: F.conv2d(x, w, padding="full"), arg((1, 1, 2, 2)), arg((1, 1, 1, 1)),
            error=ArgumentError, match='"same", "valid"'),
        bad(lambda x, w: F.conv2d(x, w, groups=0), arg((1, 1, 2, 2)), arg((1, 1, 1, 1)),
            error=ArgumentError, match="groups must be >= 1"),
    )  # fmt: skip

    def infer(self, x: TensorType, w: TensorType) -> TensorType:
        self.check(x=x, w=w)
        times = "" if self.groups == 1 else f"groups={self.groups} times "
        try:
            require_equal(
                x.shape[1], w.shape[1] * self.groups,
                f"channels (axis 1) of {{x}} must equal {times}axis 1 of {{w}}",
            )  # fmt: skip
        except DimError as problem:
            fix = "filters are (filters, channels / groups, *kernel), images (batch, channels, ...)"
            raise ShapeError(problem.message, fix=fix) from None
        self.check_filters(w.shape[0], "(axis 0) of {w}")
        sizes = self.positions(x.shape[2:], w.shape[2:])
        return x.with_shape((x.shape[0], w.shape[0], *sizes))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        x, w = map(widen, arrays)
        y = conv_ref.conv(xp, x, w, self.geometry(w.shape[2:]))
        return y.astype(arrays[0].dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        x, w = xs
        return _by_input(self, g, w, x.shape[2:]), _by_filters(self, x, g, w.shape[2:])

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out = axes(self.shape_of(*xs), "noyx")
        return Compute(out, m.cast(self.sum_at(out, *xs), xs[0].dtype))

    def sum_at(self, out: Sequence[Axis], x: Value, w: Value) -> Scalar:
        """Give the sum of one place of the result, in the dtype in which it is added up."""
        image, filter, *positions = out
        channel, taps = axis(w.shape[1], "c"), axes(w.shape[2:], "ij")
        places, guard = places_seen(
            positions, taps, x.shape[2:], self.stride, self.padding, self.dilation
        )
        group = self.own_group(filter, w.shape[0])
        seen = channel if group is None else group * position(w.shape[1]) + channel
        one = wide_load(0, x, image, seen, *places, guard=guard)
        return reduce(SUM, (channel, *taps), one * wide_load(1, w, filter, channel, *taps))


@op
class ConvBias(Conv):
    """y[n, o, p] = conv(x, w)[n, o, p] + b[o], rounded once.

    For half precisions, where the result of a convolution is rounded before a bias is added; b may
    be float32 there.
    """

    samples = (
        sample(
            lambda x, w, b: make(ConvBias((1, 2), ((1, 0), (0, 1)), (1, 1), 2), x, w, b),
            arg(("B", 2, "H", 3)),
            arg((4, 1, 2, 2)),
            arg((4,)),
            sizes={"H": 3},
        ),
        sample(
            lambda x, w, b: make(ConvBias((1,), ((0, 0),), (1,), 1), x, w, b),
            arg(("B", 3, 5), "bfloat16"),
            arg((2, 3, 2), "bfloat16"),
            arg((2,)),
            label="bfloat16",
        ),
        sample(
            lambda x, w, b: make(ConvBias((1,), ((0, 0),), (1,), 1), x, w, b),
            arg((2, "C", 5)),
            arg((2, "C", 2)),
            arg((2,)),
            sizes={"C": 0},
        ),
    )
    bad = (
        bad(lambda x, w, b: make(ConvBias((1,), ((0, 0),), (1,), 1), x, w, b),
            arg((2, 3, 5)), arg((2, 3, 2)), arg((3,)), match="one number for each filter.* 3 != 2"),
        bad(lambda x, w, b: make(ConvBias((1,), ((0, 0),), (1,), 1), x, w, b),
            arg((2, 3, 5)), arg((2, 3, 2)), arg((2,), "float64"),
            error=DTypeError, match="`x2` must be float32"),
    )  # fmt: skip

    def infer(self, x: TensorType, w: TensorType, b: TensorType) -> TensorType:  # type: ignore[override]
        found = super().infer(x, w)
        check_bias(b, x.dtype, w.shape[0], "filter (axis 0) of {w}")
        return found

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        x, w, b = map(widen, arrays)
        y = conv_ref.conv(xp, x, w, self.geometry(w.shape[2:]))
        y = y + b.reshape(-1, *[1] * len(self.stride))
        return y.astype(arrays[0].dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        over = (0, *range(2, g.ndim))
        return *super().vjp(F, g, y, *xs[:2]), F.sum(cast_to(g, xs[2].dtype), axis=over)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x, w, b = xs
        out = axes(self.shape_of(*xs), "noyx")
        return Compute(out, m.cast(self.sum_at(out, x, w) + wide_load(2, b, out[1]), x.dtype))


@op
class ConvInput(Sliding):
    """The gradient of a convolution by its input, of the spatial sizes `sizes`.

    dx[n, c, q] = sum over o, k, and the p with q = p * stride - low + k * dilation, of
    g[n, o, p] w[o, c, k]. Used alone it is a transposed convolution.
    """

    sizes: Shape
    samples = (
        sample(
            lambda g, w: F.conv_transpose2d(g, w),
            arg(("B", 3, "H", "W")),
            arg((3, 2, 2, 3)),
            sizes={"H": 3, "W": 2},
        ),
        sample(
            lambda g, w: F.conv_transpose2d(g, w, stride=(2, 3), padding=1),
            arg((2, 2, "H", 2)),
            arg((2, 1, 3, 3)),
            label="stride",
        ),
        sample(
            lambda g, w: F.conv_transpose2d(
                g, w, stride=2, padding=((1, 0), (0, 1)), output_padding=1, groups=2, dilation=2
            ),
            arg((1, 4, "H", 2)),
            arg((4, 1, 2, 3)),
            label="everything",
        ),
        sample(
            lambda g, w: F.conv_transpose2d(g, w, groups=2, dilation=(1, 2)),
            arg((2, 4, "H", 2)),
            arg((4, 3, 2, 2)),
            label="groups",
        ),
        sample(
            lambda g, w: F.conv_transpose2d(g, w, padding=2),
            arg((1, 2, 4, "W")),
            arg((2, 2, 2, 2)),
            label="padding beyond the filter",
        ),
        sample(
            lambda g, w: F.conv_transpose1d(g, w, stride=2),
            arg(("B", 2, 3)),
            arg((2, 1, 2)),
            sizes={"B": 0},
        ),
        sample(
            lambda g, w: F.conv_transpose1d(g, w, stride=4),
            arg((1, 2, "L")),
            arg((2, 1, 3)),
            sizes={"L": 17},
            label="gaps",
        ),
        sample(
            lambda g, w: F.conv_transpose3d(g, w, stride=(1, 2, 1)),
            arg((1, 2, 2, "H", 1)),
            arg((2, 1, 1, 2, 2)),
            label="3d",
        ),
        sample(
            lambda g, w: make(ConvInput((2,), ((0, 0),), (1,), 1, (6,)), g, w),
            arg((2, 2, 2)),
            arg((2, 1, 3)),
            label="unseen end",
        ),
    )
    bad = (
        bad(lambda g, w: make(ConvInput((1,), ((0, 0),), (1,), 1, (5,)), g, w),
            arg((1, 3, 3)), arg((2, 1, 3)), match="filters .axis 0. of `x1`: 3 != 2"),
        bad(lambda g, w: make(ConvInput((1,), ((0, 0),), (1,), 1, (6,)), g, w),
            arg((1, 2, 3)), arg((2, 1, 3)), match="one place for each window: 3 != 4"),
        bad(lambda g, w: make(ConvInput((1,), ((0, 0),), (1,), 2, (5,)), g, w),
            arg((1, 3, 3)), arg((3, 1, 3)), match="groups must divide"),
        bad(lambda g, w: make(ConvInput((1,), ((0, 0),), (1,), 1, (5,)), g, w),
            arg((1, 2, 3, 1)), arg((2, 1, 3)), match="`x0` must have 3 axes"),
    )  # fmt: skip

    def infer(self, g: TensorType, w: TensorType) -> TensorType:
        self.check(g=g, w=w)
        why = "channels (axis 1) of {g} must equal the filters (axis 0) of {w}"
        require_equal(g.shape[1], w.shape[0], why)
        self.check_filters(w.shape[0], "(axis 0) of {w}")
        self.check_positions(g, self.sizes, w.shape[2:])
        return g.with_shape((g.shape[0], w.shape[1] * self.groups, *self.sizes))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        g, w = map(widen, arrays)
        sizes: Any = self.sizes
        dx = conv_ref.conv_input(xp, g, w, sizes, self.geometry(w.shape[2:]))
        return dx.astype(arrays[0].dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        inner, w = xs
        return _convolve(self, g, w), _by_filters(self, g, inner, w.shape[2:])

    def expand(self, F: Functions, *xs: Value) -> Compute:
        g, w = xs
        out = axes(self.shape_of(g, w), "ncyx")
        image, channel, *places = out
        own, taps = axis(w.shape[0] // self.groups, "o"), axes(w.shape[2:], "ij")
        positions, guard = windows_over(
            places, taps, g.shape[2:], self.stride, self.padding, self.dilation
        )
        group = self.own_group(channel, w.shape[1] * self.groups)
        filter = own if group is None else group * position(own.extent) + own
        inner = channel if group is None else channel % position(w.shape[1])
        one = wide_load(0, g, image, filter, *positions, guard=guard)
        value = reduce(SUM, (own, *taps), one * wide_load(1, w, filter, inner, *taps))
        return Compute(out, m.cast(value, g.dtype))


@op
class ConvWeight(Sliding):
    """The gradient of a convolution by its filters, of the spatial sizes `kernel`.

    dw[o, c, k] = sum over n, p of x[n, c, p * stride - low + k * dilation] g[n, o, p].
    """

    kernel: Shape
    samples = (
        sample(
            lambda x, g: make(ConvWeight((1, 1), ((0, 0),) * 2, (1, 1), 1, (2, 3)), x, g),
            arg(("B", 2, 3, 5)),
            arg(("B", 3, 2, 3)),
        ),
        sample(
            lambda x, g: make(ConvWeight((2, 3), ((1, 1),) * 2, (1, 1), 1, (3, 2)), x, g),
            arg((2, 1, "H", 7)),
            arg((2, 2, 3, 3)),
            sizes={"H": 6},
            label="stride",
        ),
        sample(
            lambda x, g: make(ConvWeight((1, 2), ((1, 0), (2, 1)), (2, 1), 2, (2, 3)), x, g),
            arg((2, "C", 4, 5)),
            arg((2, 6, 3, 3)),
            sizes={"C": 4},
            label="everything",
        ),
        sample(
            lambda x, g: make(ConvWeight((1,), ((0, 0),), (1,), 1, (2,)), x, g),
            arg(("B", 2, 3)),
            arg(("B", 1, 2)),
            sizes={"B": 0},
        ),
        sample(
            lambda x, g: make(ConvWeight((2,), ((1, 1),), (1,), 17, (3,)), x, g),
            arg((2, 17, "L")),
            arg((2, 17, 17)),
            sizes={"L": 33},
            label="depthwise",
        ),
    )
    bad = (
        bad(lambda x, g: make(ConvWeight((1,), ((0, 0),), (1,), 1, (2,)), x, g),
            arg((1, 2, 3)), arg((3, 1, 2)), match="batch .axis 0. of `x1` .* 1 != 3"),
        bad(lambda x, g: make(ConvWeight((1,), ((0, 0),), (1,), 1, (2,)), x, g),
            arg((1, 2, 3)), arg((1, 1, 3)), match="one place for each window: 3 != 2"),
        bad(lambda x, g: make(ConvWeight((1,), ((0, 0),), (1,), 2, (2,)), x, g),
            arg((1, 3, 3)), arg((1, 2, 2)), match="divide the channels"),
        bad(lambda x, g: make(ConvWeight((1,), ((0, 0),), (1,), 1, (2,)), x, g),
            arg((1, 2, 3)), arg((1, 2, 2), "float64"), error=DTypeError, match="dtype of `x0`"),
    )  # fmt: skip

    def infer(self, x: TensorType, g: TensorType) -> TensorType:
        self.check(x=x, g=g)
        why = "batch (axis 0) of {g} must equal that of {x}"
        require_equal(x.shape[0], g.shape[0], why)
        require_divides(self.groups, x.shape[1], "groups must divide the channels (axis 1) of {x}")
        self.check_filters(g.shape[1], "(axis 1) of {g}")
        self.check_positions(g, x.shape[2:], self.kernel)
        return x.with_shape((g.shape[1], x.shape[1] // self.groups, *self.kernel))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        x, g = map(widen, arrays)
        kernel: Any = self.kernel
        dw = conv_ref.conv_weight(xp, x, g, self.geometry(kernel))
        return dw.astype(arrays[0].dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        x, inner = xs
        return _by_input(self, inner, g, x.shape[2:]), _convolve(self, x, g)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x, g = xs
        out = axes(self.shape_of(x, g), "ocij")
        filter, channel, *taps = out
        image, positions = axis(x.shape[0], "n"), axes(g.shape[2:], "yx")
        places, guard = places_seen(
            positions, taps, x.shape[2:], self.stride, self.padding, self.dilation
        )
        group = self.own_group(filter, g.shape[1])
        seen = channel if group is None else group * position(channel.extent) + channel
        one = wide_load(0, x, image, seen, *places, guard=guard)
        value = reduce(SUM, (image, *positions), one * wide_load(1, g, image, filter, *positions))
        return Compute(out, m.cast(value, x.dtype))


def _convolve(like: Sliding, x: Value, w: Value) -> Value:
    return make(Conv(like.stride, like.padding, like.dilation, like.groups), x, w)


def _by_input(like: Sliding, g: Value, w: Value, sizes: Sequence[Size]) -> Value:
    shared = (like.stride, like.padding, like.dilation, like.groups)
    return make(ConvInput(*shared, tuple(sizes)), g, w)


def _by_filters(like: Sliding, x: Value, g: Value, kernel: Sequence[Size]) -> Value:
    shared = (like.stride, like.padding, like.dilation, like.groups)
    return make(ConvWeight(*shared, tuple(kernel)), x, g)
