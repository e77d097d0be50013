"""Running sums, products, largest and smallest along an axis.

A loop nest has no value that it hands from one position to the next, so that what came before is
reduced anew at each position. Long axes are therefore cut into blocks: what comes before a position
is its own block's beginning and all earlier blocks, whose totals are again accumulated. That reads
about `BLOCK` elements for each position, and adds up fewer roundings than one long chain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from symgraph.dims import Size, ceil_div
from symgraph.errors import ArgumentError, DTypeError
from symgraph.frozen import frozen
from symgraph.graph.arguments import normal_axis
from symgraph.graph.dtypes import DType, dtype_name, has_gradient, is_float, numpy_dtype
from symgraph.graph.index import MAX, MIN, PROD, SUM, Compute, Monoid, axes, load, m, reduce
from symgraph.graph.index import axis as loop
from symgraph.graph.leaves import as_value, cast_to
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import compute_dtype, const, widen
from symgraph.graph.types import TensorType, Type

BLOCK = 32


@frozen(eq=False, repr=False)
class Cumulative(Op):
    """At each position along `axis` what all elements up to it, itself included, combine to.

    With `reverse` it is all from it on. `levels` tells how often a long axis may be cut.
    """

    axis: int
    reverse: bool = False
    levels: int = 2

    monoid: ClassVar[Monoid]
    joins: ClassVar[str]  # the operation that combines two

    def infer(self, x: TensorType) -> Type:
        if x.dtype == "bool":
            raise DTypeError("takes numbers, not bool.", fix='cast first: x.cast("int64")')
        return x

    def neutral(self, dtype: DType) -> float:
        """Give the number that changes nothing."""
        if self.monoid in (SUM, PROD):
            return 0 if self.monoid is SUM else 1
        low = self.monoid is MAX
        if is_float(dtype):
            return -math.inf if low else math.inf
        limits = np.iinfo(numpy_dtype(dtype))
        return int(limits.min if low else limits.max)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        wide = xp.flip(widen(x), axis=self.axis) if self.reverse else widen(x)
        with np.errstate(all="ignore"):
            found = self.accumulated(xp, wide)
        turned = xp.flip(found, axis=self.axis) if self.reverse else found
        return xp.ascontiguousarray(turned.reshape(x.shape)).astype(x.dtype, copy=False)

    def accumulated(self, xp: ModuleType, x: Array) -> Array:
        """Accumulate from the front."""
        if self.monoid in (SUM, PROD):
            fold = xp.cumsum if self.monoid is SUM else xp.cumprod
            return fold(x, axis=self.axis, dtype=x.dtype)
        # each round doubles how far back a position has looked
        found, step = x.copy(), 1
        while step < x.shape[self.axis]:
            before, here = _ends(self.axis, step)
            both = getattr(xp, self.joins)(found[here], found[before])
            found[here] = both
            step *= 2
        return found

    def expand(self, F: Functions, *xs: Value) -> Value | Compute:
        size = xs[0].shape[self.axis]
        if self.levels == 0 or (isinstance(size, int) and size <= 2 * BLOCK):
            return self.direct(xs[0].tensor)
        return self.blocked(F, xs[0])

    def direct(self, x: TensorType) -> Compute:
        """Reduce what is before each position."""
        out = axes(x.shape)
        other = loop(x.shape[self.axis], "j")
        index = [other if d == self.axis else a for d, a in enumerate(out)]
        element = m.cast(load(0, x.dtype, *index), compute_dtype(x.dtype))
        here = out[self.axis].scalar()
        counts = other >= here if self.reverse else other <= here
        neutral = const(self.neutral(x.dtype), element.dtype)
        found = reduce(self.monoid, (other,), m.select(counts, element, neutral))
        return Compute(out, m.cast(found, x.dtype))

    def blocked(self, F: Functions, x: Value) -> Value:
        """Cut the axis into blocks: accumulate inside each, and their totals."""
        size, axis = x.shape[self.axis], self.axis
        wide = cast_to(x, compute_dtype(x.dtype))
        count = ceil_div(size, BLOCK)
        filled = self.padded(F, wide, 0, count * BLOCK - size)
        blocks = F.reshape(filled, (*x.shape[:axis], count, BLOCK, *x.shape[axis + 1 :]))
        inside = make(type(self)(axis + 1, self.reverse, 0), blocks)
        last = 0 if self.reverse else BLOCK - 1
        totals = F.index(inside, (*(slice(None),) * (axis + 1), last))
        upto = make(type(self)(axis, self.reverse, self.levels - 1), totals)
        if self.reverse:
            before = _cut(F, self.padded(F, upto, 0, 1), axis, 1, count)
        else:
            before = _cut(F, self.padded(F, upto, 1, 0), axis, 0, count)
        joined = getattr(F, self.joins)(F.expand_dims(before, axis + 1), inside)
        flat = F.reshape(joined, (*x.shape[:axis], count * BLOCK, *x.shape[axis + 1 :]))
        return cast_to(_cut(F, flat, axis, 0, size), x.dtype)

    def padded(self, F: Functions, x: Value, before: Size, after: Size) -> Value:
        """Put elements that change nothing before and after along the axis."""
        widths = [(before, after) if d == self.axis else (0, 0) for d in range(x.ndim)]
        return F.pad(x, widths, value=self.neutral(x.dtype))


def _ends(axis: int, step: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Give the keys of all positions but the last `step`, and of all but the first."""
    lead = (slice(None),) * axis
    return (*lead, slice(None, -step)), (*lead, slice(step, None))


