"""Reductions: sum, product, largest, smallest, any and all over axes.

Integers and bools are summed and multiplied in 64 bits (array API); half precisions accumulate in
float32 and round once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, ClassVar

from symgraph.dims import require_less_equal
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.frozen import frozen
from symgraph.graph.arguments import normal_axes
from symgraph.graph.dtypes import DType, dtype_name, has_gradient, is_float, numpy_dtype
from symgraph.graph.index import (
    ALL,
    ANY,
    MAX,
    MIN,
    PROD,
    SUM,
    Compute,
    Monoid,
    axes,
    load,
    m,
    reduce,
)
from symgraph.graph.index import (
    axis as loop,
)
from symgraph.graph.leaves import as_value, cast_to
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, compute_dtype, widen
from symgraph.graph.types import Shape, TensorType, Type

Axis = int | Sequence[int] | None


@frozen(eq=False, repr=False)
class Reduction(Op):
    """One result element from all elements along `axis`; `keepdims` leaves axes of size 1.

    `axis` is ascending and not negative; without axes every element stands for itself.
    """

    axis: tuple[int, ...]
    keepdims: bool

    monoid: ClassVar[Monoid]

    def infer(self, x: TensorType) -> Type:
        for d in self.axis:
            self.check_size(d, x.shape[d])
        return TensorType(self.result_dtype(x.dtype), self.reduced(x.shape))

    def check_size(self, axis: int, size: Any) -> None:
        """Require what must hold for the size of a reduced axis: nothing, as a rule."""

    def result_dtype(self, dtype: DType) -> DType:
        """Give the dtype of the result."""
        return dtype

    def reduced(self, shape: Shape) -> Shape:
        """Give the shape of the result."""
        if self.keepdims:
            return kept(shape, self.axis)
        return tuple(size for d, size in enumerate(shape) if d not in self.axis)

    def element(self, x: Scalar, dtype: DType) -> Scalar:
        """Give what is combined for one element; `dtype` is that of the result."""
        return m.cast(x, compute_dtype(dtype))

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x = xs[0].tensor
        dtype = self.result_dtype(x.dtype)
        out = axes(self.reduced(x.shape))
        over = {d: loop(x.shape[d], f"r{d}") for d in self.axis}
        rest = iter(out)
        index = []
        for d in range(x.ndim):
            place = next(rest) if self.keepdims or d not in over else None
            index.append(over.get(d, place))
        value = self.element(load(0, x.dtype, *index), dtype)
        if over:
            value = reduce(self.monoid, tuple(over.values()), value)
        return Compute(out, m.cast(value, dtype))

    def spread(self, F: Functions, value: Value, x: Value) -> Value:
        """Give a value of the result's shape the reduced axes back, with size 1."""
        return value if self.keepdims else F.reshape(value, kept(x.shape, self.axis))


def kept(shape: Shape, axis: Sequence[int]) -> Shape:
    """Give a shape in which the reduced axes have size 1."""
    return tuple(1 if d in axis else size for d, size in enumerate(shape))


def wide_dtype(dtype: DType) -> DType:
    """Give the dtype of a sum or product: 64 bits for integers and bools, floats as they are."""
    if has_gradient(dtype):
        return dtype
    return "uint64" if dtype.startswith("uint") else "int64"


@frozen(eq=False, repr=False)
class Total(Reduction):
    """What sum and product share: they accumulate in a wide dtype."""

    takes_complex = True

    def result_dtype(self, dtype: DType) -> DType:
        return wide_dtype(dtype)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        dtype = self.result_dtype(dtype_name(x.dtype))
        wide = numpy_dtype(compute_dtype(dtype))
        fold = {"sum": xp.sum, "prod": xp.prod}[self.name]
        total = fold(x.astype(wide, copy=False), axis=self.axis, keepdims=self.keepdims)
        return xp.asarray(total).astype(numpy_dtype(dtype), copy=False)


@op
class Sum(Total):
    """The sum over axes."""

    monoid = SUM

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        (x,) = xs
        if not has_gradient(x.dtype):
            return (None,)
        return (F.broadcast_to(self.spread(F, g, x), x.shape),)

    samples = (
        sample(lambda x: F.sum(x), arg(("B", 3))),
        sample(lambda x: F.sum(x, axis=0), arg((4, 3))),
        sample(lambda x: F.sum(x, axis=1), arg(("B", 3, "C"))),
        sample(lambda x: F.sum(x, axis=(0, -1), keepdims=True), arg(("B", 3, 17))),
        sample(lambda x: F.sum(x, axis=()), arg((2, 3))),
        sample(lambda x: F.sum(x, axis=1, keepdims=True), arg((3, 0))),
        sample(lambda x: F.sum(x, axis=0), arg((1, 1025))),
        sample(lambda x: F.sum(x), arg(())),
        sample(lambda x: F.sum(x, axis=1), arg((3, 33), "float16")),
        sample(lambda x: F.sum(x, axis=1), arg((3, 33), "bfloat16")),
        sample(lambda x: F.sum(x, axis=1), arg((3, 5), "bool")),
        sample(lambda x: F.sum(x), arg((3, 50), "int8", low=-128, high=128)),
        sample(lambda x: F.sum(x), arg((3, 50), "uint8", low=0, high=256)),
        sample(lambda x: F.sum(x, axis=0), arg(("B", 2), "int32", low=-9, high=9)),
        sample(lambda x: F.sum(x, axis=0, dtype="int8"), arg((90, 2), "int32", low=0, high=9)),
        sample(lambda x: F.sum(x, axis=0), arg(("B", 2), "complex64"), label="complex"),
    )
    bad = (
        bad(lambda x: F.sum(x, axis=2), arg((2, 3)), error=ArgumentError, match="axis 2 does not"),
        bad(lambda x: F.sum(x, axis=(0, -2)), arg((2, 3)), error=ArgumentError, match="twice"),
        bad(lambda x: F.sum(x, axis=1.0), arg((2, 3)), error=ArgumentTypeError, match="an int"),
    )


