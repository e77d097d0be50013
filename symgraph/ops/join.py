"""Joining values along an axis, and cutting one into pieces."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from types import ModuleType
from typing import Any

from symgraph.dims import (
    Dim,
    Size,
    collect_guards,
    concat_sizes,
    equal,
    require_equal,
    split_sizes,
)
from symgraph.errors import ArgumentError, ArgumentTypeError, DimError, DTypeError, ShapeError
from symgraph.graph.arguments import normal_axis, plain_int, plain_size
from symgraph.graph.index import Compute, axes, inside, load, m, position
from symgraph.graph.leaves import as_value, common, items
from symgraph.graph.node import Value, explained, make, operand_lines
from symgraph.graph.op import ZERO, Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, TupleType, Type


@op
class Concat(Op):
    """The operands one after the other along an axis."""

    takes_complex = True

    axis: int
    variadic = True

    def infer(self, *xs: TensorType) -> Type:
        first = xs[0]
        for number, x in enumerate(xs[1:], start=1):
            if x.dtype != first.dtype:
                raise DTypeError(
                    f"all operands must have one dtype: {{x0}} is {first.dtype}, "
                    f"{{x{number}}} is {x.dtype}."
                )
            if x.ndim != first.ndim:
                raise ShapeError(
                    f"all operands must have as many axes: {{x0}} has {first.ndim}, "
                    f"{{x{number}}} has {x.ndim}.",
                    fix="add axes with expand_dims, or use stack",
                )
            for d in range(first.ndim):
                if d != self.axis:
                    why = f"axis {d} of {{x0}} must equal axis {d} of {{x{number}}}"
                    require_equal(first.shape[d], x.shape[d], why)
        whole = concat_sizes([x.shape[self.axis] for x in xs])
        return first.with_shape((*first.shape[: self.axis], whole, *first.shape[self.axis + 1 :]))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return xp.concatenate(arrays, axis=self.axis)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        if not any(isinstance(x.shape[self.axis], Dim) or x.shape[self.axis] for x in xs):
            return (ZERO,) * len(xs)
        return tuple(F.split(g, [x.shape[self.axis] for x in xs], axis=self.axis))

    def expand(self, F: Functions, *xs: Value) -> Compute:
        shape = self.infer(*(x.tensor for x in xs))
        out = axes(shape.shape)  # type: ignore[union-attr]
        place = out[self.axis]
        starts: list[Size] = [0]
        for x in xs:
            starts.append(starts[-1] + x.shape[self.axis])
        value = None
        for number, x in reversed(list(enumerate(xs))):
            local = place - starts[number]
            index = [local if d == self.axis else a for d, a in enumerate(out)]
            guard = inside(local, x.shape[self.axis])
            part = load(number, x.dtype, *index, guard=guard)
            end = position(starts[number + 1])
            value = part if value is None else m.select(place < end, part, value)
        if value is None:
            raise ShapeError("concat: there is nothing to join.")
        return Compute(out, value)

    samples = (
        sample(lambda x, y: F.concat([x, y]), arg(("B", 3)), arg(("C", 3))),
        sample(
            lambda x, y, z: F.concat([x, y, z], axis=-1), arg((3, 1)), arg((3, "C")), arg((3, 4))
        ),
        sample(lambda x, y: F.concat([x, y], axis=1), arg((2, 0, 3)), arg((2, 17, 3))),
        sample(lambda x: F.concat([x, x], axis=0), arg((1, 33))),
        sample(lambda x, y: F.concat([x, y], axis=None), arg(("B", 2)), arg(())),
        sample(lambda x, y: F.concat([x, y]), arg((2,), "int32"), arg((3,)), gradient=(1,)),
        sample(lambda x, y: F.concat([x, y]), arg((2,), "bool"), arg((3,), "bool")),
        sample(lambda x, y: F.concat([x, y]), arg((2,), "complex64"), arg(("B",), "complex64")),
    )
    bad = (
        bad(lambda x, y: F.concat([x, y]), arg((2, 3)), arg((2, 4)), match="axis 1 .* 3 != 4"),
        bad(lambda x, y: F.concat([x, y]), arg((2, 3)), arg((2,)), match="as many axes"),
        bad(lambda x: F.concat([]), arg((2,)), error=ArgumentError, match="nothing to join"),
        bad(lambda x: F.concat([x, x], 1), arg((2,)), error=ArgumentError, match="axis 1"),
        bad(lambda x: F.concat(x), arg((2,)), error=ArgumentTypeError, match="a list or a tuple"),
    )


@op
class Split(Op):
    """Consecutive pieces along an axis; their sizes add up to the whole."""

    takes_complex = True

    axis: int
    sizes: tuple[Size, ...]
    view = True

    def infer(self, x: TensorType) -> Type:
        split_sizes(x.shape[self.axis], self.sizes)
        head, tail = x.shape[: self.axis], x.shape[self.axis + 1 :]
        return TupleType(tuple(x.with_shape((*head, size, *tail)) for size in self.sizes))

    def ref(self, xp: ModuleType, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        before = (slice(None),) * self.axis
        return tuple(
            x[(*before, slice(start, start + size))]
            for start, size in zip(self.starts(), self.sizes)
        )

    def starts(self) -> list[Size]:
        """Give where each piece begins."""
        return list(accumulate(self.sizes[:-1], initial=0))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        parts = [part if part is not None else F.zeros_like(own) for part, own in zip(g, y)]
        return (F.concat(parts, axis=self.axis),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x = xs[0].tensor
        pieces = []
        for start, size in zip(self.starts(), self.sizes):
            out = axes((*x.shape[: self.axis], size, *x.shape[self.axis + 1 :]))
            index = [a + start if d == self.axis else a for d, a in enumerate(out)]
            pieces.append((out, load(0, x.dtype, *index)))
        others = tuple(Compute(out, value) for out, value in pieces[1:])
        return Compute(*pieces[0], others=others)

    samples = (
        sample(lambda x: F.split(x, 2), arg((4, 3))),
        sample(lambda x: F.split(x, 3, axis=-1), arg(("B", 33))),
        sample(lambda x: F.split(x, 2), arg(("B", 3)), sizes={"B": 6}),
        sample(lambda x: F.split(x, (1, x.shape[1] - 1), axis=1), arg((2, "B", 2))),
        sample(lambda x: F.split(x, (1, 0, -1)), arg(("B",))),
        sample(lambda x: F.split(x, (0, 17), axis=1)[1], arg((2, 17))),
        sample(lambda x: F.split(x, [2, 1]), arg((3,), "int32")),
    )
    bad = (
        bad(lambda x: F.split(x, 2), arg((3,)), match="3 into 2 equal pieces"),
        bad(lambda x: F.split(x, (1, 1)), arg((3,)), match=r"2 != 3"),
        bad(lambda x: F.split(x, (1, 3, -1)), arg((3,)), match=r"\(1, 3, -1\)"),
        bad(lambda x: F.split(x, 0), arg((3,)), match="int >= 1"),
        bad(lambda x: F.split(x, ()), arg((0,)), error=ArgumentError, match="at least one piece"),
        bad(lambda x: F.split(x, (-1, -1)), arg((3,)), error=ArgumentError, match="one size"),
        bad(lambda x: F.split(x, 1, axis=1), arg((3,)), error=ArgumentError, match="axis 1"),
        bad(lambda x: F.split(x, 1.0), arg((3,)), error=ArgumentTypeError, match="an int"),
    )


@function_of
def concat(values: Sequence[Any], axis: int | None = 0) -> Value:
    """Join values along an axis; dtypes meet as in arithmetic, all other sizes must be equal.

    Without an axis (None) the values are flattened first. Raises `ShapeError` for other sizes that
    differ, `ArgumentError` for no values or a wrong axis.

    >>> import symgraph as sg
    >>> x, y = sg.tensor("x", (sg.dim("B"), 3)), sg.tensor("y", (sg.dim("C"), 3))
    >>> str(sg.F.concat([x, y]).type)
    'float32[B + C, 3]'
    """
    several = common("concat", *_several("concat", values))
    if axis is None:
        several, axis = tuple(F.reshape(value, (-1,)) for value in several), 0
    place = normal_axis("concat", axis, several[0].ndim)
    return several[0] if len(several) == 1 else make(Concat(place), *several)


@composite(
    samples=[
        sample(lambda x, y: F.stack([x, y]), arg(("B", 3)), arg(("B", 3)), label="front"),
        sample(lambda x, y: F.stack([x, y], -1), arg(("B", 3)), arg(("B", 3)), label="back"),
        sample(lambda x, y: F.stack([x, y], 1), arg(("B", 3)), arg(("B", 3)), label="middle"),
        sample(lambda x, y: F.stack((x, y, x)), arg(()), arg(()), label="scalars"),
    ],
    bad=[
        bad(lambda x, y: F.stack([x, y]), arg((2,)), arg((3,)), match="must have one shape"),
        bad(lambda x: F.stack([x], 2), arg((2,)), error=ArgumentError, match="stack: axis 2"),
        bad(lambda x: F.stack([]), arg((2,)), error=ArgumentError, match="nothing to join"),
    ],
)
def stack(values: Sequence[Any], axis: int = 0) -> Value:
    """Join values of one shape along a new axis. Raises as `concat` does."""
    several = common("stack", *_several("stack", values))
    first = several[0]
    for value in several:
        pairs = zip(first.shape, value.shape)
        if value.ndim != first.ndim or any(equal(a, b) is False for a, b in pairs):
            raise ShapeError(
                f"stack: all operands must have one shape: `{first.label}` is {first.type}, "
                f"`{value.label}` is {value.type}.",
                details=operand_lines(several),
                fix="use concat to join values along an axis that they have",
            )
    place = normal_axis("stack", axis, first.ndim + 1)
    return concat([F.expand_dims(value, place) for value in several], place)


@function_of
def split(x: Any, parts: int | Sequence[Size], axis: int = 0) -> tuple[Value, ...]:
    """Cut into consecutive pieces along an axis: a number of equal ones, or pieces of given sizes.

    One of the sizes may be -1: what is left. Sizes may be symbolic. Raises `ShapeError` when the
    number does not divide the axis, or the sizes do not add up to it.

    >>> import symgraph as sg
    >>> [piece.eval().tolist() for piece in sg.F.split(sg.constant([1, 2, 3]), (1, 2))]
    [[1], [2, 3]]
    """
    value = as_value(x)
    place = normal_axis("split", axis, value.ndim)
    whole = value.shape[place]
    pieces = parts if isinstance(parts, Sequence) else plain_int("split", "parts", parts)
    if isinstance(pieces, Sequence):
        pieces = _pieces(whole, pieces)
    try:
        # `infer` asks again with the sizes, and keeps the guards
        with collect_guards():
            sizes = split_sizes(whole, pieces)
    except DimError as problem:
        raise explained(problem, Split(place, ()), (value,)) from None
    return (value,) if len(sizes) == 1 else items(make(Split(place, sizes), value))


def _pieces(whole: Size, parts: Sequence[Any]) -> tuple[Size, ...]:
    sizes = [plain_size("split", "the size of a piece", size) for size in parts]
    open_ = [number for number, size in enumerate(sizes) if isinstance(size, int) and size == -1]
    if not sizes:
        raise ArgumentError("split: needs at least one piece, got ().", fix="give some sizes")
    if len(open_) > 1:
        raise ArgumentError(
            f"split: only one size can be -1, got {parts!r}.", fix="give the other sizes"
        )
    if open_:
        left = whole - concat_sizes([size for d, size in enumerate(sizes) if d not in open_])
        if isinstance(left, Dim) or left >= 0:
            sizes[open_[0]] = left
    return tuple(sizes)


def _several(name: str, values: Any) -> tuple[Value, ...]:
    if isinstance(values, Value) or not isinstance(values, Sequence):
        raise ArgumentTypeError(
            f"{name}: takes a list or a tuple of values, got {type(values).__name__}.",
            fix=f"write {name}([x, y])",
        )
    if not values:
        raise ArgumentError(f"{name}: there is nothing to join.", fix="give at least one value")
    return tuple(values)
