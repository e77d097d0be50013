"""Losses on logits: cross-entropy with class numbers, and the binary one with probabilities.

Right for logits of +-1e4 and -inf; half precisions compute in float32 and are rounded once.
The reference refuses a label that is no class. A generated kernel cannot raise: the index
expressions give NaN there, and whoever runs one checks the labels first or the loss after.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size, require_equal
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from symgraph.graph.arguments import normal_axis
from symgraph.graph.dtypes import is_integer
from symgraph.graph.elementwise import scalar_op
from symgraph.graph.index import MAX, SUM, Axis, Compute, axes, axis, inside, load, m, reduce
from symgraph.graph.leaves import cast_to, common, needs_integer
from symgraph.graph.legal import labels_exist
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.precision import check_float, wide, wide_load
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, widen
from symgraph.graph.types import TensorType

ROWS = ("B", 5)
WILD = arg((3, 4), values=(1e4, -1e4, 0.0, 3.0, -np.inf, 1e4, 1e4, -np.inf, -9.0, 5.0, 6.0, 7.0))


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
        check_float(logits, "logits")
        _check_labels(logits, labels, self.axis)
        return TensorType(logits.dtype, labels.shape)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        logits, labels = arrays
        _check_range(xp, "cross_entropy", labels, logits.shape[self.axis])
        places = xp.expand_dims(labels, self.axis).astype(np.int64)
        with np.errstate(all="ignore"):
            low = _shifted(xp, widen(logits), self.axis)
            chosen = xp.take_along_axis(low, places, axis=self.axis)
            loss = xp.log(xp.sum(xp.exp(low), axis=self.axis, keepdims=True)) - chosen
        loss = xp.squeeze(loss, axis=self.axis)
        return xp.asarray(loss).astype(logits.dtype, copy=False)

    def legal(self, F: Functions, *xs: Value) -> Value | None:
        return labels_exist(F, xs[1], xs[0].shape[self.axis])

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        logits, labels = xs
        return make(CrossEntropyGrad(self.axis), g, logits, labels), None

    def expand(self, F: Functions, *xs: Value) -> Compute:
        logits, labels = xs
        kept = axes(labels.shape)
        row = _Row(0, logits, [*kept[: self.axis], 0, *kept[self.axis :]], self.axis)
        label, known = _label(1, labels, kept, logits.shape[self.axis])
        low = m.select(known, row.low(label, guard=known), np.nan)
        return Compute(kept, m.cast(m.log(row.total) - low, logits.dtype))


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
        check_float(logits, "logits")
        _check_labels(logits, labels, self.axis)
        if g.dtype != logits.dtype or g.ndim != labels.ndim:
            raise ShapeError("{g} must have one number of the logits' dtype for each label.")
        for d, (a, b) in enumerate(zip(g.shape, labels.shape)):
            require_equal(a, b, f"size {d} of {{g}} must equal size {d} of {{labels}}")
        return logits

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        g, logits, labels = arrays
        _check_range(xp, "cross_entropy", labels, logits.shape[self.axis])
        places = xp.expand_dims(labels, self.axis).astype(np.int64)
        with np.errstate(all="ignore"):
            y = _shifted(xp, widen(logits), self.axis)
            xp.exp(y, out=y)
            y /= xp.sum(y, axis=self.axis, keepdims=True)
            chosen = xp.take_along_axis(y, places, axis=self.axis)
            xp.put_along_axis(y, places, chosen - 1, axis=self.axis)
            y *= xp.expand_dims(widen(g), self.axis)
        return y.astype(logits.dtype, copy=False)

    def legal(self, F: Functions, *xs: Value) -> Value | None:
        return labels_exist(F, xs[2], xs[1].shape[self.axis])

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
        row = _Row(1, logits, out, self.axis)
        share = m.exp(row.low(out[self.axis])) / row.total
        label, known = _label(2, labels, kept, logits.shape[self.axis])
        hit = m.cast(out[self.axis].equals(label), share.dtype)
        value = m.select(known, (share - hit) * wide_load(0, g, *kept), np.nan)
        return Compute(out, m.cast(value, logits.dtype))


def _check_labels(logits: TensorType, labels: TensorType, axis: int) -> None:
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


def _check_range(xp: ModuleType, name: str, labels: Array, classes: int) -> None:
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


def _shifted(xp: ModuleType, x: Array, axis: int) -> Array:
    """Give x minus its largest element along an axis, as a fresh array."""
    return x - xp.max(x, axis=axis, keepdims=True) if x.size else x.copy()


class _Row:
    """The logits of one row in an index expression: shifted, and their sum of exponentials."""

    def __init__(self, operand: int, x: Value, place: Sequence[Any], along: int) -> None:
        self._read = operand, x, list(place), along
        first, second = axis(x.shape[along], "c1"), axis(x.shape[along], "c2")
        self._top = reduce(MAX, [first], self._at(first))
        self.total = reduce(SUM, [second], m.exp(self.low(second)))

    def _at(self, column: Any, guard: Scalar | None = None) -> Scalar:
        operand, x, place, along = self._read
        index = [*place[:along], column, *place[along + 1 :]]
        return wide_load(operand, x, *index, guard=guard)

    def low(self, column: Any, guard: Scalar | None = None) -> Scalar:
        """Read the logit of a column minus the largest one of the row."""
        return self._at(column, guard) - self._top


def _label(
    operand: int, labels: Value, place: Sequence[Axis], classes: Size
) -> tuple[Scalar, Scalar]:
    """Give the label as a position, and whether it is a class."""
    label = m.cast(load(operand, labels.dtype, *place), "int64")
    return label, inside(label, classes)


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
    # not max(x, 0) - x * y, which cancels where the class is almost certain, and right
    return m.select(m.gt(x, 0), x * (1 - y), -(x * y)) + m.log1p(m.exp(-m.abs(x)))


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
