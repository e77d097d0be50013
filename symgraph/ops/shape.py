"""The same elements in another shape or order: reshape, permute, broadcast, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from symgraph.dims import (
    Size,
    collect_guards,
    equal,
    product,
    require_equal,
    require_sizes,
)
from symgraph.dims import (
    reshape as reshaped,
)
from symgraph.errors import ArgumentError, ArgumentTypeError, DimError, ShapeError
from symgraph.graph.arguments import distinct_axes, shape_argument
from symgraph.graph.elementwise import fit
from symgraph.graph.index import Axis, Compute, axes, broadcast_load, load, position
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, explained, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import Shape, TensorType, Type, same_size


def same_shape(first: Shape, second: Shape) -> bool:
    """Tell whether two shapes are written the same."""
    return len(first) == len(second) and all(same_size(a, b) for a, b in zip(first, second))


@op
class Reshape(Op):
    """The same elements, in row-major order, in another shape.

    `open_axis` is the axis that was given as -1 where that asks something of the sizes.
    """

    takes_complex = True

    shape: Shape
    open_axis: int | None = None
    view = True

    def infer(self, x: TensorType) -> Type:
        target = (-1 if d == self.open_axis else size for d, size in enumerate(self.shape))
        shape = reshaped(x.shape, tuple(target))
        require_sizes(shape)
        return x.with_shape(shape)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return arrays[0].reshape(self.shape)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (F.reshape(g, xs[0].shape),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x = xs[0].tensor
        out = axes(self.shape)
        return Compute(out, load(0, x.dtype, *regrouped(x.shape, out)))

    samples = (
        sample(lambda x: F.reshape(x, (-1,)), arg(("B", 3))),
        sample(lambda x: F.reshape(x, (-1,)), arg(("B", 3), "complex64")),
        sample(lambda x: F.reshape(x, (x.shape[0], 6, -1)), arg(("B", 2, 3, "C"))),
        sample(lambda x: F.reshape(x, (-1, 2)), arg(("B", 4))),
        sample(lambda x: F.reshape(x, (3, -1)), arg(("B", 2)), sizes={"B": 6}),
        sample(lambda x: F.reshape(x, (4, 6)), arg((2, 3, 4))),
        sample(lambda x: F.reshape(x, (1, 3, 1, x.shape[1], 1)), arg((3, "B"))),
        sample(lambda x: F.reshape(x, (2, 0)), arg((0, 5))),
        sample(lambda x: F.reshape(x, ()), arg((1, 1))),
        sample(lambda x: F.reshape(x, (1,)), arg((), "int32")),
        sample(lambda x: F.reshape(x, (33, 17)), arg((17, 33), "bfloat16")),
    )
    bad = (
        bad(lambda x: F.reshape(x, (4,)), arg((2, 3)), match="6 != 4"),
        bad(lambda x: F.reshape(x, (-1, 4)), arg((2, 3)), match="no multiple of 4"),
        bad(lambda x: F.reshape(x, (-1, -1)), arg((2, 3)), match="more than one -1"),
        bad(lambda x: F.reshape(x, (-2, 3)), arg((2, 3)), match="-2 .* is negative"),
        bad(lambda x: F.reshape(x, (6.0,)), arg((2, 3)), error=ArgumentTypeError, match="an int"),
        bad(lambda x: F.reshape(x, (2 * x.shape[0] + 1,)), arg(("B", 2)), match="for every B"),
    )


def regrouped(shape: Shape, out: Sequence[Axis]) -> list[Any]:
    """Give the index into an array of `shape` for each position of a reshaped result.

    Both shapes are cut, from the left, into the smallest groups of axes with the same number of
    elements, so that an axis that only moved past others of size 1 keeps a plain index.
    """
    index: list[Any] = []
    places = list(out)
    sizes = list(shape)
    while sizes or places:
        taken, kept = _group(sizes, [a.extent for a in places])
        group, places = places[:kept], places[kept:]
        index.extend(_unravel(group, sizes[:taken]))
        sizes = sizes[taken:]
    return index


def _group(old: Sequence[Size], new: Sequence[Size]) -> tuple[int, int]:
    """Count the leading axes of both shapes that form the smallest closed group."""
    if old and _is_one(old[0]):
        return 1, 0
    if new and _is_one(new[0]):
        return 0, 1
    for total in range(2, len(old) + len(new) + 1):
        for taken in range(1, total):
            kept = total - taken
            if taken <= len(old) and kept <= len(new):
                same = equal(product(old[:taken]), product(new[:kept]))
                rest = equal(product(old[taken:]), product(new[kept:]))
                if same is True and rest is True:
                    return taken, kept
    return len(old), len(new)


def _unravel(group: Sequence[Axis], sizes: Sequence[Size]) -> list[Any]:
    if len(group) == 1 and len(sizes) == 1:
        return [group[0]]
    if not group:
        return [0] * len(sizes)
    flat = group[0].scalar()
    for place in group[1:]:
        flat = flat * position(place.extent) + place.scalar()
    index: list[Any] = []
    for d, size in enumerate(sizes):
        below = product(sizes[d + 1 :])
        quotient = flat if _is_one(below) else flat // position(below)
        index.append(quotient if d == 0 else quotient % position(size))
    return index


def _is_one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


@op
class PermuteDims(Op):
    """Axis `d` of the result is axis `axes[d]` of the operand."""

    takes_complex = True

    axes: tuple[int, ...]
    view = True

    def infer(self, x: TensorType) -> Type:
        return x.with_shape(x.shape[d] for d in self.axes)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return arrays[0].transpose(self.axes)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (F.permute_dims(g, tuple(self.axes.index(d) for d in range(len(self.axes)))),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x = xs[0].tensor
        out = axes(tuple(x.shape[d] for d in self.axes))
        return Compute(out, load(0, x.dtype, *(out[self.axes.index(d)] for d in range(x.ndim))))

    samples = (
        sample(lambda x: F.permute_dims(x), arg(("B", 3))),
        sample(lambda x: F.permute_dims(x), arg(("B", 3), "complex64")),
        sample(lambda x: F.permute_dims(x, (1, 0)), arg((17, 33))),
        sample(lambda x: F.permute_dims(x, (0, 2, 3, 1)), arg(("B", 3, "H", 2))),
        sample(lambda x: F.permute_dims(x, (2, 0, -2)), arg((1, 0, "B"))),
        sample(lambda x: F.permute_dims(x, (2, 0, 1)), arg((2, 3, 4), "bool")),
    )
    bad = (
        bad(lambda x: F.permute_dims(x, (0,)), arg((2, 3)), error=ArgumentError, match="each axis"),
        bad(lambda x: F.permute_dims(x, (0, 0)), arg((2, 3)), error=ArgumentError, match="twice"),
        bad(lambda x: F.permute_dims(x, (0, 2)), arg((2, 3)), error=ArgumentError, match="axis 2"),
    )


@op
class BroadcastTo(Op):
    """The operand repeated, without copies, along new axes and axes of size 1."""

    takes_complex = True

    shape: Shape
    view = True

    def infer(self, x: TensorType) -> Type:
        lead = len(self.shape) - x.ndim
        if lead < 0:
            raise ShapeError(
                f"{{x}} has {x.ndim} axes, more than the {len(self.shape)} of the shape.",
                fix="give at least as many sizes as there are axes",
            )
        for d, (size, target) in enumerate(zip(x.shape, self.shape[lead:])):
            if not _is_one(size):
                require_equal(size, target, f"axis {d} of {{x}} must be 1 or the target's size")
        require_sizes(self.shape)
        return x.with_shape(self.shape)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return xp.broadcast_to(arrays[0], self.shape)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (fit(F, g, xs[0]),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out = axes(self.shape)
        return Compute(out, broadcast_load(0, xs[0].type, out))

    samples = (
        sample(lambda x: F.broadcast_to(x, (4, 3)), arg((3,))),
        sample(lambda x: F.broadcast_to(x, (4, 3)), arg((3,), "complex64")),
        sample(lambda x, y: F.broadcast_to(x, y.shape), arg((1, 3)), arg(("B", 3)), gradient=(0,)),
        sample(lambda x: F.broadcast_to(x, (2, x.shape[0], 5)), arg(("B", 1))),
        sample(lambda x: F.broadcast_to(x, (2, 3)), arg(())),
        sample(lambda x: F.broadcast_to(x, (0, 3)), arg((1, 3))),
        sample(lambda x: F.broadcast_to(x, (17, 33)), arg((17, 1), "bool")),
    )
    bad = (
        bad(lambda x: F.broadcast_to(x, (4,)), arg((3,)), match="axis 0 of .* 3 != 4"),
        bad(lambda x: F.broadcast_to(x, (3,)), arg((1, 3)), match="2 axes, more than the 1"),
        bad(lambda x: F.broadcast_to(x, (-1, 3)), arg((1, 3)), match="-1 .* is negative"),
    )


@function_of
def reshape(x: Any, shape: Any, *, copy: bool | None = None) -> Value:
    """Give the same elements, in row-major order, another shape; one size may be -1.

    Sizes may be symbolic; what cannot be decided is checked when the sizes are known. `copy` is
    the array API's, and means nothing where values never change. Raises `ShapeError` when the
    number of elements differs.

    >>> import symgraph as sg
    >>> str(sg.F.reshape(sg.tensor("x", (sg.dim("B"), 2, 3)), (-1, 6)).type)
    'float32[B, 6]'
    """
    value = as_value(x)
    target = shape_argument("reshape", shape, unknown=True)
    given = [d for d, size in enumerate(target) if isinstance(size, int) and size == -1]
    if not given:
        return value if same_shape(value.shape, target) else make(Reshape(target), value)
    try:
        with collect_guards() as guards:
            target = reshaped(value.shape, target)
    except DimError as problem:
        raise explained(problem, Reshape(target), (value,)) from None
    if same_shape(value.shape, target):
        return value
    # `infer` asks again and keeps the guards; without any, one node serves both ways of writing it
    return make(Reshape(target, given[0] if guards else None), value)


@function_of
def permute_dims(x: Any, axes: Sequence[int] | None = None) -> Value:
    """Permute the axes: axis `d` of the result is axis `axes[d]` of `x`; None reverses them.

    Raises `ArgumentError` unless `axes` names each axis once.

    >>> import symgraph as sg
    >>> str(sg.F.permute_dims(sg.tensor("x", (2, 3, 4)), (2, 0, 1)).type)
    'float32[4, 2, 3]'
    """
    value = as_value(x)
    if axes is None:
        order = tuple(reversed(range(value.ndim)))
    else:
        order = distinct_axes("permute_dims", axes, value.ndim)
    if len(order) != value.ndim:
        raise ArgumentError(
            f"permute_dims: must name each axis of `{value.label}` once, "
            f"got {axes!r} for {value.ndim} axes.",
            fix=f"give a permutation of 0 to {value.ndim - 1}",
        )
    return value if order == tuple(range(value.ndim)) else make(PermuteDims(order), value)


@function_of
def transpose(x: Any, axes: Sequence[int] | None = None) -> Value:
    """Permute the axes (NumPy's name for `permute_dims`); None reverses them."""
    return permute_dims(x, axes)


@function_of
def broadcast_to(x: Any, shape: Any) -> Value:
    """Repeat along new leading axes and along axes of size 1 until `x` has `shape`.

    Only a size written as 1 is repeated; another size must equal the target's. Raises `ShapeError`
    when it never does.

    >>> import symgraph as sg
    >>> sg.F.broadcast_to(sg.constant([1, 2]), (2, 2)).eval().tolist()
    [[1, 2], [1, 2]]
    """
    value = as_value(x)
    target = shape_argument("broadcast_to", shape)
    return value if same_shape(value.shape, target) else make(BroadcastTo(target), value)
