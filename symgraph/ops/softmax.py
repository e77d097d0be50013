"""Softmax, its logarithm, and the logarithm of a sum of exponentials.

All subtract the largest element first, so that elements of +-1e4 and -inf give the right numbers;
half precisions compute in float32 and are rounded once. A row with +inf, or one that is all -inf,
has no softmax: its results are NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.errors import ArgumentError
from symgraph.graph.arguments import normal_axes, normal_axis
from symgraph.graph.index import MAX, SUM, Axis, Compute, Monoid, axes, axis, load, m, reduce
from symgraph.graph.leaves import cast_to, common
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.precision import check_float, wide, wide_load
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, widen
from symgraph.graph.types import TensorType

ROWS = ("B", 5)
WILD = arg((3, 4), values=(1e4, -1e4, 0.0, 3.0, -np.inf, 1e4, 1e4, -np.inf, -9.0, 5.0, 6.0, 7.0))


def _shifted(xp: ModuleType, x: Array, axis: int) -> Array:
    """Give x minus its largest element along an axis, as a fresh array."""
    return x - xp.max(x, axis=axis, keepdims=True) if x.size else x.copy()


def _rows(x: Value, along: int) -> tuple[tuple[Axis, ...], Scalar, Scalar]:
    """Give the axes of the result, x minus its row's largest, and the sum of exponentials."""
    out = axes(x.shape)

    def at(place: Axis) -> Scalar:
        return wide_load(0, x, *(place if d == along else a for d, a in enumerate(out)))

    first, second = axis(x.shape[along], "c1"), axis(x.shape[along], "c2")
    top = reduce(MAX, [first], at(first))
    return out, at(out[along]) - top, reduce(SUM, [second], m.exp(at(second) - top))


