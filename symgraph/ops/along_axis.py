"""Selecting one element of each row by an index of its own, and the transpose of that."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size, require_equal
from symgraph.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from symgraph.graph.arguments import normal_axis, plain_size
from symgraph.graph.arrays import add_at
from symgraph.graph.dtypes import dtype_name, has_gradient, is_float, is_integer, numpy_dtype
from symgraph.graph.index import SUM, Compute, axes, inside, load, m, position, reduce
from symgraph.graph.index import axis as loop
from symgraph.graph.leaves import as_value
from symgraph.graph.legal import indices_exist
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.rawkernel import RawKernel
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, compute_dtype
from symgraph.graph.types import Shape, TensorType, Type
from symgraph.ops.scatter_kernels import scatter_kernel


@op
class TakeAlongAxis(Op):
    """y[..., j, ...] = x[..., indices[..., j, ...], ...]: all other positions stay."""

    takes_complex = True

    axis: int

    def infer(self, x: TensorType, indices: TensorType) -> Type:
        _check(x, indices, self.axis, "{x}", "{indices}")
        return x.with_shape(indices.shape)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        x, indices = arrays
        places = _checked(xp, self.name, indices, x.shape[self.axis], self.axis)
        return xp.take_along_axis(x, places, axis=self.axis)

    def legal(self, F: Functions, *xs: Value) -> Value | None:
        return indices_exist(F, [(xs[1], xs[0].shape[self.axis])])

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        x, indices = xs
        if not has_gradient(x.dtype):
            return None, None
        return make(ScatterAddAlongAxis(self.axis, x.shape[self.axis]), g, indices), None

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x, indices = xs
        size = x.shape[self.axis]
        out = axes(indices.shape)
        place = _counted(load(1, indices.dtype, *out), size)
        index = [place if d == self.axis else a for d, a in enumerate(out)]
        fill = math.nan if is_float(x.dtype) else 0
        return Compute(out, load(0, x.dtype, *index, guard=inside(place, size), fill=fill))

    samples = (
        sample(
            lambda x, i: F.take_along_axis(x, i),
            arg(("B", 3)),
            arg(("B", 2), "int32", low=-3, high=3),
        ),
        sample(
            lambda x, i: F.take_along_axis(x, i, axis=0),
            arg((3, "B")),
            arg((1, "B"), "uint8", low=0, high=3),
        ),
        sample(
            lambda x, i: F.take_along_axis(x, i, axis=1),
            arg((2, 17, 1)),
            arg((1, 33, 3), "int64", low=-17, high=17),
        ),
        sample(lambda x, i: F.take_along_axis(x, i), arg((2, 3)), arg((2, 0), "int8")),
        sample(
            lambda x, i: F.take_along_axis(x, i),
            arg((3,), "bool"),
            arg((5,), "int32"),
            gradient=(),
        ),
    )
    bad = (
        bad(
            lambda x, i: F.take_along_axis(x, i), arg((2, 3)), arg((4, 3), "int32"),
            match="take_along_axis: axis 0 of .* must equal that of .* 2 != 4",
        ),
        bad(
            lambda x, i: F.take_along_axis(x, i), arg((2, 3)), arg((3,), "int32"),
            match="as many axes",
        ),
        bad(
            lambda x, i: F.take_along_axis(x, i), arg((3,)), arg((3,)),
            error=DTypeError, match="must hold integers",
        ),
        bad(
            lambda x, i: F.take_along_axis(x, i, axis=1), arg((3,)), arg((3,), "int32"),
            error=ArgumentError, match="take_along_axis: axis 1",
        ),
    )  # fmt: skip


@op
class ScatterAddAlongAxis(Op):
    """y[..., j, ...] = sum over k with indices[..., k, ...] = j of updates[..., k, ...].

    The transpose of `TakeAlongAxis`; `size` is that of `axis` in the result.
    """

    takes_complex = True

    axis: int
    size: Size

    def infer(self, updates: TensorType, indices: TensorType) -> Type:
        _check(updates, indices, None, "{updates}", "{indices}")
        if updates.dtype == "bool":
            raise DTypeError("adds numbers, not bool.", fix="cast first")
        return updates.with_shape(self.result(updates.shape))

    def result(self, shape: Shape) -> Shape:
        """Give the shape of the result."""
        return (*shape[: self.axis], self.size, *shape[self.axis + 1 :])

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        updates, indices = arrays
        size: Any = self.size
        places = _checked(xp, self.name, indices, size, self.axis)
        wide = numpy_dtype(compute_dtype(dtype_name(updates.dtype)))
        total = xp.zeros(self.result(updates.shape), wide)
        grid = xp.ogrid[tuple(slice(n) for n in updates.shape)]
        key = tuple(places if d == self.axis else own for d, own in enumerate(grid))
        add_at(xp, total, key, updates.astype(wide, copy=False))
        return total.astype(updates.dtype, copy=False)

    def legal(self, F: Functions, *xs: Value) -> Value | None:
        return indices_exist(F, [(xs[1], self.size)])

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        updates, indices = xs
        if not has_gradient(updates.dtype):
            return None, None
        return make(TakeAlongAxis(self.axis), g, indices), None

    def expand(self, F: Functions, *xs: Value) -> Compute:
        updates, indices = xs
        out = axes(self.result(updates.shape))
        over = loop(updates.shape[self.axis], "k")
        index = [over if d == self.axis else a for d, a in enumerate(out)]
        place = _counted(load(1, indices.dtype, *index), self.size)
        hit = m.eq(place, out[self.axis].scalar())
        part = m.cast(load(0, updates.dtype, *index, guard=hit), compute_dtype(updates.dtype))
        return Compute(out, m.cast(reduce(SUM, (over,), part), updates.dtype))

    def raw_kernel(self, language: str, *types: Any) -> RawKernel | None:
        if language != "cuda":
            return None
        updates, indices, result = types
        return scatter_kernel(result, updates, [indices], self.axis, "add", into=False, along=True)

    samples = (
        sample(
            lambda u, i: F.scatter_add_along_axis(u, i, 3),
            arg(("B", 5)),
            arg(("B", 5), "int32", low=-3, high=3),
        ),
        sample(
            lambda u, i: F.scatter_add_along_axis(u, i, u.shape[1], axis=0),
            arg((4, "B")),
            arg((4, "B"), "uint8", low=0, high=3),
        ),
        sample(
            lambda u, i: F.scatter_add_along_axis(u, i, 1, axis=1),
            arg((2, 33, 2), "float16"),
            arg((2, 33, 2), "int64", low=-1, high=1),
        ),
        sample(
            lambda u, i: F.scatter_add_along_axis(u, i, 17),
            arg((2, 0), "int32"),
            arg((2, 0), "int32"),
        ),
    )
    bad = (
        bad(
            lambda u, i: F.scatter_add_along_axis(u, i, 3), arg((2, 3)), arg((2, 4), "int32"),
            match="scatter_add_along_axis: axis 1 of .* 3 != 4",
        ),
        bad(
            lambda u, i: F.scatter_add_along_axis(u, i, 3), arg((2,), "bool"), arg((2,), "int32"),
            error=DTypeError, match="not bool",
        ),
        bad(
            lambda u, i: F.scatter_add_along_axis(u, i, -3), arg((2,)), arg((2,), "int32"),
            error=ArgumentError, match="scatter_add_along_axis: size must be >= 0",
        ),
    )  # fmt: skip


def _check(
    first: TensorType, indices: TensorType, but: int | None, name: str, indices_name: str
) -> None:
    if not is_integer(indices.dtype):
        raise DTypeError(
            f"{indices_name} must hold integers, not {indices.dtype}.", fix='.cast("int32")'
        )
    if first.ndim != indices.ndim:
        raise ShapeError(
            f"{indices_name} must have as many axes as {name}: {indices.ndim} != {first.ndim}.",
            fix="add axes with expand_dims, or use take",
        )
    for d, (size, other) in enumerate(zip(first.shape, indices.shape)):
        if d != but:
            require_equal(size, other, f"axis {d} of {name} must equal that of {indices_name}")


def _checked(xp: ModuleType, name: str, indices: Array, size: int, axis: int) -> Array:
    """Give indices counted from the front, or raise `IndexRangeError` about the first wrong one."""
    wrong = (indices < -size) | (indices >= size)
    if bool(xp.any(wrong)):
        place = tuple(int(i) for i in xp.argwhere(wrong)[0])
        raise IndexRangeError(
            f"{name}: index {int(indices[place])} at position {place} is out of range for "
            f"axis {axis} of size {size}.",
            fix=f"indices must be {-size} to {size - 1}" if size else "the axis is empty",
        )
    plain = indices.astype(np.int64)
    return xp.where(plain < 0, plain + size, plain)


def _counted(index: Scalar, size: Size) -> Scalar:
    plain = position(index)
    return m.select(plain < 0, plain + position(size), plain)


def _meet(value: Value, other: Value, axis: int) -> Value:
    """Repeat a value along its axes of size 1 where the other has more, but not along `axis`."""
    pairs = enumerate(zip(value.shape, other.shape))
    shape = [own if d == axis or not _is_one(own) else more for d, (own, more) in pairs]
    return F.broadcast_to(value, shape)


def _is_one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


@function_of
def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Value:
    """Select in each row by an index of its own: y[..., j] = x[..., indices[..., j]].

    Both have as many axes; apart from `axis`, axes of size 1 are repeated. Negative indices count
    from the end. Raises `DTypeError` unless `indices` holds integers, `ShapeError` when the other
    axes differ, `IndexRangeError` out of range, when the values are known.

    >>> import symgraph as sg
    >>> sg.F.take_along_axis(sg.constant([[5, 6], [7, 8]]), [[1], [0]]).eval().tolist()
    [[6], [7]]
    """
    value, chosen = as_value(x), as_value(indices)
    place = normal_axis("take_along_axis", axis, value.ndim)
    if value.ndim == chosen.ndim:
        value, chosen = _meet(value, chosen, place), _meet(chosen, value, place)
    return make(TakeAlongAxis(place), value, chosen)


@function_of
def scatter_add_along_axis(updates: Any, indices: Any, size: Size, axis: int = -1) -> Value:
    """Add up in each row at places of its own: y[..., j, ...] = sum of updates[..., k, ...] where
    indices[..., k, ...] = j.

    The transpose of `take_along_axis`; `size` is that of `axis` in the result. `updates` and
    `indices` have one shape. Raises as `take_along_axis` does.
    """
    values, chosen = as_value(updates), as_value(indices)
    place = normal_axis("scatter_add_along_axis", axis, values.ndim)
    extent = plain_size("scatter_add_along_axis", "size", size)
    if isinstance(extent, int) and extent < 0:
        raise ArgumentError(f"scatter_add_along_axis: size must be >= 0, got {extent}.")
    return make(ScatterAddAlongAxis(place, extent), values, chosen)
