"""What numbers select: `nonzero`, `argwhere`, `compress`, and slices whose bounds are values.

How many elements come out is a size that data decide (`graph/measured.py`). The number is computed
first; the places of the elements are then an operation with that size, and whatever is made of
them is made of ordinary operations: the gradient of `x[mask]` is that of selecting by integers.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size, equal
from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    IndexRangeError,
    ShapeError,
)
from symgraph.graph.arguments import normal_axis, plain_int, shape_argument
from symgraph.graph.index import Compute, axes, load
from symgraph.graph.leaves import Constant, as_value, cast_to, needs_integer
from symgraph.graph.measured import measured
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, Type


class _Selection(Op):
    """`size` positions, which NumPy finds."""

    size: Size
    host = True

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (None,)

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        return 0

    def _filled(self, xp: ModuleType, found: Array) -> Array:
        """Give as many positions as there should be; the first is 0 where there are too few."""
        result = xp.zeros(self.size, np.int64)
        count = min(len(found), int(self.size))
        result[:count] = found[:count]
        return result


@op
class Places(_Selection):
    """The positions of the true elements of a vector, `size` of them, in order."""

    size: Size

    def infer(self, mask: TensorType) -> Type:
        if mask.dtype != "bool":
            raise DTypeError(f"{{mask}} must hold bools, not {mask.dtype}.", fix="write x != 0")
        if mask.ndim != 1:
            raise ShapeError(f"{{mask}} must have one axis, it has {mask.ndim}.")
        return TensorType("int64", (self.size,))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return self._filled(xp, xp.flatnonzero(arrays[0]))

    samples = (
        sample(lambda x: F.places(x, 2), arg((5,), "bool", values=(0, 1, 0, 0, 1))),
        sample(lambda x: F.places(x, 0), arg(("B",), "bool", values=(False,))),
        sample(lambda x: F.places(x, x.shape[0]), arg(("B",), "bool", values=(True,))),
    )
    bad = (
        bad(lambda x: F.places(x, 2), arg((3,)), error=DTypeError, match="places: .* bools"),
        bad(lambda x: F.places(x, 2), arg((3, 3), "bool"), match="places: .* one axis"),
    )


@op
class RepeatCounts(Op):
    """Counts as they are; a negative one raises `IndexRangeError`."""

    def infer(self, counts: TensorType) -> Type:
        if counts.dtype != "int64":
            raise DTypeError(f"{{counts}} must be int64, not {counts.dtype}.", fix="cast it first")
        return counts

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (counts,) = arrays
        if bool(xp.any(counts < 0)):
            raise IndexRangeError(
                f"repeat: an element cannot be repeated {int(counts.min())} times.",
                fix="counts are >= 0",
            )
        return xp.array(counts)

    def legal(self, F: Functions, *xs: Value) -> Value | None:
        return F.all(xs[0] >= 0)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (None,)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out = axes(xs[0].shape)
        return Compute(out, load(0, "int64", *out))

    samples = (sample(lambda x: F.repeat_counts(x), arg(("B",), "int64", low=0, high=3)),)
    bad = (bad(lambda x: F.repeat_counts(x), arg((3,)), error=DTypeError, match="must be int64"),)


@op
class RepeatPlaces(_Selection):
    """Each position of a vector of counts as often as it says, `size` positions in all."""

    size: Size

    def infer(self, counts: TensorType) -> Type:
        if counts.dtype != "int64":
            raise DTypeError(f"{{counts}} must be int64, not {counts.dtype}.", fix="cast it first")
        if counts.ndim != 1:
            raise ShapeError(f"{{counts}} must have one axis, it has {counts.ndim}.")
        return TensorType("int64", (self.size,))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        counts = xp.maximum(arrays[0], 0)
        return self._filled(xp, xp.repeat(xp.arange(len(counts)), counts))

    samples = (
        sample(lambda x: F.repeat_places(x, 3), arg((4,), "int64", values=(2, 0, 1, 0))),
        sample(lambda x: F.repeat_places(x, 0), arg(("B",), "int64", values=(0,))),
    )
    bad = (
        bad(lambda x: F.repeat_places(x, 2), arg((3,)), error=DTypeError, match="must be int64"),
        bad(lambda x: F.repeat_places(x, 2), arg((3, 3), "int64"), match="one axis"),
    )


@function_of
def places(mask: Any, size: Size) -> Value:
    """Give the positions of the true elements of a vector, of which there are `size`, as int64."""
    (count,) = shape_argument("places", (size,))
    return make(Places(count), as_value(mask))


@function_of
def repeat_counts(counts: Any) -> Value:
    """Give counts as they are; a negative one raises `IndexRangeError` when it is met."""
    return make(RepeatCounts(), as_value(counts))


@function_of
def repeat_places(counts: Any, size: Size) -> Value:
    """Give each position as often as its count says, `size` positions in all, as int64."""
    (count,) = shape_argument("repeat_places", (size,))
    return make(RepeatPlaces(count), as_value(counts))


@function_of
def repeat_each(x: Value, counts: Value, axis: int) -> Value:
    """Give each element along an axis as often as its own count says; counts are not negative."""
    length = x.shape[axis]
    if counts.ndim > 1 or (counts.ndim and equal(counts.shape[0], length) is False):
        raise ShapeError(
            f"repeat: there must be one count for each of {length} elements, or one for all; "
            f"`{counts.label}` is {counts.type}.",
            details=operand_lines([x, counts]),
            fix="give an integer for each element along the axis",
        )
    wide = cast_to(counts, "int64")
    each = F.specify_shape(wide, (length,)) if wide.ndim else F.broadcast_to(wide, (length,))
    if isinstance(counts.op, Constant):
        size: Size = int(counts.op.array.sum())
    else:
        each = F.repeat_counts(each)
        size = measured(F.sum(each), f"{counts.label}.sum")
    return F.take(x, F.repeat_places(each, size), axis=axis)


def _holds(name: str, x: Any) -> Value:
    """Give where elements are not zero, of a value that has axes."""
    value = as_value(x)
    if not value.ndim:
        raise ShapeError(
            f"{name}: `{value.label}` has no axes, so its elements have no positions.",
            details=operand_lines([value]),
            fix="reshape it to (1,)",
        )
    return _true(value)


def _true(value: Value) -> Value:
    return value if value.dtype == "bool" else F.not_equal(value, 0)


def _flat_places(mask: Value, label: str) -> Value:
    """Give the positions of true elements in row-major order."""
    size = measured(F.count_nonzero(mask), f"{label}.count", mask.size)
    return F.places(F.reshape(mask, (-1,)), size)


@composite(
    samples=[
        sample(lambda n: F.arange(F.as_size(n)), arg((), "int32", values=(3,)), label="steps"),
        sample(
            lambda x, n: F.zeros((F.as_size(n), x.shape[0])), arg(("B",)),
            arg((), "uint8", values=(2,)), gradient=(), label="shape",
        ),
    ],
    bad=[
        bad(lambda n: F.as_size(n), arg(()), error=DTypeError, match="as_size: .* integers"),
        bad(lambda n: F.as_size(n), arg((2,), "int32"), match="as_size: .* must be a scalar"),
    ],
)  # fmt: skip
def as_size(number: Any, name: str | None = None) -> Size:
    """Give the size whose number an integer value is, for shapes: sg.zeros((sg.as_size(n), 3)).

    It prints as `name`, or as the value's. The data of a call decide it; a negative number raises
    `GuardError` then. Raises `DTypeError` unless the value holds integers, `ShapeError` unless it
    is a scalar.

    >>> import symgraph as sg
    >>> n = sg.iscalar("n")
    >>> sg.arange(sg.as_size(n)).eval(n=3).tolist()
    [0, 1, 2]
    """
    value = needs_integer("as_size", as_value(number))
    if value.ndim:
        raise ShapeError(
            f"as_size: `{value.label}` must be a scalar, it is {value.type}.",
            details=operand_lines([value]),
            fix="a size is one number",
        )
    return measured(cast_to(value, "int64"), name or value.label)


@composite(
    samples=[
        sample(lambda x: F.nonzero(x), arg(("B",), "int32", low=0, high=2), label="vector"),
        sample(lambda x: F.nonzero(x), arg((3, "B"), values=(0, 1, -0.0, 2, 0)), label="matrix"),
        sample(lambda x: F.nonzero(x), arg((2, 0, 3), "bool"), label="empty"),
    ],
    bad=[bad(lambda x: F.nonzero(x), arg(()), match="nonzero: .* has no axes")],
)
def nonzero(x: Any) -> tuple[Value, ...]:
    """Give the positions of the elements that are not zero: a vector of int64 for each axis.

    They are in row-major order. How many there are is a size that the data decide, from 0 on; it
    goes on like any other. There is no gradient. Raises `ShapeError` for a scalar.

    >>> import symgraph as sg
    >>> x = sg.vector("x")
    >>> (places,) = sg.nonzero(x)
    >>> str(places.type), places.eval(x=[0, 3, 0, 4]).tolist()
    ('int64[x.count]', [1, 3])
    """
    value = as_value(x)
    rest = _flat_places(_holds("nonzero", value), value.label)
    found: list[Value] = []
    for size in reversed(value.shape[1:]):
        found.append(rest % F.size_of(size))
        rest = rest // F.size_of(size)
    return (rest, *reversed(found))


@composite(
    samples=[
        sample(lambda x: F.flatnonzero(x), arg((2, "B"), "int8", low=0, high=2), label="matrix"),
        sample(lambda x: F.flatnonzero(x), arg(()), label="scalar"),
    ],
    bad=[bad(lambda x: F.flatnonzero("x"), arg(()), error=ArgumentTypeError, match="operand: str")],
)
def flatnonzero(x: Any) -> Value:
    """Give the positions of the elements that are not zero, in row-major order, as `x` flattened.

    >>> import symgraph as sg
    >>> sg.flatnonzero(sg.constant([[0, 1], [1, 0]])).eval().tolist()
    [1, 2]
    """
    value = as_value(x)
    return _flat_places(_true(value), value.label)


@composite(
    samples=[
        sample(lambda x: F.argwhere(x), arg((3, "B"), "int8", low=0, high=2), label="matrix"),
        sample(lambda x: F.argwhere(x), arg((0,), "bool"), label="empty"),
    ],
    bad=[bad(lambda x: F.argwhere(x), arg(()), match="argwhere: .* has no axes")],
)
def argwhere(x: Any) -> Value:
    """Give the positions of the elements that are not zero: a row of int64 for each.

    >>> import symgraph as sg
    >>> sg.argwhere(sg.constant([[0, 1], [1, 0]])).eval().tolist()
    [[0, 1], [1, 0]]
    """
    _holds("argwhere", x)
    return F.stack(F.nonzero(x), axis=1)


@composite(
    samples=[
        sample(
            lambda c, x: F.compress(c, x, axis=1), arg(("B",), "bool", values=(1, 0, 1)),
            arg((2, "B")), label="columns",
        ),
        sample(
            lambda c, x: F.compress(c, x), arg((4,), "int32", low=0), arg((2, 2)), label="flat"
        ),
    ],
    bad=[
        bad(
            lambda c, x: F.compress(c, x, axis=0), arg((2,), "bool"), arg((3,)),
            error=IndexRangeError, match="compress: .* has 2 elements",
        ),
        bad(lambda c, x: F.compress(c, x), arg((2, 2)), arg((4,)), match="compress: .* one axis"),
    ],
)  # fmt: skip
def compress(condition: Any, x: Any, axis: int | None = None) -> Value:
    """Give the elements along an axis where a vector of conditions holds; without one, of all.

    Raises `ShapeError` unless the condition has one axis, `IndexRangeError` where it has another
    size.

    >>> import symgraph as sg
    >>> sg.compress([True, False, True], sg.constant([5, 6, 7]), axis=0).eval().tolist()
    [5, 7]
    """
    value, given = as_value(x), as_value(condition)
    if given.ndim != 1:
        raise ShapeError(
            f"compress: the condition `{given.label}` must have one axis, it has {given.ndim}.",
            details=operand_lines([given, value]),
            fix="x[mask] selects by a mask with several axes",
        )
    if axis is None:
        value, axis = F.reshape(value, (-1,)), 0
    place = normal_axis("compress", axis, value.ndim)
    if equal(given.shape[0], value.shape[place]) is False:
        raise IndexRangeError(
            f"compress: the condition has {given.shape[0]} elements, axis {place} of "
            f"`{value.label}` has {value.shape[place]}.",
            details=operand_lines([given, value]),
            fix="give a condition for each element",
        )
    return F.take(value, _flat_places(_holds("compress", given), given.label), axis=place)


@function_of
def slice_between(x: Value, axis: int, part: slice) -> Value:
    """Cut along an axis between bounds of which one at least is an integer value, as `x[i:j]` does.

    Bounds count from the end where they are negative, and are cut to what is there.
    """
    return F.take(x, _cut_places(x, axis, part), axis=axis)


@function_of
def slice_put_between(x: Value, axis: int, part: slice, new: Value) -> Value:
    """Give a value with what `slice_between` cuts out of it replaced."""
    return F.scatter(x, (_cut_places(x, axis, part),), new, axis=axis, mode="set")


@function_of
def slice_holds(x: Value, axis: int, part: slice) -> Value:
    """Tell for each position along an axis whether `slice_between` takes it."""
    first, span, step = _cut(x, axis, part)
    position = F.arange(x.shape[axis])
    ahead = position - first if step > 0 else first - position
    inside = F.logical_and(ahead >= 0, ahead < span)
    return inside if abs(step) == 1 else F.logical_and(inside, F.equal(ahead % abs(step), 0))


def _cut_places(x: Value, axis: int, part: slice) -> Value:
    first, span, step = _cut(x, axis, part)
    count = F.maximum((span + (abs(step) - 1)) // abs(step), 0)
    return first + F.arange(measured(count, f"{x.label}.cut", x.shape[axis])) * step


def _cut(x: Value, axis: int, part: slice) -> tuple[Value, Value, int]:
    """Give where a slice begins, how far it reaches in its direction, and its step."""
    step = 1 if part.step is None else part.step
    if isinstance(step, Value) or plain_int("index", "the step of a slice", step) == 0:
        raise ArgumentError(
            "index: the step of a slice must be a number and not be 0.",
            fix="use a step such as 2 or -1",
        )
    size = F.size_of(x.shape[axis])
    # a slice backwards ends before the first element: bounds lie from -1 to n - 1
    low, high = (F.constant(0), size) if step > 0 else (F.constant(-1), size - 1)
    first = _bound(part.start, low if step > 0 else high, size, low, high)
    end = _bound(part.stop, high if step > 0 else low, size, low, high)
    return first, end - first if step > 0 else first - end, step


def _bound(given: Any, default: Value, size: Value, low: Value, high: Value) -> Value:
    if given is None:
        return default
    value = as_value(given, "int64")
    if value.ndim:
        raise ShapeError(
            f"index: a bound of a slice must be a scalar, `{value.label}` is {value.type}.",
            details=operand_lines([value]),
        )
    place = cast_to(needs_integer("index", value), "int64")
    return F.minimum(F.maximum(F.where(place < 0, place + size, place), low), high)
