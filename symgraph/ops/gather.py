"""Selecting by integer values, and its transpose: adding up at the places they name.

Negative indices count from the end. An index out of range raises `IndexRangeError` when it is met;
the index expressions, which cannot raise, read nothing there and give NaN (floats) or 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size, broadcast_shapes, collect_guards, require_equal
from symgraph.errors import (
    ArgumentError,
    DimError,
    DTypeError,
    IndexRangeError,
    ShapeError,
)
from symgraph.graph.arguments import normal_axis, shape_argument
from symgraph.graph.arrays import add_at
from symgraph.graph.dtypes import dtype_name, has_gradient, is_float, is_integer, numpy_dtype
from symgraph.graph.index import SUM, Axis, Compute, axes, inside, load, m, position, reduce
from symgraph.graph.leaves import Constant, as_value
from symgraph.graph.legal import indices_exist, places_that_exist
from symgraph.graph.node import Value, explained, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.rawkernel import RawKernel
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, compute_dtype
from symgraph.graph.types import Shape, TensorType, Type
from symgraph.ops.scatter_kernels import scatter_kernel


@op
class Take(Op):
    """Elements of the first operand at the places that the others name, along axes from `axis` on.

    There is one integer operand for each axis selected from, all of one shape, which stands in the
    result in place of these axes.
    """

    takes_complex = True

    axis: int
    variadic = True

    def infer(self, x: TensorType, *indices: TensorType) -> Type:
        _check_indices(indices, first=1)
        if self.axis + len(indices) > x.ndim:
            raise ShapeError(f"{{x0}} has {x.ndim} axes, too few for {len(indices)} indices.")
        head, tail = x.shape[: self.axis], x.shape[self.axis + len(indices) :]
        return x.with_shape((*head, *indices[0].shape, *tail))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        x, *indices = arrays
        found = places_that_exist(xp, self.name, indices, x.shape, self.axis)
        return xp.asarray(x[(*(slice(None),) * self.axis, *found)])

    def legal(self, F: Functions, *xs: Value) -> Value | None:
        x, *indices = xs
        return indices_exist(F, zip(indices, x.shape[self.axis :]))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        x, *indices = xs
        if not has_gradient(x.dtype):
            return (None,) * len(xs)
        return (make(ScatterAdd(x.shape, self.axis), g, *indices), *(None for _ in indices))

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x, *indices = xs
        out = axes(self.infer(*(each.tensor for each in xs)).shape)  # type: ignore[union-attr]
        end = self.axis + indices[0].ndim
        places, guard = _positions(indices, out[self.axis : end], x.shape, self.axis, first=1)
        index = (*out[: self.axis], *places, *out[end:])
        return Compute(out, load(0, x.dtype, *index, guard=guard, fill=_missing(x.dtype)))

    samples = (
        sample(lambda x, i: F.take(x, i), arg(("B", 3)), arg((4,), "int32", low=-3, high=3)),
        sample(lambda x: F.take(x, [1, 0, 1]), arg(("B", 3), "complex64")),
        sample(
            lambda x, i: F.take(x, i, axis=1),
            arg((2, "C", 3)),
            arg(("B", 2), "int64", high=3),
        ),
        sample(lambda x, i: F.take(x, i, axis=-1), arg((3, 17)), arg((), "uint8", low=0, high=17)),
        sample(lambda x, i: F.take(x, i), arg((3, 33)), arg((0,), "int32")),
        sample(lambda x, i: F.take(x, i), arg((3,), "int32"), arg((5,), "int8"), gradient=()),
        sample(
            lambda x, i, j: F.gather(x, (i, j), axis=1),
            arg((2, 3, "B", 2)),
            arg((4, 1), "int32"),
            arg((5,), "int32", low=-3, high=3),
        ),
    )
    bad = (
        bad(lambda x, i: F.take(x, i), arg((3,)), arg((2,)), error=DTypeError, match="integers"),
        bad(
            lambda x, i: F.take(x, i, axis=1), arg((3,)), arg((2,), "int32"),
            error=ArgumentError, match="take: axis 1",
        ),
        bad(
            lambda x: F.take(x, [0], axis=None), arg((3, 2)), error=ArgumentError,
            match="take: needs an axis",
        ),
        bad(lambda x: F.take(x, [0, 5]), arg((3,)), error=IndexRangeError, match=r"5 .* \(1,\)"),
        bad(
            lambda x, i, j: F.gather(x, (i, j)), arg((3, 3)), arg((2,), "int32"),
            arg((3,), "int32"), error=ShapeError, match="take: cannot broadcast",
        ),
    )  # fmt: skip


@op
class ScatterAdd(Op):
    """Zeros of a shape to which updates are added at the places named: the transpose of `Take`."""

    takes_complex = True

    shape: Shape
    axis: int
    variadic = True

    def infer(self, updates: TensorType, *indices: TensorType) -> Type:
        _check_indices(indices, first=1)
        if updates.dtype == "bool":
            raise DTypeError("adds numbers, not bool.", fix="cast first")
        places = indices[0].shape
        head, tail = self.shape[: self.axis], self.shape[self.axis + len(indices) :]
        wanted = (*head, *places, *tail)
        if updates.ndim != len(wanted):
            raise ShapeError(f"{{x0}} must have {len(wanted)} axes, it has {updates.ndim}.")
        for d, (size, other) in enumerate(zip(updates.shape, wanted)):
            require_equal(size, other, f"axis {d} of {{x0}} must fit the indices and the shape")
        return updates.with_shape(self.shape)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        updates, *indices = arrays
        shape: Any = self.shape
        found = places_that_exist(xp, self.name, indices, shape, self.axis)
        wide = numpy_dtype(compute_dtype(dtype_name(updates.dtype)))
        total = xp.zeros(shape, wide)
        add_at(xp, total, (*(slice(None),) * self.axis, *found), updates.astype(wide, copy=False))
        return total.astype(updates.dtype, copy=False)

    def legal(self, F: Functions, *xs: Value) -> Value | None:
        return indices_exist(F, zip(xs[1:], self.shape[self.axis :]))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        updates, *indices = xs
        if not has_gradient(updates.dtype):
            return (None,) * len(xs)
        return (make(Take(self.axis), g, *indices), *(None for _ in indices))

    def expand(self, F: Functions, *xs: Value) -> Compute:
        updates, *indices = xs
        out = axes(self.shape)
        over = axes(indices[0].shape, "kl")
        end = self.axis + len(indices)
        places, _ = _positions(indices, over, self.shape, self.axis, first=1)
        hit = m.eq(places[0], out[self.axis].scalar())
        for place, own in zip(places[1:], out[self.axis + 1 : end]):
            hit = hit & m.eq(place, own.scalar())
        index = (*out[: self.axis], *over, *out[end:])
        return Compute(out, _collected(updates, index, hit, over))

    def raw_kernel(self, language: str, *types: Any) -> RawKernel | None:
        if language != "cuda":
            return None
        updates, *indices, result = types
        return scatter_kernel(result, updates, indices, self.axis, "add", into=False)

    samples = (
        sample(
            lambda i, u: F.scatter_add((3, 2), i, u),
            arg((5,), "int32", low=-3, high=3),
            arg((5, 2)),
        ),
        sample(
            lambda i, u: F.scatter_add((2, u.shape[2], u.shape[2]), i, u, axis=1),
            arg(("B",), "int64", low=0, high=4),
            arg((2, "B", "C")),
        ),
        sample(
            lambda i, u: F.scatter_add((17,), i, u),
            arg((33, 4), "uint8", low=0, high=17),
            arg((33, 4), "float16"),
        ),
        sample(lambda i, u: F.scatter_add((4, 2), i, u), arg((), "int32", low=0), arg((2,))),
        sample(lambda i, u: F.scatter_add((4,), i, u), arg((0,), "int32"), arg((0,), "int32")),
        sample(
            lambda x, i, j: F.grad(F.sum(F.gather(x, (i, j)) ** 2), x),
            arg((3, 2, "B")),
            arg((7,), "int32", low=-3, high=3),
            arg((7,), "int32"),
        ),
    )
    bad = (
        bad(
            lambda i, u: F.scatter_add((3,), i, u), arg((5,), "int32"), arg((4,)),
            match="scatter_add: axis 0 of .* must fit",
        ),
        bad(
            lambda i, u: F.scatter_add((3,), i, u), arg((5,)), arg((5,)),
            error=DTypeError, match="scatter_add: .* must hold integers",
        ),
        bad(
            lambda i, u: F.scatter_add((3,), i, u, axis=1), arg((5,), "int32"), arg((5,)),
            error=ArgumentError, match="scatter_add: axis 1",
        ),
        bad(
            lambda u: F.scatter_add((3,), [3], u), arg((1,)),
            error=IndexRangeError, match="scatter_add: index 3 at position",
        ),
        bad(
            lambda i, u: F.scatter_add((3,), i, u), arg((5,), "int32"), arg((5,), "bool"),
            error=DTypeError, match="not bool",
        ),
    )  # fmt: skip


def _check_indices(indices: Sequence[TensorType], first: int) -> None:
    for number, each in enumerate(indices, start=first):
        if not is_integer(each.dtype):
            raise DTypeError(
                f"{{x{number}}} must hold integers, not {each.dtype}.",
                fix='cast it: x.cast("int32")',
            )
        if each.ndim != indices[0].ndim:
            raise ShapeError(f"{{x{first}}} and {{x{number}}} must have one shape.")
        for size, other in zip(indices[0].shape, each.shape):
            require_equal(size, other, f"{{x{first}}} and {{x{number}}} must have one shape")


def _positions(
    indices: Sequence[Value], over: Sequence[Axis], shape: Shape, axis: int, first: int
) -> tuple[list[Scalar], Scalar]:
    """Give the positions that the indices name, counted from the front, and whether all exist."""
    places: list[Scalar] = []
    guard: Scalar | None = None
    for number, index in enumerate(indices):
        size = shape[axis + number]
        plain = position(load(first + number, index.dtype, *over))
        place = m.select(plain < 0, plain + position(size), plain)
        here = inside(place, size)
        places.append(place)
        guard = here if guard is None else guard & here
    if guard is None:
        raise ShapeError("take: there is no index.")
    return places, guard


def _collected(updates: Value, index: Sequence[Any], hit: Scalar, over: Sequence[Axis]) -> Scalar:
    """Add up the updates that hit a place."""
    part = m.cast(load(0, updates.dtype, *index, guard=hit), compute_dtype(updates.dtype))
    return m.cast(reduce(SUM, tuple(over), part) if over else part, updates.dtype)


def _missing(dtype: str) -> float:
    return math.nan if is_float(dtype) else 0.0


@function_of
def take(x: Any, indices: Any, axis: int | None = 0) -> Value:
    """Select along an axis: y[..., j, ...] = x[..., indices[j], ...].

    The axes of `indices` stand in the result in place of `axis`, which may be None for a vector.
    Negative indices count from the end. Raises `DTypeError` unless `indices` holds integers,
    `IndexRangeError` for constants out of range, else when the values are known.

    >>> import symgraph as sg
    >>> sg.F.take(sg.constant([5, 6, 7]), [2, 0]).eval().tolist()
    [7, 5]
    """
    value, chosen = as_value(x), as_value(indices)
    if axis is None and value.ndim != 1:
        raise ArgumentError(
            f"take: needs an axis where there are {value.ndim}.", fix="take(x, indices, axis=0)"
        )
    place = 0 if axis is None else normal_axis("take", axis, value.ndim)
    return _take("take", value, [chosen], place)


@function_of
def gather(x: Any, indices: Sequence[Any], axis: int = 0) -> Value:
    """Select with one integer value for each of several consecutive axes, from `axis` on.

    y[..., j, ...] = x[..., indices[0][j], indices[1][j], ...]; the indices are broadcast to one
    shape, which stands in the result in place of these axes. Raises as `take` does.

    >>> import symgraph as sg
    >>> sg.F.gather(sg.constant([[1, 2], [3, 4]]), ([0, 1], [1, 0])).eval().tolist()
    [2, 3]
    """
    value = as_value(x)
    chosen = [as_value(each) for each in indices]
    place = normal_axis("gather", axis, value.ndim)
    if not chosen or place + len(chosen) > value.ndim:
        raise ArgumentError(
            f"gather: needs one index for each of 1 to {value.ndim - place} axes, "
            f"got {len(chosen)}.",
            fix="give as many index values as there are axes to select from",
        )
    return _take("gather", value, chosen, place)


def _take(name: str, x: Value, indices: Sequence[Value], axis: int) -> Value:
    operation = Take(axis)
    try:
        with collect_guards():  # they are asked for again where the values are broadcast
            shape = broadcast_shapes(*(each.shape for each in indices))
    except DimError as problem:
        raise explained(problem, operation, (x, *indices)) from None
    for number, each in enumerate(indices):
        _check_constant(name, each, x.shape[axis + number], axis + number)
    return make(operation, x, *(F.broadcast_to(each, shape) for each in indices))


def _check_constant(name: str, indices: Value, size: Size, axis: int) -> None:
    """Find a constant index that is out of range while the graph is built."""
    if isinstance(indices.op, Constant) and is_integer(indices.dtype) and isinstance(size, int):
        places_that_exist(np, name, [indices.op.array], {axis: size}, axis)


@function_of
def scatter_add(shape: Any, indices: Any, updates: Any, axis: int = 0) -> Value:
    """Add updates at the places named: y[..., j, ...] = sum of updates[..., k, ...] where
    indices[k] = j.

    The transpose of `take`: the axes of `indices` stand in `updates` in place of `axis`. Raises
    `ShapeError` when `updates` does not fit, else as `take` does.

    >>> import symgraph as sg
    >>> sg.F.scatter_add((3,), [0, 2, 0], sg.constant([1, 2, 3])).eval().tolist()
    [4, 0, 2]
    """
    target = shape_argument("scatter_add", shape)
    chosen, values = as_value(indices), as_value(updates)
    place = normal_axis("scatter_add", axis, len(target))
    _check_constant("scatter_add", chosen, target[place], place)
    return make(ScatterAdd(target, place), values, chosen)
