"""Softmax, its logarithm, the logarithm of a sum of exponentials, and the losses made of them.

All subtract the largest logit first, so that logits of +-1e4 and -inf give the right numbers; half
precisions compute in float32 and are rounded once. A logit of +inf, or a row that is all -inf, has
no softmax: its results are NaN.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import require_equal
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from symgraph.graph.arguments import normal_axes, normal_axis
from symgraph.graph.dtypes import is_float, is_integer, numpy_dtype
from symgraph.graph.elementwise import scalar_op
from symgraph.graph.index import (
    MAX,
    SUM,
    Axis,
    Compute,
    axes,
    axis as loop,
    inside,
    load,
    m,
    reduce,
)
from symgraph.graph.leaves import cast_to, common, needs_integer
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, compute_dtype
from symgraph.graph.types import TensorType

ROWS = ("B", 5)
WILD = arg((3, 4), values=(1e4, -1e4, 0.0, 3.0, -np.inf, 1e4, 1e4, -np.inf, -9.0, 5.0, 6.0, 7.0))


def check_float(x: TensorType, what: str = "{x}") -> None:
    """Raise `DTypeError` unless a type is of floats."""
    if not is_float(x.dtype):
        raise DTypeError(f"{what} must hold floats, not {x.dtype}.", fix='x.cast("float32")')


def wide(value: Value) -> Value:
    """Give half precisions in float32; others as they are."""
    return cast_to(value, compute_dtype(value.dtype))


def widen(array: Array) -> Array:
    """Give an array of a half precision in float32; others as they are."""
    return array.astype(numpy_dtype(compute_dtype(str(array.dtype))), copy=False)


def shifted(xp: ModuleType, x: Array, axes: int | tuple[int, ...]) -> tuple[Array, Array]:
    """Give the largest element over axes (kept as 1) and x minus it."""
    top = xp.max(x, axis=axes, keepdims=True, initial=-xp.inf)
    return top, x - top


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
        check_float(x)
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        with np.errstate(invalid="ignore", over="ignore"):
            _, y = shifted(xp, widen(x), self.axis)
            xp.exp(y, out=y)
            y /= xp.sum(y, axis=self.axis, keepdims=True)
        return y.astype(x.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        weighted = wide(g) * wide(y)
        total = F.sum(weighted, axis=self.axis, keepdims=True)
        return (cast_to(weighted - wide(y) * total, xs[0].dtype),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out = axes(xs[0].shape)
        at = _reader(0, xs[0], out, self.axis)
        top = _top(at, xs[0], self.axis)
        value = m.exp(at(out[self.axis]) - top) / _sum_exp(at, xs[0], self.axis, top)
        return Compute(out, m.cast(value, xs[0].dtype))


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
        check_float(x)
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        with np.errstate(invalid="ignore", over="ignore"):
            _, y = shifted(xp, widen(x), self.axis)
            y -= xp.log(xp.sum(xp.exp(y), axis=self.axis, keepdims=True))
        return y.astype(x.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        total = F.sum(wide(g), axis=self.axis, keepdims=True)
        return (cast_to(wide(g) - F.exp(wide(y)) * total, xs[0].dtype),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out = axes(xs[0].shape)
        at = _reader(0, xs[0], out, self.axis)
        top = _top(at, xs[0], self.axis)
        value = (at(out[self.axis]) - top) - m.log(_sum_exp(at, xs[0], self.axis, top))
        return Compute(out, m.cast(value, xs[0].dtype))


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
        sample(lambda x: F.logsumexp(x, axis=1), arg((3, "C")), sizes={"C": 0}),
        sample(lambda x: F.logsumexp(x, axis=1), WILD, gradient=()),
    )
    bad = (
        bad(lambda x: F.logsumexp(x, axis=(0, 0)), arg((2, 3)), error=ArgumentError, match="twice"),
    )

    def infer(self, x: TensorType) -> TensorType:
        check_float(x)
        sizes = enumerate(x.shape)
        if self.keepdims:
            return x.with_shape(1 if d in self.axes else size for d, size in sizes)
        return x.with_shape(size for d, size in sizes if d not in self.axes)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        if not self.axes:
            return x
        with np.errstate(divide="ignore", over="ignore"):
            values = widen(x)
            top = xp.max(values, axis=self.axes, keepdims=True, initial=-xp.inf)
            top = xp.where(xp.isfinite(top), top, 0).astype(values.dtype)
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
        outer: list[Axis | int] = []
        for d in range(x.ndim):
            if d not in self.axes:
                outer.append(next(rest))
            else:
                outer.append(0)
                if self.keepdims:
                    next(rest)

        def over(value: Any, monoid: Any) -> Scalar:
            inner = {d: loop(x.shape[d], f"r{d}") for d in self.axes}
            index = [inner.get(d, place) for d, place in enumerate(outer)]
            one = m.cast(load(0, x.dtype, *index), compute_dtype(x.dtype))
            return reduce(monoid, list(inner.values()), value(one))

        if not self.axes:
            return Compute(kept, load(0, x.dtype, *outer))
        top = over(lambda one: one, MAX)
        top = m.select(_finite(top), top, 0.0)
        value = m.log(over(lambda one: m.exp(one - top), SUM)) + top
        return Compute(kept, m.cast(value, x.dtype))


@op
class CrossEntropy(Op):
    """y = log(sum(exp(x))) - x[label] along one axis: one loss for each label."""

    axis: int
    samples = (
        sample(lambda x, y: F.cross_entropy(x, y), arg(ROWS), arg(("B",), "int32", low=0, high=5)),
        sample(
            lambda x, y: F.cross_entropy(x, y, axis=1),
            arg((2, 4, "H")),
            arg((2, "H"), "int64", low=0, high=4),
        ),
        sample(
            lambda x, y: F.cross_entropy(x, y, axis=0),
            arg((1, "B")),
            arg(("B",), "uint8", low=0, high=1),
        ),
        sample(
            lambda x, y: F.cross_entropy(x, y),
            arg(ROWS),
            arg(("B",), "int32", low=0, high=5),
            sizes={"B": 0},
        ),
        sample(lambda x, y: F.cross_entropy(x, y), arg((3,)), arg((), "int64", low=0, high=3)),
        sample(
            lambda x, y: F.cross_entropy(x, y), WILD, arg((3,), "int32", values=(1, 1, 0)),
            gradient=(),
        ),
    )  # fmt: skip
    bad = (
        bad(
            lambda x, y: F.cross_entropy(x, y), arg((2, 3)), arg((2, 3), "int32"),
            match="one label for each row",
        ),
        bad(
            lambda x, y: F.cross_entropy(x, y), arg((2, 3)), arg((4,), "int32"),
            match="2 != 4",
        ),
        bad(
            lambda x, y: F.cross_entropy(x, y), arg((2, 3)), arg((2,)),
            error=DTypeError, match="must hold integers",
        ),
    )  # fmt: skip

    def infer(self, logits: TensorType, labels: TensorType) -> TensorType:
        check_float(logits, "{logits}")
        check_labels(logits, labels, self.axis)
        return TensorType(logits.dtype, labels.shape)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        logits, labels = arrays
        check_range(xp, "cross_entropy", labels, logits.shape[self.axis])
        places = xp.expand_dims(labels, self.axis).astype(np.int64)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            _, low = shifted(xp, widen(logits), self.axis)
            chosen = xp.take_along_axis(low, places, axis=self.axis)
            loss = xp.log(xp.sum(xp.exp(low), axis=self.axis, keepdims=True)) - chosen
        loss = xp.squeeze(loss, axis=self.axis)
        return xp.asarray(loss).astype(logits.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        logits, labels = xs
        return make(CrossEntropyGrad(self.axis), g, logits, labels), None

    def expand(self, F: Functions, *xs: Value) -> Compute:
        logits, labels = xs
        kept = axes(labels.shape)
        outer = _with_axis(kept, self.axis, loop(1))
        at = _reader(0, logits, outer, self.axis)
        top = _top(at, logits, self.axis)
        label, known = _label(labels, 1, kept, logits, self.axis)
        place = [*kept[: self.axis], label, *kept[self.axis :]]
        chosen = load(0, logits.dtype, *place, guard=known, fill=np.nan)
        low = m.cast(chosen, compute_dtype(logits.dtype)) - top
        value = m.log(_sum_exp(at, logits, self.axis, top)) - low
        return Compute(kept, m.cast(value, logits.dtype))


@op
class CrossEntropyGrad(Op):
    """The gradient of `cross_entropy`: dx = (softmax(x) - [class is label]) * g."""

    axis: int
    samples = (
        sample(
            lambda g, x, y: make(CrossEntropyGrad(1), g, x, y),
            arg(("B",)), arg(ROWS), arg(("B",), "int32", low=0, high=5),
        ),
        sample(
            lambda g, x, y: make(CrossEntropyGrad(0), g, x, y),
            arg((2, 3)), arg((4, 2, 3)), arg((2, 3), "int64", low=0, high=4),
        ),
    )  # fmt: skip
    bad = (
        bad(
            lambda g, x, y: make(CrossEntropyGrad(1), g, x, y),
            arg((3,)), arg((2, 5)), arg((2,), "int32"),
            match="3 != 2",
        ),
    )  # fmt: skip

    def infer(self, g: TensorType, logits: TensorType, labels: TensorType) -> TensorType:
        check_float(logits, "{logits}")
        check_labels(logits, labels, self.axis)
        if g.dtype != logits.dtype or g.ndim != labels.ndim:
            raise ShapeError("{g} must have one number of the logits' dtype for each label.")
        for d, (a, b) in enumerate(zip(g.shape, labels.shape)):
            require_equal(a, b, f"size {d} of {{g}} must equal size {d} of {{labels}}")
        return logits

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        g, logits, labels = arrays
        check_range(xp, "cross_entropy", labels, logits.shape[self.axis])
        places = xp.expand_dims(labels, self.axis).astype(np.int64)
        with np.errstate(invalid="ignore", over="ignore"):
            _, y = shifted(xp, widen(logits), self.axis)
            xp.exp(y, out=y)
            y /= xp.sum(y, axis=self.axis, keepdims=True)
            chosen = xp.take_along_axis(y, places, axis=self.axis)
            xp.put_along_axis(y, places, chosen - 1, axis=self.axis)
            y *= xp.expand_dims(widen(g), self.axis)
        return y.astype(logits.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        weight, logits, labels = xs
        u, p = wide(g), F.softmax(wide(logits), self.axis)
        places = F.expand_dims(labels, self.axis)
        mean = F.sum(u * p, axis=self.axis, keepdims=True)
        chosen = F.take_along_axis(u, places, self.axis)
        d_weight = F.squeeze(mean - chosen, self.axis)
        d_logits = F.expand_dims(wide(weight), self.axis) * p * (u - mean)
        return cast_to(d_weight, weight.dtype), cast_to(d_logits, logits.dtype), None

    def expand(self, F: Functions, *xs: Value) -> Compute:
        g, logits, labels = xs
        out = axes(logits.shape)
        kept = [*out[: self.axis], *out[self.axis + 1 :]]
        at = _reader(1, logits, out, self.axis)
        top = _top(at, logits, self.axis)
        share = m.exp(at(out[self.axis]) - top) / _sum_exp(at, logits, self.axis, top)
        label, known = _label(labels, 2, kept, logits, self.axis)
        hit = m.select(out[self.axis].equals(label), 1.0, m.like(0.0, share))
        weight = m.cast(load(0, g.dtype, *kept), share.dtype)
        value = m.select(known, (share - hit) * weight, np.nan)
        return Compute(out, m.cast(value, logits.dtype))


def check_labels(logits: TensorType, labels: TensorType, axis: int) -> None:
    """Raise `ShapeError` or `DTypeError` unless there is one integer label for each row."""
    if not is_integer(labels.dtype):
        raise DTypeError(f"{{labels}} must hold integers, not {labels.dtype}.")
    rows = [size for d, size in enumerate(logits.shape) if d != axis]
    if len(rows) != labels.ndim:
        raise ShapeError(
            f"there must be one label for each row: {{logits}} without axis {axis} has "
            f"{len(rows)} axes, {{labels}} has {labels.ndim}.",
            fix="labels are class numbers, not one-hot rows",
        )
    for d, (a, b) in enumerate(zip(rows, labels.shape)):
        where = d + (d >= axis)
        require_equal(a, b, f"size {where} of {{logits}} must equal size {d} of {{labels}}")


def check_range(xp: ModuleType, name: str, labels: Array, classes: int) -> None:
    """Raise `ArgumentError` naming the first label that is no class."""
    wrong = (labels < 0) | (labels >= classes)
    if not bool(xp.any(wrong)):
        return
    first = tuple(int(i) for i in np.unravel_index(int(xp.argmax(wrong)), labels.shape))
    row = f" of row {first[0] if len(first) == 1 else first}" if first else ""
    raise ArgumentError(
        f"{name}: the label {int(labels[first])}{row} is no class: there are {classes} classes"
        + (f", 0 to {classes - 1}." if classes else "."),
        fix="number the classes from 0 and give the logits one column for each",
    )


def _finite(x: Scalar) -> Scalar:
    return ~(m.isnan(x) | m.isinf(x))


def _with_axis(kept: tuple[Axis, ...], axis: int, new: Axis) -> list[Axis]:
    return [*kept[:axis], new, *kept[axis:]]


def _reader(operand: int, x: Value, out: Any, axis: int) -> Any:
    """Give a function that reads the operand at the result's place, but elsewhere on the axis."""

    def at(place: Axis) -> Scalar:
        index = [place if d == axis else a for d, a in enumerate(out)]
        return m.cast(load(operand, x.dtype, *index), compute_dtype(x.dtype))

    return at


