"""Slices with fixed starts, lengths and steps, and their transpose: placing into zeros."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from symgraph.dims import Size, less, less_equal, require_less_equal
from symgraph.errors import ArgumentError, ArgumentTypeError, ShapeError
from symgraph.graph.arguments import plain_int, plain_size, shape_argument
from symgraph.graph.dtypes import has_gradient
from symgraph.graph.index import Axis, Compute, axes, inside, load, m, position
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar
from symgraph.graph.types import Shape, TensorType, Type, same_size


@op
class Slice(Op):
    """Every `step`-th element from `start` on, `length` of them, along each axis.

    Axes in `dropped` have length 1 and vanish: they were indexed by an integer, which must be
    inside. Sizes in `counted` were bounds, taken as counted from the front: they must be >= 0.
    """

    takes_complex = True

    starts: tuple[Size, ...]
    lengths: tuple[Size, ...]
    steps: tuple[int, ...]
    dropped: tuple[int, ...]
    counted: tuple[Size, ...]
    view = True

    def infer(self, x: TensorType) -> Type:
        if x.ndim != len(self.starts):
            raise ShapeError(f"{{x}} must have {len(self.starts)} axes, it has {x.ndim}.")
        for bound in self.counted:
            require_less_equal(0, bound, "a bound of a slice of {x} is counted from the front")
        for d, (start, length, size) in enumerate(zip(self.starts, self.lengths, x.shape)):
            last = start + (length - 1) * self.steps[d]
            if d in self.dropped:
                why = f"the index into axis {d} of {{x}} must be inside"
                require_less_equal(0, start, why)
                require_less_equal(start + 1, size, why)
            elif less(0, length) and (_outside(start, size) or _outside(last, size)):
                raise ShapeError(
                    f"positions {start} to {last} of axis {d} of {{x}} must be inside "
                    f"its size {size}."
                )
        return x.with_shape(n for d, n in enumerate(self.lengths) if d not in self.dropped)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        # `...` makes one element a view too, where NumPy would copy it into a scalar
        return arrays[0][*window(self.starts, self.lengths, self.steps, self.dropped), ...]

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        if not has_gradient(xs[0].dtype):
            return (None,)
        return (make(SlicePut(xs[0].shape, self.starts, self.steps, self.dropped), g),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out = axes(tuple(n for d, n in enumerate(self.lengths) if d not in self.dropped))
        rest = iter(out)
        index = [
            position(start) if d in self.dropped else _place(next(rest), start, step)
            for d, (start, step) in enumerate(zip(self.starts, self.steps))
        ]
        return Compute(out, load(0, xs[0].dtype, *index))

    samples = (
        sample(lambda x: x[1:], arg(("B", 3))),
        sample(lambda x: x[::-1], arg(("B", 3))),
        sample(lambda x: x[:, -2:], arg(("B", 3))),
        sample(lambda x: x[1:-1, ::2], arg(("B", 17))),
        sample(lambda x: x[-2:0:-2], arg((33,))),
        sample(lambda x: x[::-3, 1], arg(("B", 3)), sizes={"B": 7}),
        sample(lambda x: x[-1], arg(("B", 3))),
        sample(lambda x: x[..., 0, :], arg((2, "B", 3))),
        sample(lambda x: x[2:7], arg(("B",)), sizes={"B": 4}),
        sample(lambda x: x[5:2], arg((9, 2))),
        sample(lambda x: x[:, ::-1], arg((2, 0))),
        sample(lambda x: x[x.shape[0] - 1 :], arg(("B", 2))),
        sample(lambda x: x[1], arg((3,), "bool")),
        sample(lambda x: x[1:, ::-1], arg(("B", 3), "complex64")),
        sample(lambda x: F.slice_at(x, (1, 0), (2, x.shape[1])), arg((3, "B"))),
        sample(lambda x: F.slice_at(x, (4,), (2,), (-3,)), arg((6,))),
    )
    bad = (
        bad(lambda x: F.slice_at(x, (1,), (3,)), arg((3,)), match="slice: positions 1 to 3"),
        bad(lambda x: F.slice_at(x, (-1,), (3,)), arg((3,)), match="slice: positions -1 to 1"),
        bad(
            lambda x: F.slice_at(x, (0,), (1,)), arg((3, 3)),
            error=ArgumentError, match="slice_at: needs one start for each of 2 axes",
        ),
        bad(
            lambda x: F.slice_at(x, (0,), (1,), (0,)), arg((3,)),
            error=ArgumentError, match="slice_at: a step must not be 0",
        ),
        bad(
            lambda x: F.slice_at(x, (0.5,), (1,)), arg((3,)),
            error=ArgumentTypeError, match="slice_at: a start must be an int",
        ),
    )  # fmt: skip


@op
class SlicePut(Op):
    """Zeros of a shape with the operand at the positions of a slice: the transpose of `Slice`."""

    takes_complex = True

    shape: Shape
    starts: tuple[Size, ...]
    steps: tuple[int, ...]
    dropped: tuple[int, ...]

    def infer(self, x: TensorType) -> Type:
        kept = len(self.shape) - len(self.dropped)
        if x.ndim != kept:
            raise ShapeError(f"{{x}} must have {kept} axes, it has {x.ndim}.")
        lengths = self.lengths(x.shape)
        for d, (start, length, size) in enumerate(zip(self.starts, lengths, self.shape)):
            last = start + (length - 1) * self.steps[d]
            if d in self.dropped:
                why = f"the index into axis {d} of the result must be inside"
                require_less_equal(0, start, why)
                require_less_equal(start + 1, size, why)
            elif less(0, length) and (_outside(start, size) or _outside(last, size)):
                raise ShapeError(
                    f"axis {d} of the result has size {size}: positions {start} to {last} "
                    "of {x} must be inside."
                )
        return x.with_shape(self.shape)

    def lengths(self, shape: Shape) -> Shape:
        """Give the length along each axis of the result, dropped axes included."""
        rest = iter(shape)
        return tuple(1 if d in self.dropped else next(rest) for d in range(len(self.shape)))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        result = xp.zeros(self.shape, x.dtype)
        result[window(self.starts, self.lengths(x.shape), self.steps, self.dropped)] = x
        return result

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        if not has_gradient(xs[0].dtype):
            return (None,)
        lengths = self.lengths(xs[0].shape)
        return (make(Slice(self.starts, lengths, self.steps, self.dropped, ()), g),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x = xs[0].tensor
        out = axes(self.shape)
        index: list[Scalar] = []
        guard: Scalar | None = None
        for d, length in enumerate(self.lengths(x.shape)):
            place, here = _back(out[d], self.starts[d], self.steps[d], length, self.shape[d])
            if d not in self.dropped:
                index.append(place)
            if here is not None:
                guard = here if guard is None else guard & here
        return Compute(out, load(0, x.dtype, *index, guard=guard))

    samples = (
        sample(lambda x: F.slice_put(x, (6,), (2,)), arg((3,))),
        sample(
            lambda x: F.slice_put(x, (2 * x.shape[0] + 1, 3), (1, 0), (2, 1)), arg(("B", 3)),
        ),
        sample(lambda x: F.slice_put(x, (x.shape[0],), (x.shape[0] - 1,), (-1,)), arg(("B",))),
        sample(lambda x: F.slice_put(x, (17, 2), (16, 0), (-3, 1)), arg((4, 2))),
        sample(lambda x: F.slice_put(x, (4, 0), (1, 0)), arg((2, 0))),
        sample(lambda x: F.slice_put(x, (4,), (1,)), arg((2,), "int32")),
        sample(lambda x: F.grad(F.sum(x[1, :, -1] ** 2), x), arg((3, "B", 2))),
    )  # fmt: skip
    bad = (
        bad(lambda x: F.slice_put(x, (4,), (2,)), arg((3,)), match="positions 2 to 4"),
        bad(
            lambda x: F.slice_put(x, (4, 4), (0, 0)), arg((3,)),
            error=ArgumentError, match="as many sizes as .* has axes",
        ),
    )  # fmt: skip


def window(
    starts: Sequence[Any], lengths: Sequence[Any], steps: Sequence[int], dropped: Sequence[int]
) -> tuple[slice | int, ...]:
    """Give the key with which NumPy takes these positions; all sizes are ints."""
    key: list[slice | int] = []
    for d, (start, length, step) in enumerate(zip(starts, lengths, steps)):
        stop = start + length * step
        if d in dropped:
            key.append(start)
        elif not length:
            key.append(slice(0, 0))
        else:
            key.append(slice(start, stop if stop >= 0 else None, step))
    return tuple(key)


def _outside(place: Size, size: Size) -> bool:
    return less(place, 0) is True or less_equal(size, place) is True


def _place(axis: Axis, start: Size, step: int) -> Scalar:
    """Give start + step * axis."""
    moved = axis.scalar() if step == 1 else axis * step
    return moved if isinstance(start, int) and start == 0 else moved + position(start)


def _back(
    place: Axis, start: Size, step: int, length: Size, size: Size
) -> tuple[Scalar, Scalar | None]:
    """Give which element stands at a position of the result, and whether one does at all."""
    if isinstance(start, int) and start == 0 and step == 1 and same_size(length, size):
        return place.scalar(), None
    away = place - start if step > 0 else position(start) - place.scalar()
    if abs(step) == 1:
        return away, inside(away, length)
    number = away // abs(step)
    return number, m.eq(away % abs(step), 0) & inside(number, length)


@function_of
def slice_at(
    x: Any,
    starts: Sequence[Size],
    lengths: Sequence[Size],
    steps: Sequence[int] | None = None,
    *,
    dropped: Sequence[int] = (),
    counted: Sequence[Size] = (),
) -> Value:
    """Cut out `lengths` elements from `starts` on, every `steps`-th, along each axis.

    y[i, ...] = x[start + i * step, ...]. Sizes may be symbolic. Axes in `dropped` have length 1 and
    vanish; sizes in `counted` are checked to be >= 0. Raises `ShapeError` when a position is
    outside for all sizes, `ArgumentError` unless there is one number for each axis.
    """
    value = as_value(x)
    strides = _steps("slice_at", steps, value.ndim)
    for what, sizes in (("start", starts), ("length", lengths)):
        if len(sizes) != value.ndim:
            raise ArgumentError(
                f"slice_at: needs one {what} for each of {value.ndim} axes, got {len(sizes)}.",
                fix="give 0 and the whole size for axes that stay whole",
            )
    first = tuple(plain_size("slice_at", "a start", start) for start in starts)
    counts = shape_argument("slice_at", lengths)
    whole = zip(first, counts, strides, value.shape)
    if not dropped and all(_is_whole(*each) for each in whole):
        return value
    return make(Slice(first, counts, strides, tuple(dropped), tuple(counted)), value)


@function_of
def slice_put(
    x: Any,
    shape: Sequence[Size],
    starts: Sequence[Size],
    steps: Sequence[int] | None = None,
    *,
    dropped: Sequence[int] = (),
) -> Value:
    """Place `x` into zeros of a shape: y[start + i * step, ...] = x[i, ...].

    The transpose of `slice_at`; axes in `dropped` are those that `x` lacks. Raises `ShapeError`
    when a position is outside for all sizes, `ArgumentError` unless there is one number for each
    axis.
    """
    value = as_value(x)
    target = shape_argument("slice_put", shape)
    if not len(target) == len(starts) == value.ndim + len(dropped):
        raise ArgumentError(
            f"slice_put: shape and starts need as many sizes as `{value.label}` has axes "
            f"({value.ndim}), got {len(target)} and {len(starts)}.",
            fix="reshape first",
        )
    first = tuple(plain_size("slice_put", "a start", start) for start in starts)
    strides = _steps("slice_put", steps, len(target))
    return make(SlicePut(target, first, strides, tuple(dropped)), value)


def _steps(name: str, steps: Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    if steps is None:
        return (1,) * ndim
    found = tuple(plain_int(name, "a step", step) for step in steps)
    if len(found) != ndim:
        raise ArgumentError(
            f"{name}: needs one step for each of {ndim} axes, got {len(found)}.",
            fix="give 1 for axes without gaps",
        )
    if 0 in found:
        raise ArgumentError(f"{name}: a step must not be 0, got {found}.", fix="use 1 or -1")
    return found


def _is_whole(start: Size, length: Size, step: int, size: Size) -> bool:
    return isinstance(start, int) and start == 0 and step == 1 and same_size(length, size)
