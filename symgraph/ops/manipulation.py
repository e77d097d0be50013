"""Elements moved, repeated and taken apart: roll, tile, repeat, diff, unstack, meshgrid."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from symgraph.dims import Dim, Size, broadcast_shapes, collect_guards
from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    DimError,
    DTypeError,
    ShapeError,
    UndecidedError,
)
from symgraph.graph.arguments import distinct_axes, normal_axis, plain_int, plain_size
from symgraph.graph.dtypes import has_gradient, is_float
from symgraph.graph.index import Compute, axes, load, position
from symgraph.graph.leaves import Constant, as_value, common, needs_integer
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, Type


@op
class Roll(Op):
    """y[..., i, ...] = x[..., (i - shift) mod n, ...]."""

    shift: Size
    axis: int
    takes_complex = True

    def infer(self, x: TensorType) -> Type:
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        shift: Any = self.shift
        return xp.roll(arrays[0], shift, axis=self.axis)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (make(Roll(-self.shift, self.axis), g) if has_gradient(xs[0].dtype) else None,)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x = xs[0].tensor
        out = axes(x.shape)
        place = (out[self.axis] - self.shift) % position(x.shape[self.axis])
        index = [place if d == self.axis else a for d, a in enumerate(out)]
        return Compute(out, load(0, x.dtype, *index))

    samples = (
        sample(lambda x: F.roll(x, 2), arg(("B", 3))),
        sample(lambda x: F.roll(x, -5, axis=0), arg((3, "B"))),
        sample(lambda x: F.roll(x, (1, -1), axis=(0, 1)), arg((2, "B", 2)), sizes={"B": 17}),
        sample(lambda x: F.roll(x, x.shape[0] - 1, axis=1), arg(("B", 4))),
        sample(lambda x: F.roll(x, 1, axis=0), arg((0, 3), "int32")),
        sample(lambda x: F.roll(x, 9), arg((4,), "bool")),
        sample(lambda x: F.roll(x, 2), arg(("B", 3), "complex64"), label="complex"),
    )
    bad = (
        bad(lambda x: F.roll(x, 1, axis=2), arg((2, 3)), error=ArgumentError, match="roll: axis 2"),
        bad(
            lambda x: F.roll(x, 0.5), arg((2,)), error=ArgumentTypeError, match="roll: shift must"
        ),
        bad(
            lambda x: F.roll(x, (1, 2), axis=0), arg((2,)), error=ArgumentError,
            match="as many shifts",
        ),
    )  # fmt: skip


@function_of
def roll(x: Any, shift: Any, axis: int | Sequence[int] | None = None) -> Value:
    """Move elements along an axis; what leaves at one end comes in at the other.

    y[i] = x[(i - shift) mod n]. Without an axis the elements move in row-major order. Several
    shifts go with as many axes; a shift may be a size. Raises `ArgumentError` for a wrong axis.

    >>> import symgraph as sg
    >>> sg.F.roll(sg.constant([1, 2, 3]), 1).eval().tolist()
    [3, 1, 2]
    """
    value = as_value(x)
    if axis is None:
        flat = F.reshape(value, (-1,))
        moved = make(Roll(plain_size("roll", "shift", shift), 0), flat)
        return F.reshape(moved, value.shape)
    places = distinct_axes("roll", axis, value.ndim)
    shifts = tuple(shift) if isinstance(shift, Sequence) else (shift,) * len(places)
    if len(shifts) != len(places):
        raise ArgumentError(
            f"roll: needs as many shifts as axes, got {shift!r} for {axis!r}.",
            fix="give one shift for each axis, or one for all",
        )
    for place, one in zip(places, shifts):
        value = make(Roll(plain_size("roll", "shift", one), place), value)
    return value


@composite(
    samples=[
        sample(lambda x: F.tile(x, (2, 3)), arg(("B", 2)), label="two"),
        sample(lambda x: F.tile(x, 3), arg((2, "B")), label="last"),
        sample(lambda x: F.tile(x, (2, 1, x.shape[0])), arg(("B",)), label="more"),
        sample(lambda x: F.tile(x, (0, 2)), arg((3, 1), "int32"), label="none"),
    ],
    bad=[
        bad(lambda x: F.tile(x, -1), arg((2,)), match="tile: .* negative"),
        bad(lambda x: F.tile(x, 1.5), arg((2,)), error=ArgumentTypeError, match="an int"),
    ],
)
def tile(x: Any, repetitions: Any) -> Value:
    """Lay copies side by side: as many along each axis as `repetitions` says.

    Axes that one of both lacks are added in front. Counts may be sizes. Raises `ShapeError` for a
    negative count.

    >>> import symgraph as sg
    >>> sg.F.tile(sg.constant([1, 2]), (2, 2)).eval().tolist()
    [[1, 2, 1, 2], [1, 2, 1, 2]]
    """
    value = as_value(x)
    counts = _counts("tile", repetitions)
    missing = len(counts) - value.ndim
    counts = (1,) * -missing + counts
    shape = (1,) * missing + tuple(value.shape)
    doubled = [size for pair in zip(counts, shape) for size in pair]
    ones = [size for own in shape for size in (1, own)]
    spread = F.broadcast_to(F.reshape(value, ones), doubled)
    return F.reshape(spread, [count * size for count, size in zip(counts, shape)])


def _counts(name: str, given: Any) -> tuple[Size, ...]:
    several = tuple(given) if isinstance(given, Sequence | np.ndarray) else (given,)
    found = tuple(plain_size(name, "a count", count) for count in several)
    for count in found:
        if not isinstance(count, Dim) and count < 0:
            raise ShapeError(f"{name}: the count {count} is negative.", fix="counts are >= 0")
    return found


@composite(
    samples=[
        sample(lambda x: F.repeat(x, 2, axis=1), arg(("B", 3)), label="two"),
        sample(lambda x: F.repeat(x, 3), arg((2, "B")), label="flat"),
        sample(lambda x: F.repeat(x, [2, 0, 1], axis=0), arg((3, "B")), label="each"),
        sample(lambda x: F.repeat(x, x.shape[0], axis=0), arg(("B",), "int8"), label="size"),
        sample(lambda x: F.repeat(x, 0, axis=0), arg((2, 1)), label="none"),
        sample(
            lambda x, n: F.repeat(x, n, axis=1), arg((2, "B")), arg(("B",), "int32", values=(2, 0)),
            label="counted",
        ),
        sample(
            lambda x, n: F.repeat(x, n), arg((2, "B")), arg((), "uint8", values=(2,)), label="once",
        ),
        sample(
            lambda x: F.repeat(x, [1, 0, 2], axis=0), arg(("B", 2)), sizes={"B": 3}, label="given",
        ),
    ],
    bad=[
        bad(lambda x: F.repeat(x, -1, axis=0), arg((2,)), match="repeat: .* negative"),
        bad(lambda x: F.repeat(x, [1, 2], axis=0), arg((3,)), match="repeat: .* 3 elements"),
        bad(
            lambda x: F.repeat(x, x, axis=0), arg((3,)), error=DTypeError,
            match="repeat: .* must hold integers",
        ),
        bad(
            lambda x, n: F.repeat(x, n, axis=0), arg((3,)), arg((2,), "int32"),
            match="repeat: .* one count for each",
        ),
        bad(lambda x: F.repeat(x, 2, axis=1), arg((3,)), error=ArgumentError, match="axis 1"),
    ],
)  # fmt: skip
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Value:
    """Give each element along an axis several times: all as often, or each by its own count.

    A count is a number, a size, or an integer value; several are a list or a vector of integers,
    whose sum is then a size that the data decide. Without an axis the elements are repeated in
    row-major order. Raises `ShapeError` for a negative count or another number of counts,
    `DTypeError` for counts that are no integers.

    >>> import symgraph as sg
    >>> sg.F.repeat(sg.constant([5, 6]), [2, 1]).eval().tolist()
    [5, 5, 6]
    """
    value = as_value(x)
    if axis is None:
        value, axis = F.reshape(value, (-1,)), 0
    place = normal_axis("repeat", axis, value.ndim)
    counts = repeats
    if isinstance(counts, Value):
        if not isinstance(counts.op, Constant):
            return F.repeat_each(value, needs_integer("repeat", counts), place)
        counts = counts.op.array
    if isinstance(counts, np.ndarray) and not counts.ndim:
        counts = counts[()]
    if not isinstance(counts, Sequence | np.ndarray):
        (count,) = _counts("repeat", counts)
        head, tail = value.shape[: place + 1], value.shape[place + 1 :]
        spread = F.broadcast_to(F.expand_dims(value, place + 1), (*head, count, *tail))
        return F.reshape(spread, (*head[:-1], head[-1] * count, *tail))
    size = value.shape[place]
    each = [plain_int("repeat", "a count", count) for count in counts]
    _counts("repeat", each)
    if isinstance(size, Dim):
        return F.repeat_each(value, F.constant(np.asarray(each, np.int64)), place)
    if len(each) != size:
        raise ShapeError(
            f"repeat: {len(each)} counts for {size} elements along axis {place}.",
            details=[value.describe()],
            fix="give one count for each element, or one for all",
        )
    return F.take(value, np.repeat(np.arange(size), each), axis=place)


@composite(
    samples=[
        sample(lambda x: F.diff(x), arg(("B", 4)), label="last"),
        sample(lambda x: F.diff(x, axis=0, n=2), arg((5, "B")), label="twice"),
        sample(lambda x, y: F.diff(x, prepend=y, append=0.5), arg((2, "B")), arg((2, 1)),
               label="ends"),
        sample(lambda x: F.diff(x), arg((5,), "bool"), label="bools"),
        sample(lambda x: F.diff(x, n=0), arg((5,), "uint8"), label="same"),
        sample(lambda x: F.diff(x), arg((2, 0)), label="empty"),
    ],
    bad=[
        bad(lambda x: F.diff(x, n=-1), arg((2,)), error=ArgumentError, match="diff: n must"),
        bad(lambda x: F.diff(x, axis=1), arg((2,)), error=ArgumentError, match="diff: axis 1"),
    ],
)  # fmt: skip
def diff(x: Any, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Value:
    """Subtract from each element along an axis the one before it, `n` times: y[i] = x[i+1] - x[i].

    `prepend` and `append` are put in front and behind before; a scalar is one element. Bools differ
    or not. Raises `ArgumentError` for a wrong axis or a negative `n`.

    >>> import symgraph as sg
    >>> sg.F.diff(sg.constant([1, 4, 9])).eval().tolist()
    [3, 5]
    """
    value = as_value(x)
    place = normal_axis("diff", axis, value.ndim)
    times = plain_int("diff", "n", n)
    if times < 0:
        raise ArgumentError(f"diff: n must be >= 0, got {times}.", fix="n=1")
    ends = [None if end is None else _end(end, value, place) for end in (prepend, append)]
    parts = [part for part in (ends[0], value, ends[1]) if part is not None]
    value = F.concat(parts, axis=place)
    for _ in range(times):
        lead = (slice(None),) * place
        after, before = value[(*lead, slice(1, None))], value[(*lead, slice(None, -1))]
        value = after != before if value.dtype == "bool" else after - before
    return value


def _end(end: Any, x: Value, axis: int) -> Value:
    value = as_value(end, x.dtype)
    if value.ndim:
        return value
    return F.broadcast_to(value, [1 if d == axis else size for d, size in enumerate(x.shape)])


@composite(
    samples=[
        sample(lambda x: F.unstack(x), arg((3, "B")), label="rows"),
        sample(lambda x: F.unstack(x, axis=-1), arg(("B", 2)), label="columns"),
    ],
    bad=[
        bad(lambda x: F.unstack(x), arg(("B", 2)), error=UndecidedError, match="B is symbolic"),
        bad(lambda x: F.unstack(x, axis=1), arg((2,)), error=ArgumentError, match="axis 1"),
    ],
)
def unstack(x: Any, *, axis: int = 0) -> tuple[Value, ...]:
    """Take apart along an axis, which vanishes: the inverse of `stack`.

    Raises `UndecidedError` where the number of parts is symbolic, `ArgumentError` for a wrong axis.
    """
    value = as_value(x)
    place = normal_axis("unstack", axis, value.ndim)
    size = value.shape[place]
    if isinstance(size, Dim):
        raise UndecidedError(
            f"unstack: the number of parts {size} is symbolic.",
            details=[value.describe()],
            fix="index or split along an axis whose size is a number",
        )
    return tuple(value[(*(slice(None),) * place, number)] for number in range(size))


@composite(
    samples=[
        sample(lambda x, y: F.broadcast_arrays(x, y), arg(("B", 1)), arg((3,))),
        sample(lambda x: F.broadcast_arrays(x), arg(("B",)), label="one"),
    ],
    bad=[
        bad(
            lambda x, y: F.broadcast_arrays(x, y), arg((2,)), arg((3,)),
            match="broadcast_arrays: cannot broadcast",
        ),
    ],
)  # fmt: skip
def broadcast_arrays(*values: Any) -> tuple[Value, ...]:
    """Give all values one shape, by NumPy's rules; dtypes stay.

    Raises `ShapeError` where the shapes do not fit.
    """
    several = [as_value(value) for value in values]
    try:
        with collect_guards():  # they are asked for again where each is broadcast
            shape = broadcast_shapes(*(value.shape for value in several))
    except DimError as problem:
        raise ShapeError(
            f"broadcast_arrays: {problem.message}",
            details=operand_lines(several),
            fix="make sizes equal, or 1",
        ) from None
    return tuple(F.broadcast_to(value, shape) for value in several)


@composite(
    samples=[
        sample(lambda x, y: F.meshgrid(x, y), arg(("B",)), arg((3,)), label="xy"),
        sample(
            lambda x, y, z: F.meshgrid(x, y, z, indexing="ij"), arg(("B",)), arg((3,)), arg((1,)),
            label="ij",
        ),
        sample(lambda x: F.meshgrid(x), arg((4,), "int32"), label="one"),
    ],
    bad=[
        bad(lambda x: F.meshgrid(x), arg((2, 2)), match="meshgrid: .* must be a vector"),
        bad(
            lambda x: F.meshgrid(x, indexing="zz"), arg((2,)), error=ArgumentError,
            match="meshgrid: indexing",
        ),
    ],
)  # fmt: skip
def meshgrid(*values: Any, indexing: str = "xy") -> tuple[Value, ...]:
    """Spread vectors over a grid: one result for each, which varies along the vector's own axis.

    With "ij" the axes stand in the order of the vectors; "xy" exchanges the first two. Raises
    `ShapeError` for what is no vector, `ArgumentError` for another indexing.
    """
    several = common("meshgrid", *values) if values else ()
    if indexing not in ("xy", "ij"):
        raise ArgumentError(
            f'meshgrid: indexing must be "xy" or "ij", got {indexing!r}.', fix='indexing="ij"'
        )
    for value in several:
        if value.ndim != 1:
            raise ShapeError(
                f"meshgrid: `{value.label}` must be a vector, it is {value.type}.",
                details=[value.describe()],
                fix="flatten it first",
            )
    order = list(range(len(several)))
    if indexing == "xy" and len(order) > 1:
        order[:2] = 1, 0
    shape = [several[number].shape[0] for number in order]
    found = []
    for number, value in enumerate(several):
        own = [size if d == order.index(number) else 1 for d, size in enumerate(shape)]
        found.append(F.broadcast_to(F.reshape(value, own), shape))
    return tuple(found)


@composite(
    samples=[
        sample(lambda x: F.nan_to_num(x), arg(("B", 4), values=(
            1.5, float("nan"), -2.0)), gradient=(), label="default"),
        sample(lambda x: F.nan_to_num(x, nan=1, posinf=2, neginf=3), arg((4,), values=(
            1.5, float("nan"), float("inf"), -float("inf"))), gradient=(), label="given"),
        sample(lambda x: F.nan_to_num(x), arg((3,)), label="finite"),
        sample(lambda x: F.nan_to_num(x), arg((3,), "int32"), label="whole"),
    ],
    bad=[
        bad(lambda x: F.nan_to_num(x, nan="a"), arg((2,)), error=DTypeError, match="nan_to_num"),
    ],
)  # fmt: skip
def nan_to_num(
    x: Any, *, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Value:
    """Replace NaN by a number, and infinities by others: the largest and smallest finite ones.

    The gradient of what was replaced is 0. Integers and bools stay.
    """
    value = as_value(x)
    for number in (nan, posinf, neginf):
        if number is not None and not isinstance(number, int | float):
            raise DTypeError(f"nan_to_num: {number!r:.40} is no number.", fix="nan=0.0")
    if not is_float(value.dtype):
        return value
    limits = ml_dtypes.finfo(value.dtype)  # type: ignore[no-untyped-call] # knows bfloat16 too
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    whole = F.where(F.isnan(value), nan, value)
    return F.where(F.equal(value, np.inf), high, F.where(F.equal(value, -np.inf), low, whole))