@op
class Softmax(Op):
    """y = exp(x) / sum(exp(x)) along one axis."""

    axis: int
    samples = (
        sample(lambda x: F.softmax(x), arg(ROWS)),
        sample(lambda x: F.softmax(x, axis=0), arg(ROWS)),
        sample(lambda x: F.softmax(x, axis=-2), arg((2, "C", 3)), sizes={"C": 1}),
        sample(lambda x: F.softmax(x), arg((3, "C")), sizes={"C": 0}),
        sample(lambda x: F.softmax(x, axis=1), WILD, gradient=()),
    )
    bad = (
        bad(lambda x: F.softmax(x, axis=2), arg((2, 3)), error=ArgumentError, match="axis 2"),
        bad(lambda x: F.softmax(x, axis=0), arg(()), error=ArgumentError, match="does not exist"),
    )

    def infer(self, x: TensorType) -> TensorType:
        check_float(x, "x")
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        with np.errstate(all="ignore"):
            y = _shifted(xp, widen(x), self.axis)
            xp.exp(y, out=y)
            y /= xp.sum(y, axis=self.axis, keepdims=True)
        return y.astype(x.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        weighted = wide(g) * wide(y)
        total = F.sum(weighted, axis=self.axis, keepdims=True)
        return (cast_to(weighted - wide(y) * total, xs[0].dtype),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out, low, total = _rows(xs[0], self.axis)
        return Compute(out, m.cast(m.exp(low) / total, xs[0].dtype))


@op
class LogSoftmax(Op):
    """y = x - log(sum(exp(x))) along one axis."""

    axis: int
    samples = (
        sample(lambda x: F.log_softmax(x), arg(ROWS)),
        sample(lambda x: F.log_softmax(x, axis=0), arg(ROWS)),
        sample(lambda x: F.log_softmax(x, axis=1), arg((2, "C", 3)), sizes={"C": 1}),
        sample(lambda x: F.log_softmax(x), arg((3, "C")), sizes={"C": 0}),
        sample(lambda x: F.log_softmax(x, axis=1), WILD, gradient=()),
    )
    bad = (
        bad(lambda x: F.log_softmax(x, axis=-3), arg((2, 3)), error=ArgumentError, match="axis -3"),
    )

    def infer(self, x: TensorType) -> TensorType:
        check_float(x, "x")
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        with np.errstate(all="ignore"):
            y = _shifted(xp, widen(x), self.axis)
            y -= xp.log(xp.sum(xp.exp(y), axis=self.axis, keepdims=True))
        return y.astype(x.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        total = F.sum(wide(g), axis=self.axis, keepdims=True)
        return (cast_to(wide(g) - F.exp(wide(y)) * total, xs[0].dtype),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out, low, total = _rows(xs[0], self.axis)
        return Compute(out, m.cast(low - m.log(total), xs[0].dtype))


@op
class Logsumexp(Op):
    """y = log(sum(exp(x))) over axes; -inf where nothing, or only -inf, is summed."""

    axes: tuple[int, ...]
    keepdims: bool
    samples = (
        sample(lambda x: F.logsumexp(x), arg(ROWS)),
        sample(lambda x: F.logsumexp(x, axis=0), arg(ROWS)),
        sample(lambda x: F.logsumexp(x, axis=(0, -1), keepdims=True), arg((2, "C", 3))),
        sample(lambda x: F.logsumexp(x, axis=()), arg((2, 3))),
        sample(lambda x: F.logsumexp(x, axis=1), arg((3, "C")), sizes={"C": 0}, gradient=()),
        sample(lambda x: F.logsumexp(x, axis=1), WILD, gradient=()),
    )
    bad = (
        bad(lambda x: F.logsumexp(x, axis=(0, 0)), arg((2, 3)), error=ArgumentError, match="twice"),
    )

    def infer(self, x: TensorType) -> TensorType:
        check_float(x, "x")
        sizes = enumerate(x.shape)
        if self.keepdims:
            return x.with_shape(1 if d in self.axes else size for d, size in sizes)
        return x.with_shape(size for d, size in sizes if d not in self.axes)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        if not self.axes:
            return x.copy()
        with np.errstate(all="ignore"):
            values = widen(x)
            top = 0
            if x.size:  # nothing has no largest element, its sum is 0
                largest = xp.max(values, axis=self.axes, keepdims=True)
                top = xp.where(xp.isfinite(largest), largest, 0).astype(values.dtype)
            total = xp.sum(xp.exp(values - top), axis=self.axes, keepdims=True)
            y = xp.log(total) + top
        y = y if self.keepdims else xp.squeeze(y, axis=self.axes)
        return xp.asarray(y).astype(x.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        (x,) = xs
        kept = tuple(1 if d in self.axes else size for d, size in enumerate(x.shape))
        result, cotangent = F.reshape(wide(y), kept), F.reshape(wide(g), kept)
        # Where all is -inf, exp(-inf - 0) = 0 and not exp(-inf + inf) = NaN.
        base = F.where(F.equal(result, -np.inf), F.zeros_like(result), result)
        return (cast_to(cotangent * F.exp(wide(x) - base), x.dtype),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        (x,) = xs
        kept = axes(self.infer(x.tensor).shape)
        rest = iter(kept)
        outer = [next(rest) if d not in self.axes or self.keepdims else 0 for d in range(x.ndim)]

        def over(monoid: Monoid, body: Callable[[Scalar], Scalar]) -> Scalar:
            inner = {d: axis(x.shape[d], f"r{d}") for d in self.axes}
            element = wide_load(0, x, *(inner.get(d, place) for d, place in enumerate(outer)))
            return reduce(monoid, list(inner.values()), body(element))

        if not self.axes:
            return Compute(kept, load(0, x.dtype, *outer))
        top = over(MAX, lambda element: element)
        top = m.select(m.isnan(top) | m.isinf(top), 0.0, top)
        total = over(SUM, lambda element: m.exp(element - top))
        return Compute(kept, m.cast(m.log(total) + top, x.dtype))


@function_of
def softmax(x: Any, axis: int = -1) -> Value:
    """Give exp(x) / sum(exp(x)) along an axis: shares that add up to 1.

    Raises `ArgumentError` when the axis does not exist.

    >>> softmax([0.0, 0.0]).eval().tolist()
    [0.5, 0.5]
    """
    (value,) = common("softmax", x, floating=True)
    return make(Softmax(normal_axis("softmax", axis, value.ndim)), value)


@function_of
def log_softmax(x: Any, axis: int = -1) -> Value:
    """Give x - log(sum(exp(x))) along an axis, without ever forming the exponentials' ratio.

    Raises `ArgumentError` when the axis does not exist.
    """
    (value,) = common("log_softmax", x, floating=True)
    return make(LogSoftmax(normal_axis("log_softmax", axis, value.ndim)), value)


@function_of
def logsumexp(x: Any, axis: Any = None, *, keepdims: bool = False) -> Value:
    """Give log(sum(exp(x))) over axes (all of them by default), without overflow.

    Its gradient is the softmax, and 0 where all summands are -inf. Raises `ArgumentError` when an
    axis does not exist or is named twice.
    """
    (value,) = common("logsumexp", x, floating=True)
    return make(Logsumexp(normal_axes("logsumexp", axis, value.ndim), bool(keepdims)), value)
