"""Products of vectors, matrices and stacks of matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from symgraph.dims import Size, broadcast_shapes, collect_guards, equal, product, require_equal
from symgraph.errors import ArgumentError, DimError, DTypeError, ShapeError
from symgraph.graph.arguments import distinct_axes, normal_axis, plain_int
from symgraph.graph.dtypes import has_gradient, is_float
from symgraph.graph.elementwise import fit
from symgraph.graph.index import SUM, Axis, Compute, axes, axis, m, reduce
from symgraph.graph.leaves import cast_to, common
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.precision import check_bias, wide_load
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import Bad, Sample, arg, bad, sample
from symgraph.graph.scalar import Scalar, widen
from symgraph.graph.types import TensorType, same_size


@op
class Matmul(Op):
    """y[..., i, j] = sum over k of x[..., i, k] y[..., k, j], with NumPy's rules for vectors."""

    takes_complex = True

    samples: ClassVar[tuple[Sample, ...]] = (
        sample(lambda x, y: F.matmul(x, y), arg(("B", 4)), arg((4, 3))),
        sample(lambda x, y: F.matmul(x, y), arg((17, 33)), arg((33, "N")), sizes={"N": 1}),
        sample(lambda x, y: F.matmul(x, y), arg(("K",)), arg(("K",)), sizes={"K": 1025}),
        sample(lambda x, y: F.matmul(x, y), arg((3,)), arg((3, "N"))),
        sample(lambda x, y: F.matmul(x, y), arg((3,)), arg(("B", 3, 2))),
        sample(lambda x, y: F.matmul(x, y), arg(("B", 3)), arg((3,))),
        sample(lambda x, y: F.matmul(x, y), arg((2, "B", 3)), arg((3,))),
        sample(lambda x, y: F.matmul(x, y), arg((2, "B", 3)), arg((3, 2))),
        sample(lambda x, y: F.matmul(x, y), arg(("B", 2, 3)), arg(("B", 3, 4))),
        sample(lambda x, y: F.matmul(x, y), arg(("B", 1, 2, 3)), arg((4, 3, 2))),
        sample(lambda x, y: F.matmul(x, y), arg((2, 3)), arg((1, "B", 3, 2))),
        sample(lambda x: F.matmul(F.permute_dims(x, (1, 0)), x), arg(("B", 3))),
        sample(lambda x, y: F.matmul(x, y), arg(("B", 3)), arg((3, 2)), sizes={"B": 0}),
        sample(lambda x, y: F.matmul(x, y), arg((2, "K")), arg(("K", 3)), sizes={"K": 0}),
        sample(lambda x, y: F.matmul(x, y), arg((2, "B", 0)), arg((0, 2))),
        sample(lambda x, y: F.matmul(x, y), arg((2, 3), "int32"), arg((3, 2), "int8")),
        sample(lambda x, y: F.matmul(x, y), arg(("B", 3), "complex64"), arg((3, 2), "complex64")),
        sample(lambda x, y: F.matmul(x, y), arg((2, 2, 3), "complex64"), arg((3,))),
    )
    bad: ClassVar[tuple[Bad, ...]] = (
        bad(lambda x, y: F.matmul(x, y), arg((2, 4)), arg((3, 2)),
            match=r"last dim of `x0` must equal first dim of `x1`: 4 != 3"),
        bad(lambda x, y: F.matmul(x, y), arg((2, 3)), arg((5, 4, 3)), match="second to last dim"),
        bad(lambda x, y: F.matmul(x, y), arg((3,)), arg((4,)), match="fix: `x1` needs shape .3,."),
        bad(lambda x, y: F.matmul(x, y), arg((2, 3, 4)), arg((5, 4, 3)), match="broadcast"),
        bad(lambda x, y: F.matmul(x, y), arg(()), arg((3,)), match=r"`x0` must have an axis"),
        bad(lambda x, y: F.matmul(x, y), arg((3,)), arg(()), match=r"`x1` must have an axis"),
        bad(lambda x, y: F.matmul(x, y), arg((3,), "bool"), arg((3,), "bool"),
            error=DTypeError, match="takes numbers, not bool"),
    )  # fmt: skip

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        if x.dtype != y.dtype or x.dtype == "bool":
            raise DTypeError(
                f"takes numbers, not {x.dtype}." if x.dtype == "bool" else
                f"{{x}} and {{y}} must have one dtype, not {x.dtype} and {y.dtype}.",
                fix='cast first, e.g. x.cast("float32")',
            )  # fmt: skip
        for name, type in (("x", x), ("y", y)):
            if not type.ndim:
                raise ShapeError(f"{{{name}}} must have an axis.", fix="scale with x * y")
        self._check_inner(x, y)
        batch = broadcast_shapes(x.shape[:-2], y.shape[:-2])
        columns = y.shape[-1:] if y.ndim > 1 else ()
        return x.with_shape((*batch, *x.shape[-2:-1], *columns))

    def _check_inner(self, x: TensorType, y: TensorType) -> None:
        which = "first" if y.ndim <= 2 else "second to last"
        try:
            require_equal(
                x.shape[-1], y.shape[-min(y.ndim, 2)],
                f"last dim of {{x}} must equal {which} dim of {{y}}",
            )  # fmt: skip
        except DimError as problem:
            needed = (*y.shape[:-2], x.shape[-1], *(y.shape[-1:] if y.ndim > 1 else ()))
            inside = ", ".join(map(str, needed)) + ("," if len(needed) == 1 else "")
            fix = f"{{y}} needs shape ({inside})"
            raise ShapeError(problem.message, fix=fix) from None

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return self.sums(xp, *arrays).astype(arrays[0].dtype, copy=False)

    def sums(self, xp: ModuleType, *arrays: Array) -> Array:
        """Give the result in the dtype in which it is added up."""
        x, y = map(widen, arrays)
        with np.errstate(all="ignore"):
            if x.ndim > 2 and y.ndim == 2:  # one large product instead of many small ones
                rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
                return xp.matmul(rows, y).reshape(*x.shape[:-1], y.shape[1])
            return xp.asarray(xp.matmul(x, y))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        first, second = xs
        if not has_gradient(first.dtype):
            return (None, None)
        first, second = F.conj(first), F.conj(second)
        if first.ndim == 1:
            g = F.expand_dims(g, g.ndim if second.ndim == 1 else g.ndim - 1)
        if second.ndim == 1:
            g = F.expand_dims(g, g.ndim)
        rows = F.expand_dims(first, 0) if first.ndim == 1 else first
        columns = F.expand_dims(second, 1) if second.ndim == 1 else second
        d_first = fit(F, F.matmul(g, F.matrix_transpose(columns)), rows)
        if columns.ndim == 2 and rows.ndim > 2:  # the sum over the stack is part of the product
            left = F.reshape(rows, (product(rows.shape[:-1]), rows.shape[-1]))
            right = F.reshape(g, (product(rows.shape[:-1]), columns.shape[-1]))
            d_second = F.matmul(F.matrix_transpose(left), right)
        else:
            d_second = fit(F, F.matmul(F.matrix_transpose(rows), g), columns)
        return (
            F.squeeze(d_first, 0) if first.ndim == 1 else d_first,
            F.squeeze(d_second, 1) if second.ndim == 1 else d_second,
        )

    def expand(self, F: Functions, *xs: Value) -> Compute:
        with collect_guards():  # they belong to the node, not to its expansion
            out = axes(self.infer(*(x.tensor for x in xs)).shape)
        return Compute(out, m.cast(self.sum_at(out, *xs), xs[0].dtype))

    def sum_at(self, out: Sequence[Axis], x: Value, y: Value) -> Scalar:
        """Give the sum of one place of the result, in the dtype in which it is added up."""
        inner = axis(x.shape[-1], "k")
        kept = len(out) - (x.ndim > 1) - (y.ndim > 1)
        row, column = out[kept : kept + (x.ndim > 1)], out[len(out) - (y.ndim > 1) :]
        left = wide_load(0, x, *_stack(x, out[:kept]), *row, inner)
        right = wide_load(1, y, *_stack(y, out[:kept]), inner, *column)
        return reduce(SUM, [inner], left * right)