def _top(at: Any, x: Value, axis: int) -> Scalar:
    over = loop(x.shape[axis], "c1")
    return reduce(MAX, [over], at(over))


def _sum_exp(at: Any, x: Value, axis: int, top: Scalar) -> Scalar:
    over = loop(x.shape[axis], "c2")
    return reduce(SUM, [over], m.exp(at(over) - top))


def _label(
    labels: Value, operand: int, kept: Any, logits: Value, axis: int
) -> tuple[Scalar, Scalar]:
    """Give the label as a position, and whether it is a class; else results are NaN."""
    label = m.cast(load(operand, labels.dtype, *kept), "int64")
    return label, inside(label, logits.shape[axis])


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


@function_of
def cross_entropy(logits: Any, labels: Any, axis: int = -1) -> Value:
    """Give -log softmax(logits)[label] for each label; the losses are not averaged.

    `labels` holds class numbers and has the shape of `logits` without `axis`. Raises `ShapeError`
    or `DTypeError` when that is not so; a label that is no class raises `ArgumentError` when the
    function runs.

    >>> round(float(cross_entropy([[0.0, 0.0]], [1]).eval()[0]), 4)
    0.6931
    """
    (value,) = common("cross_entropy", logits, floating=True)
    (classes,) = common("cross_entropy", labels)
    number = normal_axis("cross_entropy", axis, value.ndim)
    return make(CrossEntropy(number), value, needs_integer("cross_entropy", classes))


def _bce(m: Any, x: Any, y: Any) -> Any:
    return (m.max(x, 0.0) - x * y) + m.log1p(m.exp(-m.abs(x)))


binary_cross_entropy_with_logits = scalar_op(
    "binary_cross_entropy_with_logits",
    _bce,
    d=(lambda m, x, y, loss: m.sigmoid(x) - y, lambda m, x, y, loss: -x),
    domain=((-4.0, 4.0), (0.0, 1.0)),
    doc="""Give -y log(sigmoid(x)) - (1 - y) log(1 - sigmoid(x)) elementwise, for finite logits x.

    `y` is the probability of the class, usually 0 or 1. Right for logits of +-1e4.
    """,
    samples=(
        sample(
            lambda x, y: F.binary_cross_entropy_with_logits(x, y),
            arg(ROWS),
            arg(ROWS, low=0, high=1),
        ),
        sample(
            lambda x, y: F.binary_cross_entropy_with_logits(x, y),
            arg(("B",), values=(1e4, -1e4)),
            arg((), values=(1.0,)),
            gradient=(),
        ),
    ),
)
