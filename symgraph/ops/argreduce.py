"""Where the largest or smallest element stands along an axis."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

from symgraph.dims import require_less_equal
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.frozen import frozen
from symgraph.graph.arguments import normal_axis
from symgraph.graph.index import (
    ARGMAX,
    ARGMIN,
    Compute,
    Monoid,
    axes,
    load,
    m,
    position,
    reduce,
    take,
)
from symgraph.graph.index import (
    axis as loop,
)
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import compute_dtype, widen
from symgraph.graph.types import TensorType, Type


@frozen(eq=False, repr=False)
class ArgReduction(Op):
    """The position, as int64, of the first best element along an axis; the first NaN wins."""

    axis: int
    keepdims: bool

    monoid: ClassVar[Monoid]

    def infer(self, x: TensorType) -> Type:
        if x.dtype == "bool":
            raise DTypeError("takes numbers, not bool.", fix='cast first: x.cast("int32")')
        size = x.shape[self.axis]
        require_less_equal(1, size, f"axis {self.axis} of {{x}} must not be empty")
        middle = (1,) if self.keepdims else ()
        return TensorType("int64", (*x.shape[: self.axis], *middle, *x.shape[self.axis + 1 :]))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        wide = widen(x)
        found = getattr(xp, self.name)(wide, axis=self.axis, keepdims=self.keepdims)
        return xp.asarray(found).astype(xp.int64, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (None,)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x = xs[0].tensor
        over = loop(x.shape[self.axis], "r")
        rest = axes((*x.shape[: self.axis], *x.shape[self.axis + 1 :]))
        index = (*rest[: self.axis], over, *rest[self.axis :])
        element = m.cast(load(0, x.dtype, *index), compute_dtype(x.dtype))
        found = take(reduce(self.monoid, (over,), element, position(over)), 1, "int64")
        one = (loop(1, "k"),) if self.keepdims else ()
        return Compute((*rest[: self.axis], *one, *rest[self.axis :]), found)


def _samples(name: str) -> tuple[Any, ...]:
    def call(**options: Any) -> Callable[[Value], Value]:
        return lambda x: getattr(F, name)(x, **options)

    nan = float("nan")
    return (
        sample(call(axis=1), arg(("B", 3), distinct=True)),
        sample(call(axis=0, keepdims=True), arg(("B", 3, 2))),
        sample(call(axis=-1), arg((2, 17, 33))),
        sample(call(axis=1), arg((0, 3))),
        sample(call(axis=0), arg((1, 3))),
        sample(call(axis=1), arg((2, 4), values=(1, 3, 3, 1, 0, 0, 0, 0))),
        sample(call(axis=1), arg((2, 4), values=(1, nan, 3, nan, nan, 0, 1, 2))),
        sample(call(axis=0), arg((5, 3), "float16")),
        sample(call(axis=0), arg((5, 3), "bfloat16", values=(1, 2, 3, 2, 1))),
        sample(call(axis=0), arg((5, 3), "uint8", low=0, high=256)),
    )


def _bad(name: str) -> tuple[Any, ...]:
    def call(**options: Any) -> Callable[[Value], Value]:
        return lambda x: getattr(F, name)(x, **options)

    return (
        bad(call(axis=0), arg((0, 2)), error=ShapeError, match="axis 0 .* must not be empty"),
        bad(call(axis=2), arg((3, 2)), error=ArgumentError, match="axis 2 does not exist"),
        bad(call(axis=(0, 1)), arg((3, 2)), error=ArgumentTypeError, match="axis must be an int"),
        bad(call(axis=0), arg((3,), "bool"), error=DTypeError, match="takes numbers, not bool"),
    )


@op
class ArgMax(ArgReduction):
    """The position of the first largest element along an axis."""

    name = "argmax"
    monoid = ARGMAX
    samples = _samples("argmax")
    bad = _bad("argmax")


@op
class ArgMin(ArgReduction):
    """The position of the first smallest element along an axis."""

    name = "argmin"
    monoid = ARGMIN
    samples = _samples("argmin")
    bad = _bad("argmin")


@function_of
def argmax(x: Any, axis: int | None = None, *, keepdims: bool = False) -> Value:
    """Find the position of the first largest element along an axis, as int64; the first NaN wins.

    Without an axis the position is that in the flattened `x`. There is no gradient. Raises
    `ShapeError` for an empty axis, `DTypeError` for bools, `ArgumentError` for a wrong axis.

    >>> import symgraph as sg
    >>> int(sg.F.argmax(sg.constant([1.0, 3.0, 2.0])).eval())
    1
    """
    return _reduce(ArgMax, "argmax", x, axis, keepdims)


@function_of
def argmin(x: Any, axis: int | None = None, *, keepdims: bool = False) -> Value:
    """Find the position of the first smallest element along an axis; otherwise as `argmax`."""
    return _reduce(ArgMin, "argmin", x, axis, keepdims)


def _reduce(cls: type[ArgReduction], name: str, x: Any, axis: int | None, keepdims: bool) -> Value:
    value = as_value(x)
    if axis is not None:
        return make(cls(normal_axis(name, axis, value.ndim), bool(keepdims)), value)
    flat = make(cls(0, False), F.reshape(value, (-1,)))
    return F.reshape(flat, (1,) * value.ndim) if keepdims else flat
