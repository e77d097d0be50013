"""Sorting along an axis, and finding places in sorted vectors.

In an index expression an element's place is the number of elements that come before it, counted,
and where each place's element stands is found by looking for its place: n steps for each of n
elements, all of them independent, which suits short axes. Long ones are sorted by merging: the CPU
engine has a loop for it, CUDA kernels by hand. A search in a sorted vector cuts what is left into
parts, again and again.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from symgraph.dims import Size
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from symgraph.frozen import frozen
from symgraph.graph.arguments import normal_axis
from symgraph.graph.dtypes import is_float
from symgraph.graph.index import SUM, Compute, axes, broadcast_load, load, m, position, reduce
from symgraph.graph.index import axis as loop
from symgraph.graph.leaves import as_value, cast_to, common, needs_integer
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.rawkernel import RawKernel
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, compute_dtype, widen
from symgraph.graph.types import TensorType, Type
from symgraph.ops.sorting_kernels import ordering_kernel

WIDE = 64  # parts into which a search cuts what is left: loops, as fewer would be written out
ROUNDS = 6  # for a vector of unknown size: 2^36 elements


@frozen(eq=False, repr=False)
class Ordering(Op):
    """What the operations that order an axis share. A NaN counts as larger than all numbers.

    Of equal elements the first comes first, also with `descending`.
    """

    axis: int
    descending: bool

    def infer(self, x: TensorType) -> Type:
        if x.dtype == "bool":
            raise DTypeError("takes numbers, not bool.", fix='cast first: x.cast("uint8")')
        return x.with_dtype("int64")

    def order(self, xp: ModuleType, x: Array) -> Array:
        """Give the positions of the elements in order."""
        wide = widen(x)
        if not self.descending:
            return xp.argsort(wide, axis=self.axis, kind="stable").astype(xp.int64)
        # ascending from back to front, and that read backwards
        back = xp.argsort(xp.flip(wide, axis=self.axis), axis=self.axis, kind="stable")
        return x.shape[self.axis] - 1 - xp.flip(back, axis=self.axis).astype(xp.int64)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (None,)


def _samples(name: str) -> tuple[Any, ...]:
    nan = float("nan")

    def build(x: Value, **options: Any) -> Value:
        found: Value = getattr(F, name)(x, **options)
        return found

    return (
        sample(lambda x: build(x), arg(("B",), distinct=True), sizes={"B": 17}),
        sample(lambda x: build(x, axis=1), arg((2, "B", 2), distinct=True)),
        sample(lambda x: build(x, axis=0, descending=True), arg((5, 2), distinct=True)),
        sample(lambda x: build(x), arg((2, 0))),
        sample(
            lambda x: build(x), arg((2, 5), values=(1, 3, nan, 3, -1, 2, nan, nan, 2, 0.0)),
            gradient=(),
        ),
        sample(
            lambda x: build(x, descending=True), arg((7,), values=(1, 3, nan, 3, -1, nan, 2)),
            gradient=(),
        ),
        sample(lambda x: build(x), arg((1, 33), "int8", low=-4, high=4)),
    )  # fmt: skip


def _bad(name: str) -> tuple[Any, ...]:
    return (
        bad(
            lambda x: getattr(F, name)(x, axis=1), arg((3,)),
            error=ArgumentError, match=f"{name}: axis 1",
        ),
        bad(lambda x: getattr(F, name)(x), arg(()), error=ArgumentError, match=f"{name}: axis -1"),
    )  # fmt: skip


@op
class SortPlaces(Ordering):
    """The place of each element when its axis is sorted: the inverse of `argsort`."""

    samples = _samples("sort_places")
    bad = (
        *_bad("sort_places"),
        bad(lambda x: F.sort_places(x), arg((3,), "bool"), error=DTypeError, match="not bool"),
    )

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        order = self.order(xp, arrays[0])
        shape = [-1 if d == self.axis else 1 for d in range(order.ndim)]
        places = xp.broadcast_to(xp.arange(order.shape[self.axis]).reshape(shape), order.shape)
        found = xp.empty_like(order)
        xp.put_along_axis(found, order, places, axis=self.axis)
        return found

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x = xs[0].tensor
        out = axes(x.shape)
        other = loop(x.shape[self.axis], "j")
        index = [other if d == self.axis else a for d, a in enumerate(out)]
        here, there = (
            m.cast(load(0, x.dtype, *place), compute_dtype(x.dtype)) for place in (out, index)
        )
        before = there > here if self.descending else there < here
        same = m.eq(there, here)
        if is_float(x.dtype):
            low, high = (here, there) if self.descending else (there, here)
            before = before | (m.isnan(high) & ~m.isnan(low))
            same = same | (m.isnan(here) & m.isnan(there))
        first = same & (other < out[self.axis])
        return Compute(out, reduce(SUM, (other,), m.cast(before | first, "int64")))

    def raw_kernel(self, language: str, *types: Any) -> RawKernel | None:
        return ordering_kernel(types[0], self.axis, self.descending, True, language)


@op
class ArgSort(Ordering):
    """The positions of the elements along an axis in order."""

    name = "argsort"
    samples = _samples("argsort")
    bad = _bad("argsort")

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return self.order(xp, arrays[0])

    def expand(self, F: Functions, *xs: Value) -> Value:
        (x,) = xs
        size = x.shape[self.axis]
        places = F.sort_places(x, axis=self.axis, descending=self.descending)
        numbers = F.reshape(F.arange(size), (size, *(1,) * (x.ndim - 1 - self.axis)))
        spread = F.broadcast_to(numbers, x.shape)
        return F.scatter_add_along_axis(spread, places, size, axis=self.axis)

    def raw_kernel(self, language: str, *types: Any) -> RawKernel | None:
        return ordering_kernel(types[0], self.axis, self.descending, False, language)


@op
class Sort(Ordering):
    """The elements along an axis in order."""

    samples = (
        *_samples("sort"),
        sample(lambda x: F.sort(x), arg((5,), "bool")),
        sample(lambda x: F.sort(x), arg((2, 5), "bfloat16"), gradient=()),
    )
    bad = _bad("sort")

    def infer(self, x: TensorType) -> Type:
        super().infer(x)
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return xp.take_along_axis(arrays[0], self.order(xp, arrays[0]), axis=self.axis)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        (x,) = xs
        if not is_float(x.dtype):
            return (None,)
        places = F.sort_places(x, axis=self.axis, descending=self.descending)
        return (F.take_along_axis(g, places, axis=self.axis),)

    def expand(self, F: Functions, *xs: Value) -> Value:
        order = F.argsort(xs[0], axis=self.axis, descending=self.descending)
        return F.take_along_axis(xs[0], order, axis=self.axis)


@op
class SearchSorted(Op):
    """How many elements of a sorted vector come before each value: where it could be put in.

    With `side` "right", elements that equal the value come before it too.
    """

    side: str
    name = "searchsorted"

    def infer(self, x: TensorType, values: TensorType) -> Type:
        if x.dtype != values.dtype or x.dtype == "bool":
            raise DTypeError(
                f"needs numbers of one dtype, not {x.dtype} and {values.dtype}.", fix="cast first"
            )
        if x.ndim != 1:
            raise ShapeError(f"{{x}} must have one axis, it has {x.ndim}.", fix="flatten it first")
        return values.with_dtype("int64")

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        x, values = map(widen, arrays)
        return xp.asarray(xp.searchsorted(x, values, side=self.side)).astype(xp.int64)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return None, None

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x, values = xs
        (size,) = x.shape
        out = axes(values.shape)
        value = m.cast(broadcast_load(1, values.type, out), compute_dtype(values.dtype))

        def precedes(place: Any, guard: Scalar | None = None) -> Scalar:
            element = m.cast(load(0, x.dtype, place, guard=guard), compute_dtype(x.dtype))
            if self.side == "left":
                return self.below(element, value)
            return ~self.below(value, element)

        if isinstance(size, int) and size <= WIDE:
            other = loop(size, "j")
            return Compute(out, reduce(SUM, (other,), m.cast(precedes(other), "int64")))
        # Each round looks at every step-th element of those that are still open, and counts. In a
        # round that is not needed any more it looks at elements that are known not to precede.
        low, left = position(0), position(size)
        for _ in range(_rounds(size)):
            step = m.max((left + (WIDE - 1)) // position(WIDE), position(1))
            other = loop(WIDE, "j")
            place = low + (other + 1) * step - 1
            here = place < position(size)
            found = here & precedes(place, here)
            low = low + reduce(SUM, (other,), m.cast(found, "int64")) * step
            left = step - 1
        return Compute(out, low)

    def below(self, first: Scalar, second: Scalar) -> Scalar:
        """Whether a number sorts before another; a NaN is the largest."""
        less = first < second
        return less | (m.isnan(second) & ~m.isnan(first)) if is_float(first.dtype) else less

    samples = (
        sample(
            lambda x, v: F.searchsorted(x, v), arg((5,), values=(-1, 0, 0, 0.5, 2)),
            arg(("B", 2), values=(0, -5, 2.5, 0.5, 0.7, 2)),
        ),
        sample(
            lambda x, v: F.searchsorted(F.sort(x), v, side="right"),
            arg(("N",), "int32", values=(-3, -3, 0, 2, 2, 5, 9)),
            arg((12,), "int32", low=-5, high=12), sizes={"N": 7},
        ),
        sample(
            lambda x, v: F.searchsorted(x, v), arg((70,), "int64", values=tuple(range(0, 140, 2))),
            arg((), "int8", low=0, high=100),
        ),
        sample(
            lambda x, v, s: F.searchsorted(x, v, side="right", sorter=s),
            arg((4,), values=(2, float("nan"), -1, 0)), arg((3,), values=(0, float("nan"), 5)),
            arg((4,), "int32", values=(2, 3, 0, 1)),
        ),
        sample(
            lambda x, v: F.searchsorted(F.sort(x), v), arg(("N",)), arg((3,)), sizes={"N": 0}
        ),
    )  # fmt: skip
    bad = (
        bad(lambda x: F.searchsorted(x, x), arg((2, 3)), match="searchsorted: .* one axis"),
        bad(
            lambda x: F.searchsorted(x, x), arg((3,), "bool"), error=DTypeError,
            match="searchsorted: needs numbers",
        ),
        bad(
            lambda x: F.searchsorted(x, x, side="middle"), arg((3,)), error=ArgumentError,
            match="searchsorted: side must",
        ),
        bad(
            lambda x: F.searchsorted(x, x, sorter=x), arg((3,)), error=DTypeError,
            match="searchsorted: .* must hold integers",
        ),
    )  # fmt: skip


def _rounds(size: Size) -> int:
    """Count how often a search cuts what is left until nothing is."""
    if not isinstance(size, int):
        return ROUNDS
    count, left = 0, size
    while left:
        left = -(-left // WIDE) - 1
        count += 1
    return count


@function_of
def sort_places(x: Any, axis: int = -1, *, descending: bool = False) -> Value:
    """Give the place of each element when its axis is sorted: the inverse of `argsort`."""
    value = as_value(x)
    place = normal_axis("sort_places", axis, value.ndim)
    return make(SortPlaces(place, bool(descending)), value)


@function_of
def argsort(x: Any, axis: int = -1, *, descending: bool = False, stable: bool = True) -> Value:
    """Find the positions, as int64, of the elements along an axis in order.

    A NaN counts as larger than all numbers. Equal elements keep their order, whatever `stable`
    says. There is no gradient. Raises `ArgumentError` for a wrong axis.

    >>> import symgraph as sg
    >>> sg.F.argsort(sg.constant([3, 9, 5]), descending=True).eval().tolist()
    [1, 2, 0]
    """
    value = as_value(x)
    place = normal_axis("argsort", axis, value.ndim)
    return make(ArgSort(place, bool(descending)), _sortable(value))


@function_of
def sort(x: Any, axis: int = -1, *, descending: bool = False, stable: bool = True) -> Value:
    """Sort along an axis; the gradient goes back to where each element came from.

    A NaN counts as larger than all numbers. Raises `ArgumentError` for a wrong axis.

    >>> import symgraph as sg
    >>> sg.F.sort(sg.constant([3, 9, 5])).eval().tolist()
    [3, 5, 9]
    """
    value = as_value(x)
    place = normal_axis("sort", axis, value.ndim)
    return cast_to(make(Sort(place, bool(descending)), _sortable(value)), value.dtype)


def _sortable(value: Value) -> Value:
    return cast_to(value, "uint8") if value.dtype == "bool" else value


@function_of
def searchsorted(x: Any, values: Any, *, side: str = "left", sorter: Any = None) -> Value:
    """Find where values belong in a sorted vector: how many elements are less than each, as int64.

    With `side` "right" it is how many are less or equal. `sorter` has the positions that sort `x`.
    A NaN counts as larger than all numbers. Raises `ShapeError` unless `x` is a vector,
    `ArgumentError` for another side.

    >>> import symgraph as sg
    >>> sg.F.searchsorted(sg.constant([1, 3, 5]), [0, 3, 9]).eval().tolist()
    [0, 1, 3]
    """
    if side not in ("left", "right"):
        raise ArgumentError(
            f'searchsorted: side must be "left" or "right", got {side!r}.', fix='side="left"'
        )
    first, wanted = common("searchsorted", x, values)
    if sorter is not None:
        first = F.take(first, needs_integer("searchsorted", as_value(sorter)))
    return make(SearchSorted(side), first, wanted)