@op
class Prod(Total):
    """The product over axes."""

    monoid = PROD

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        # The derivative by one factor is the product of the others: right where factors are zero.
        (x,) = xs
        if not has_gradient(x.dtype):
            return (None,)
        if not self.axis:
            return (g,)
        front = [d for d in range(x.ndim) if d not in self.axis]
        order = (*front, *self.axis)
        moved = F.permute_dims(x, order)
        rows = F.reshape(moved, (*moved.shape[: len(front)], -1)) if len(self.axis) > 1 else moved
        others = F.reshape(F.prod_others(rows, axis=-1), moved.shape)
        back = tuple(order.index(d) for d in range(x.ndim))
        return (self.spread(F, g, x) * F.conj(F.permute_dims(others, back)),)

    samples = (
        sample(lambda x: F.prod(x), arg((2, 3))),
        sample(lambda x: F.prod(x, axis=1), arg(("B", 3, 2))),
        sample(lambda x: F.prod(x, axis=(0, 2), keepdims=True), arg((2, "B", 3))),
        sample(lambda x: F.prod(x, axis=0), arg((3, 2), values=(0.0, 1.5, 2.0, 0.0, 0.0, -1.0))),
        sample(lambda x: F.prod(x, axis=()), arg((2,))),
        sample(lambda x: F.prod(x, axis=0), arg((1, 3))),
        sample(lambda x: F.prod(x, axis=1), arg((2, 0))),
        sample(lambda x: F.prod(x, axis=1), arg((2, 5), "bfloat16")),
        sample(lambda x: F.prod(x, axis=0), arg((3, 4), "int8", low=-9, high=9)),
        sample(lambda x: F.prod(x, axis=0), arg((3, 4), "bool")),
        sample(lambda x: F.prod(x, axis=0), arg((3, 2), "complex64"), label="complex"),
    )
    bad = (bad(lambda x: F.prod(x, axis=-3), arg((2, 3)), error=ArgumentError, match="axis -3"),)