def _cut(F: Functions, x: Value, axis: int, start: Size, length: Size) -> Value:
    starts = [start if d == axis else 0 for d in range(x.ndim)]
    lengths = [length if d == axis else size for d, size in enumerate(x.shape)]
    return F.slice_at(x, starts, lengths)


def _samples(name: str) -> tuple[Any, ...]:
    def call(**options: Any) -> Callable[[Value], Value]:
        return lambda x: getattr(F, name)(x, **options)

    near: dict[str, Any] = {"low": 0.8, "high": 1.2, "distinct": True}
    return (
        sample(call(), arg(("B",), **near)),
        sample(call(axis=1), arg((2, "B", 2), **near), sizes={"B": 17}),
        sample(call(axis=0, reverse=True), arg((5, 2), **near)),
        sample(call(axis=-1), arg((2, 0))),
        sample(call(axis=0), arg((1, 3), "bfloat16")),
        sample(call(axis=0), arg((75, 2), **near), gradient=()),
        sample(call(axis=1, reverse=True), arg((2, "B"), **near), sizes={"B": 40}, gradient=()),
        sample(call(axis=0), arg((4, 3), "int8", low=-9, high=9)),
        sample(call(axis=0), arg((4, 2), "uint32", low=0, high=9)),
        sample(
            call(), arg((6,), values=(1, math.inf, 2, math.nan, -math.inf, 3)), gradient=()
        ),
    )  # fmt: skip


def _bad(name: str) -> tuple[Any, ...]:
    def call(**options: Any) -> Callable[[Value], Value]:
        return lambda x: getattr(F, name)(x, **options)

    return (
        bad(call(axis=2), arg((2, 3)), error=ArgumentError, match=f"{name}: axis 2"),
        bad(call(), arg((2, 3)), error=ArgumentError, match=f"{name}: needs an axis"),
        bad(call(), arg(()), error=ArgumentError, match=f"{name}: needs an axis"),
    )


@op
class CumulativeSum(Cumulative):
    """The sum of all elements up to each position."""

    monoid = SUM
    joins = "add"
    takes_complex = True
    samples = (
        *_samples("cumulative_sum"),
        sample(
            lambda x: F.cumulative_sum(x, axis=0, include_initial=True, dtype="float64"),
            arg(("B", 2), "float16"), gradient=(),
        ),
        sample(lambda x: F.cumulative_sum(x, axis=0), arg(("B", 2), "complex64"), label="complex"),
    )  # fmt: skip
    bad = _bad("cumulative_sum")

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        if not has_gradient(xs[0].dtype):
            return (None,)
        return (make(CumulativeSum(self.axis, not self.reverse), g),)


@op
class CumulativeProd(Cumulative):
    """The product of all elements up to each position."""

    monoid = PROD
    joins = "multiply"
    takes_complex = True
    samples = (
        *_samples("cumulative_prod"),
        sample(
            lambda x: F.cumulative_prod(x, axis=1, include_initial=True),
            arg((2, 4), values=(0, 2, 3, 0, 0.5, 0, 2, 1.5)),
        ),
        sample(lambda x: F.cumulative_prod(x, axis=0), arg((3, 2), "complex64"), label="complex"),
    )
    bad = _bad("cumulative_prod")

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        # d y[i] / d x[j] is what comes before j times what comes between j and i: no division, so
        # that zeros among the factors do no harm. Row j of the square has ones up to j.
        if not has_gradient(xs[0].dtype):
            return (None,)
        turned = [F.flip(one, self.axis) if self.reverse else one for one in (F.conj(xs[0]), g)]
        x, weight = (F.moveaxis(one, self.axis, -1) for one in turned)
        size = x.shape[-1]
        row, column = F.expand_dims(F.arange(size), 1), F.arange(size)
        square = (*x.shape, size)
        spread = F.broadcast_to(F.expand_dims(x, -2), square)
        between = F.cumulative_prod(F.where(F.greater(column, row), spread, 1.0), axis=-1)
        both = F.where(F.greater_equal(column, row), F.expand_dims(weight, -2) * between, 0.0)
        upto = F.cumulative_prod(x, axis=-1, include_initial=True)
        before = _cut(F, upto, x.ndim - 1, 0, size)
        found = F.moveaxis(before * F.sum(both, axis=-1), -1, self.axis)
        return (F.flip(found, self.axis) if self.reverse else found,)