@op
class MatmulBias(Matmul):
    """z[..., i, j] = matmul(x, y)[..., i, j] + b[j], rounded once.

    For half precisions, where a product is rounded before a bias is added; b may be float32 there.
    """

    takes_complex = False

    samples: ClassVar[tuple[Sample, ...]] = (
        sample(lambda x, y, b: make(MatmulBias(), x, y, b), arg(("B", 4)), arg((4, 3)), arg((3,))),
        sample(
            lambda x, y, b: make(MatmulBias(), x, y, b),
            arg(("B", 33), "bfloat16"),
            arg((33, 3), "bfloat16"),
            arg((3,)),
            label="bfloat16",
        ),
        sample(
            lambda x, y, b: make(MatmulBias(), x, y, b),
            arg(("B", 2, 4)),
            arg((4, "N")),
            arg(("N",)),
        ),
        sample(
            lambda x, y, b: make(MatmulBias(), x, y, b),
            arg((2, "K")),
            arg(("K", 3)),
            arg((3,)),
            sizes={"K": 0},
        ),
    )
    bad: ClassVar[tuple[Bad, ...]] = (
        bad(lambda x, y, b: make(MatmulBias(), x, y, b), arg((2, 3)), arg((3, 4)), arg((3,)),
            match="one number for each column .* 3 != 4"),
        bad(lambda x, y, b: make(MatmulBias(), x, y, b), arg((2, 3)), arg((3,)), arg((3,)),
            match="`x1` must have columns"),
        bad(lambda x, y, b: make(MatmulBias(), x, y, b),
            arg((2, 3)), arg((3, 4)), arg((4,), "float64"),
            error=DTypeError, match="`x2` must be float32"),
    )  # fmt: skip

    def infer(self, x: TensorType, y: TensorType, b: TensorType) -> TensorType:  # type: ignore[override]
        found = super().infer(x, y)
        if y.ndim < 2:
            raise ShapeError("{y} must have columns.", fix="make it a matrix with expand_dims")
        check_bias(b, x.dtype, y.shape[-1], "column (last axis) of {y}")
        return found

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        found = self.sums(xp, *arrays[:2]) + widen(arrays[2])
        return found.astype(arrays[0].dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        own = F.sum(cast_to(g, xs[2].dtype), axis=tuple(range(g.ndim - 1)))
        return *super().vjp(F, g, y, *xs[:2]), own if is_float(xs[0].dtype) else None

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x, y, b = xs
        with collect_guards():
            out = axes(self.infer(x.tensor, y.tensor, b.tensor).shape)
        return Compute(out, m.cast(self.sum_at(out, x, y) + wide_load(2, b, out[-1]), x.dtype))


@op
class MatmulBiasRelu(MatmulBias):
    """z[..., i, j] = relu(matmul(x, y)[..., i, j] + b[j]), rounded once.

    Made where a library is asked for it, which may give 0 where this is NaN.
    """

    samples = (
        sample(
            lambda x, y, b: make(MatmulBiasRelu(), x, y, b), arg(("B", 4)), arg((4, 3)), arg((3,))
        ),
        sample(
            lambda x, y, b: make(MatmulBiasRelu(), x, y, b),
            arg(("B", 33), "bfloat16"),
            arg((33, 3), "bfloat16"),
            arg((3,)),
            label="bfloat16",
        ),
    )
    bad = (
        bad(lambda x, y, b: make(MatmulBiasRelu(), x, y, b), arg((2, 3)), arg((3, 4)), arg((3,)),
            match="one number for each column .* 3 != 4"),
    )  # fmt: skip

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return xp.asarray(xp.maximum(super().ref(xp, *arrays), arrays[0].dtype.type(0)))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return super().vjp(F, F.where(y > 0, g, F.zeros_like(g)), y, *xs)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        found = super().expand(F, *xs)
        return Compute(found.axes, m.max(found.value, m.like(0, found.value)))


def _stack(x: Value, batch: Sequence[Axis]) -> list[Any]:
    """Give the place in an operand's leading axes, which are broadcast to those of the result."""
    count = max(x.ndim - 2, 0)
    own = batch[len(batch) - count :]
    return [0 if same_size(size, 1) else a for size, a in zip(x.shape[:count], own)]


@function_of
def matmul(x: Any, y: Any) -> Value:
    """Multiply matrices: z[..., i, j] = sum over k of x[..., i, k] y[..., k, j].

    A vector on the left is a row, on the right a column, and its axis vanishes; leading axes are
    broadcast. Integers keep their dtype and wrap around. Raises `ShapeError` when the inner sizes
    differ or an operand is a scalar, `DTypeError` for bools.

    >>> matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0]).eval().tolist()
    [3.0, 7.0]
    """
    return make(Matmul(), *common("matmul", x, y))


@composite(
    samples=[
        sample(lambda x: F.matrix_transpose(x), arg(("B", 2, 3))),
        sample(lambda x: F.matrix_transpose(x), arg((2, "N")), sizes={"N": 0}),
    ],
    bad=[bad(lambda x: F.matrix_transpose(x), arg((3,)), match="at least 2 axes")],
)
def matrix_transpose(x: Any) -> Value:
    """Swap the last two axes. Raises `ShapeError` for fewer than two axes.

    >>> matrix_transpose([[1.0, 2.0]]).shape
    (2, 1)
    """
    (value,) = common("matrix_transpose", x)
    if value.ndim < 2:
        raise ShapeError(
            "matrix_transpose: needs at least 2 axes.",
            details=operand_lines([value]),
            fix="use expand_dims to make a vector a matrix",
        )
    last = value.ndim - 1
    return F.permute_dims(value, (*range(last - 1), last, last - 1))


@composite(
    samples=[
        sample(lambda x, y: F.tensordot(x, y), arg(("B", 3, 4)), arg((3, 4, 2)), label="two"),
        sample(lambda x, y: F.tensordot(x, y, 1), arg((2, "K")), arg(("K", 2, 3)), label="one"),
        sample(lambda x, y: F.tensordot(x, y, 0), arg(("B",)), arg((2, 3)), label="none"),
        sample(lambda x, y: F.tensordot(x, y, ((0, -1), (1, 0))), arg(("B", 2, 3)), arg((3, "B")),
            label="named"),
        sample(lambda x, y: F.tensordot(x, y, (1, 0)), arg((2, "K")), arg(("K",)), sizes={"K": 0},
            label="empty"),
    ],
    bad=[
        bad(lambda x, y: F.tensordot(x, y), arg((2, 3, 4)), arg((4, 3, 2)), match="axis 1 of"),
        bad(lambda x, y: F.tensordot(x, y, 3), arg((2, 3)), arg((2, 3)), error=ArgumentError,
            match="3 axes"),
        bad(lambda x, y: F.tensordot(x, y, ((0, 1), (0,))), arg((2, 3)), arg((2, 3)),
            error=ArgumentError, match="as many axes"),
    ],
)  # fmt: skip
def tensordot(x: Any, y: Any, axes: Any = 2) -> Value:
    """Sum products over pairs of axes: the last of `x` with the first of `y`, or those named.

    `axes` is a count n (the last n axes of `x` with the first n of `y`) or a pair (axes of x, axes
    of y). The result has the other axes of `x`, then those of `y`. Raises `ShapeError` when the
    sizes of a pair differ, `ArgumentError` for axes that are not there.

    >>> tensordot([[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]]).eval().tolist()
    5.0
    """
    first, second = common("tensordot", x, y)
    own, others = _pairs(first, second, axes)
    for a, b in zip(own, others):
        if equal(first.shape[a], second.shape[b]) is False:
            raise ShapeError(
                f"tensordot: axis {a} of `{first.label}` must equal axis {b} of "
                f"`{second.label}`: {first.shape[a]} != {second.shape[b]}.",
                details=operand_lines([first, second]),
                fix="name the axes that belong together: axes=((...), (...))",
            )
    kept = [d for d in range(first.ndim) if d not in own]
    rest = [d for d in range(second.ndim) if d not in others]
    inner = [first.shape[a] for a in own]
    left = F.permute_dims(first, (*kept, *own))
    right = F.permute_dims(second, (*others, *rest))
    outer, columns = [first.shape[d] for d in kept], [second.shape[d] for d in rest]
    right = _checked(right, (*inner, *columns))
    left = F.reshape(left, (product(outer), product(inner)))
    right = F.reshape(right, (product(inner), product(columns)))
    return F.reshape(F.matmul(left, right), (*outer, *columns))


def _checked(value: Value, shape: tuple[Size, ...]) -> Value:
    """Have every size checked at run time that could not be compared while building."""
    same = all(same_size(a, b) for a, b in zip(value.shape, shape))
    return value if same else F.broadcast_to(value, shape)


def _pairs(x: Value, y: Value, axes: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if not isinstance(axes, Iterable):
        count = plain_int("tensordot", "axes", axes)
        if not 0 <= count <= min(x.ndim, y.ndim):
            raise ArgumentError(
                f"tensordot: cannot sum over {count} axes of operands with {x.ndim} and {y.ndim}.",
                fix=f"use 0 to {min(x.ndim, y.ndim)}",
            )
        return tuple(range(x.ndim - count, x.ndim)), tuple(range(count))
    own, others = axes
    left = distinct_axes("tensordot", own, x.ndim)
    right = distinct_axes("tensordot", others, y.ndim)
    if len(left) != len(right):
        raise ArgumentError(
            f"tensordot: needs as many axes of `{x.label}` as of `{y.label}`, got {axes!r}.",
            fix="each axis of the first is summed with one of the second",
        )
    return left, right


def _named(name: str, build: Callable[..., Value], *operands: Value) -> Value:
    """Build a part under the name of the function that the user called."""
    try:
        return build(*operands)
    except ShapeError as problem:
        message = f"{name}: {problem.message.partition(': ')[2]}"
        raise ShapeError(message, details=problem.details, fix=problem.fix) from None


@composite(
    samples=[
        sample(lambda x, y: F.dot(x, y), arg(("B", 3)), arg((3, 2))),
        sample(lambda x, y: F.dot(x, y), arg((3,)), arg((3,))),
        sample(lambda x, y: F.dot(x, y), arg(()), arg(("B",))),
        sample(lambda x, y: F.dot(x, y), arg((2, "K")), arg((3, "K", 2)), label="stack"),
    ],
    bad=[bad(lambda x, y: F.dot(x, y), arg((2, 3)), arg((2, 3)), match="dot: .* 3 != 2")],
)
def dot(x: Any, y: Any) -> Value:
    """Multiply as NumPy's `dot`: scalars scale, vectors and matrices multiply.

    For more axes: sum over the last of `x` and the second to last of `y`, without broadcasting.
    Raises `ShapeError` when these sizes differ.
    """
    first, second = common("dot", x, y)
    if not first.ndim or not second.ndim:
        return F.multiply(first, second)
    if second.ndim <= 2:
        return _named("dot", F.matmul, first, second)
    return F.tensordot(first, second, (-1, -2))


@composite(
    samples=[
        sample(lambda x, y: F.vecdot(x, y), arg(("B", 3)), arg(("B", 3))),
        sample(lambda x, y: F.vecdot(x, y, axis=0), arg((3, "B")), arg((3, 1)), label="first"),
        sample(lambda x, y: F.vecdot(x, y), arg(("B",)), arg(("B",)), sizes={"B": 0}),
        sample(
            lambda x, y: F.vecdot(x, y),
            arg(("B", 3), "complex64"),
            arg(("B", 3), "complex64"),
            label="complex",
        ),
    ],
    bad=[
        bad(lambda x, y: F.vecdot(x, y), arg((2, 3)), arg((2, 4)), match="vecdot: .*broadcast"),
        bad(lambda x, y: F.vecdot(x, y), arg((2, 3)), arg((1,)), match="vecdot: .*not broadcast"),
    ],
)
def vecdot(x: Any, y: Any, *, axis: int = -1) -> Value:
    """Give the dot products of vectors along an axis; other axes are broadcast.

    Of complex vectors the first is conjugated.

    Raises `ShapeError` when vectors are not of one length, or the other axes cannot be broadcast,
    `ArgumentError` for a missing axis.

    >>> vecdot([[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0]).eval().tolist()
    [21.0, 43.0]
    """
    first, second = common("vecdot", x, y)
    ndim = max(first.ndim, second.ndim)
    place = normal_axis("vecdot", axis, ndim) - ndim
    sizes = [one.shape[place] if -place <= one.ndim else 1 for one in (first, second)]
    if equal(*sizes) is False:
        raise ShapeError(
            f"vecdot: vectors are not broadcast: {sizes[0]} != {sizes[1]} along axis {axis}.",
            details=operand_lines([first, second]),
            fix="use sum(conj(x) * y, axis) where one number stands for all",
        )
    if equal(*sizes) is None:  # a call will tell
        shape = list(second.shape)
        shape[place] = sizes[0]
        second = F.specify_shape(second, tuple(shape))
    both = _named("vecdot", F.multiply, F.conj(first), second)
    return F.sum(both, axis=place, dtype=both.dtype)


@composite(
    samples=[sample(lambda x, y: F.outer(x, y), arg(("B",)), arg((3,)))],
    bad=[bad(lambda x, y: F.outer(x, y), arg((2, 3)), arg((2,)), match="must be vectors")],
)
def outer(x: Any, y: Any) -> Value:
    """Give all products of two vectors: z[i, j] = x[i] y[j].

    Raises `ShapeError` unless both have one axis.

    >>> outer([1.0, 2.0], [3.0, 4.0]).eval().tolist()
    [[3.0, 4.0], [6.0, 8.0]]
    """
    first, second = common("outer", x, y)
    if first.ndim != 1 or second.ndim != 1:
        raise ShapeError(
            "outer: both operands must be vectors.",
            details=operand_lines([first, second]),
            fix="use tensordot(x, y, 0) for more axes",
        )
    return F.multiply(F.expand_dims(first, 1), F.expand_dims(second, 0))