class Extreme(Reduction):
    """The largest or smallest over axes; a NaN wins. Ties share the gradient equally."""

    def check_size(self, axis: int, size: Any) -> None:
        require_less_equal(1, size, f"axis {axis} of {{x}} must not be empty")

    def infer(self, x: TensorType) -> Type:
        if x.dtype == "bool":
            raise DTypeError("takes numbers, not bool.", fix="use any (max) or all (min)")
        return super().infer(x)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        wide = widen(x)
        found = getattr(xp, self.name)(wide, axis=self.axis, keepdims=self.keepdims)
        return xp.asarray(found).astype(x.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        (x,) = xs
        if not is_float(x.dtype):
            return (None,)
        best = F.cast(F.equal(x, self.spread(F, y, x)), x.dtype)
        ties = F.sum(best, axis=self.axis, keepdims=True)
        return (best * (self.spread(F, g, x) / ties),)


def _extreme_samples(name: str) -> tuple[Any, ...]:
    def call(**options: Any) -> Callable[[Value], Value]:
        return lambda x: getattr(F, name)(x, **options)

    return (
        sample(call(), arg(("B", 3), distinct=True)),
        sample(call(axis=1), arg(("B", 3, "C"), distinct=True)),
        sample(call(axis=(0, 2), keepdims=True), arg((2, "B", 17), distinct=True)),
        sample(call(axis=()), arg((2, 3))),
        sample(call(axis=1), arg((0, 3))),
        sample(call(axis=0), arg((1, 33))),
        sample(call(axis=1), arg((2, 3), values=(1, 1, 0, 2, 2, 2)), gradient=()),
        sample(call(axis=1), arg((2, 3), values=(1, float("nan"), 0, 2, 3, 4)), gradient=()),
        sample(call(axis=0), arg((4, 3), "float16")),
        sample(call(axis=0), arg((4, 3), "bfloat16")),
        sample(call(axis=1), arg((3, 5), "int8", low=-128, high=128)),
        sample(call(), arg((3, 5), "uint64", low=0, high=99)),
    )


def _extreme_bad(name: str) -> tuple[Any, ...]:
    def call(**options: Any) -> Callable[[Value], Value]:
        return lambda x: getattr(F, name)(x, **options)

    return (
        bad(call(axis=1), arg((2, 0)), error=ShapeError, match="axis 1 .* must not be empty"),
        bad(call(axis=2), arg((2, 3)), error=ArgumentError, match="axis 2 does not exist"),
        bad(call(), arg((2, 3), "bool"), error=DTypeError, match="takes numbers, not bool"),
    )


@op
class Max(Extreme):
    """The largest over axes."""

    monoid = MAX
    samples = _extreme_samples("max")
    bad = _extreme_bad("max")


@op
class Min(Extreme):
    """The smallest over axes."""

    monoid = MIN
    samples = _extreme_samples("min")
    bad = _extreme_bad("min")


class Logical(Reduction):
    """Whether some or all elements along axes are not zero."""

    takes_complex = True

    def result_dtype(self, dtype: DType) -> DType:
        return "bool"

    def element(self, x: Scalar, dtype: DType) -> Scalar:
        return x if x.dtype == "bool" else m.ne(x, m.like(0, x))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        true = arrays[0] if arrays[0].dtype == bool else arrays[0] != 0
        return xp.asarray(getattr(xp, self.name)(true, axis=self.axis, keepdims=self.keepdims))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (None,)


def _logical_samples(name: str) -> tuple[Any, ...]:
    def call(**options: Any) -> Callable[[Value], Value]:
        return lambda x: getattr(F, name)(x, **options)

    return (
        sample(call(), arg(("B", 3), "bool")),
        sample(call(axis=1), arg(("B", 2), "bool")),
        sample(call(axis=(0, -1), keepdims=True), arg((2, 3, 2), "int32", low=0, high=2)),
        sample(call(axis=0), arg((3, 2), values=(0.0, float("nan"), 0.0, 0.0, -0.0, 1.0))),
        sample(call(axis=0), arg((2, 3), "bfloat16", values=(0.0, 1.0))),
        sample(call(axis=1), arg((2, 0), "bool")),
        sample(call(axis=()), arg((3,), "int8", low=0, high=2)),
        sample(call(), arg((2,), "complex64"), gradient=()),
    )


@op
class AnyTrue(Logical):
    """Whether any element along axes is not zero."""

    name = "any"
    monoid = ANY
    samples = _logical_samples("any")
    bad = (bad(lambda x: F.any(x, axis=1), arg((2,), "bool"), error=ArgumentError, match="axis 1"),)


@op
class AllTrue(Logical):
    """Whether all elements along axes are not zero."""

    name = "all"
    monoid = ALL
    samples = _logical_samples("all")
    bad = (bad(lambda x: F.all(x, axis=1), arg((2,), "bool"), error=ArgumentError, match="axis 1"),)


@function_of
def sum(x: Any, axis: Axis = None, *, dtype: Any = None, keepdims: bool = False) -> Value:
    """Sum over axes (all of them by default): y = sum over j of x[..., j, ...].

    Integers and bools are summed as int64 or uint64, floats keep their dtype (half precisions
    accumulate in float32); with `dtype` the elements are converted to it first. An empty axis gives
    0. Raises `ArgumentError` for a wrong axis.

    >>> import symgraph as sg
    >>> str(sg.F.sum(sg.tensor("x", (sg.dim("B"), 3)), axis=1).type)
    'float32[B]'
    """
    return _reduce(Sum, "sum", x, axis, keepdims, dtype)


@function_of
def prod(x: Any, axis: Axis = None, *, dtype: Any = None, keepdims: bool = False) -> Value:
    """Multiply over axes (all of them by default); dtypes as for `sum`, an empty axis gives 1.

    The gradient is right where factors are zero. Raises `ArgumentError` for a wrong axis.
    """
    return _reduce(Prod, "prod", x, axis, keepdims, dtype)


@function_of
def max(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Value:
    """Take the largest over axes (all of them by default); a NaN wins.

    Equal largest elements share the gradient equally. Raises `ShapeError` for an empty axis,
    `DTypeError` for bools, `ArgumentError` for a wrong axis.
    """
    return _reduce(Max, "max", x, axis, keepdims)


@function_of
def min(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Value:
    """Take the smallest over axes (all of them by default); a NaN wins.

    Equal smallest elements share the gradient equally. Raises as `max` does.
    """
    return _reduce(Min, "min", x, axis, keepdims)


@function_of
def any(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Value:
    """Tell whether any element along axes is not zero; of an empty axis: False."""
    return _reduce(AnyTrue, "any", x, axis, keepdims)


@function_of
def all(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Value:
    """Tell whether all elements along axes are not zero; of an empty axis: True."""
    return _reduce(AllTrue, "all", x, axis, keepdims)


def _reduce(
    cls: type[Reduction], name: str, x: Any, axis: Axis, keepdims: bool, dtype: Any = None
) -> Value:
    value = as_value(x)
    operation = cls(normal_axes(name, axis, value.ndim), bool(keepdims))
    if dtype is None:
        return make(operation, value)
    # a narrow integer is added in 64 bits; what is kept of that is the same
    return cast_to(make(operation, cast_to(value, dtype_name(dtype))), dtype_name(dtype))