class Running(Cumulative):
    """The best element up to each position; a NaN wins. The gradient goes to the first best one."""

    better: ClassVar[str]

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        if not is_float(xs[0].dtype):
            return (None,)
        x, best, weight = (F.flip(v, self.axis) if self.reverse else v for v in (xs[0], y, g))
        size = x.shape[self.axis]
        earlier = _cut(F, self.padded(F, best, 1, 0), self.axis, 0, size)
        new = getattr(F, self.better)(x, earlier) | (F.isnan(x) & ~F.isnan(earlier))
        place = F.reshape(F.arange(size), (size, *(1,) * (x.ndim - 1 - self.axis)))
        first = F.cummax(F.where(new, place, F.zeros_like(place)), axis=self.axis)
        found = F.scatter_add_along_axis(weight, first, size, axis=self.axis)
        return (F.flip(found, self.axis) if self.reverse else found,)


@op
class CumMax(Running):
    """The largest element up to each position."""

    name = "cummax"
    monoid = MAX
    joins = "maximum"
    better = "greater"
    samples = _samples("cummax")
    bad = _bad("cummax")


@op
class CumMin(Running):
    """The smallest element up to each position."""

    name = "cummin"
    monoid = MIN
    joins = "minimum"
    better = "less"
    samples = _samples("cummin")
    bad = _bad("cummin")


@function_of
def cumulative_sum(
    x: Any, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False,
    reverse: bool = False,
) -> Value:  # fmt: skip
    """Add up along an axis: y[i] = sum over j <= i of x[j]; with `reverse` over j >= i.

    Integers and bools are added as int64 or uint64 unless `dtype` says otherwise, half precisions
    in float32. `include_initial` puts the empty sum, 0, where nothing has been added. The axis may
    be left out for vectors. Raises `ArgumentError` for a wrong axis.

    >>> import symgraph as sg
    >>> sg.F.cumulative_sum(sg.constant([1, 2, 3])).eval().tolist()
    [1, 3, 6]
    """
    return _wide(CumulativeSum, "cumulative_sum", x, axis, dtype, include_initial, reverse)


@function_of
def cumulative_prod(
    x: Any, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False,
    reverse: bool = False,
) -> Value:  # fmt: skip
    """Multiply along an axis: y[i] = product over j <= i of x[j]; otherwise as `cumulative_sum`.

    The gradient is right where factors are zero; it makes a square of the axis.

    >>> import symgraph as sg
    >>> sg.F.cumulative_prod(sg.constant([1, 2, 3]), include_initial=True).eval().tolist()
    [1, 1, 2, 6]
    """
    return _wide(CumulativeProd, "cumulative_prod", x, axis, dtype, include_initial, reverse)


@function_of
def cummax(x: Any, axis: int | None = None, *, reverse: bool = False) -> Value:
    """Give the largest so far along an axis: y[i] = max over j <= i of x[j]; a NaN wins.

    The gradient goes to the first of equal ones. The axis may be left out for vectors. Raises
    `DTypeError` for bools, `ArgumentError` for a wrong axis.
    """
    value = as_value(x)
    return make(CumMax(_axis("cummax", axis, value), bool(reverse)), value)


@function_of
def cummin(x: Any, axis: int | None = None, *, reverse: bool = False) -> Value:
    """Give the smallest so far along an axis; otherwise as `cummax`."""
    value = as_value(x)
    return make(CumMin(_axis("cummin", axis, value), bool(reverse)), value)


def _axis(name: str, axis: Any, x: Value) -> int:
    if axis is not None:
        return normal_axis(name, axis, x.ndim)
    if x.ndim != 1:
        raise ArgumentError(
            f"{name}: needs an axis: `{x.label}` has {x.ndim} axes.",
            details=operand_lines([x]),
            fix="axis=-1, or flatten first" if x.ndim else "a scalar has no axes",
        )
    return 0


def _wide(
    cls: type[Cumulative], name: str, x: Any, axis: Any, dtype: Any, initial: bool, reverse: bool
) -> Value:
    value = as_value(x)
    place = _axis(name, axis, value)
    if dtype is not None:
        kind = dtype_name(dtype)
    elif has_gradient(value.dtype):
        kind = value.dtype
    else:
        kind = "uint64" if value.dtype.startswith("uint") else "int64"
    operation = cls(place, bool(reverse))
    found = make(operation, cast_to(value, kind))
    if not initial:
        return found
    return operation.padded(F, found, *((0, 1) if reverse else (1, 0)))
