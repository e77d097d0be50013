"""Diagonals and triangles of matrices, and products that are laid out like matrices."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from symgraph.dims import Size, equal, maximum, minimum
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.graph.arguments import normal_axis, plain_int
from symgraph.graph.dtypes import dtype_name, has_gradient
from symgraph.graph.index import Compute, axes, load
from symgraph.graph.leaves import as_value, cast_to, common
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import Shape, TensorType, Type


@op
class Diagonal(Op):
    """y[..., i] = x[..., i, i + offset], from the first i on for which there is one."""

    offset: int
    takes_complex = True

    def infer(self, x: TensorType) -> Type:
        if x.ndim < 2:
            raise ShapeError(f"{{x}} must have at least 2 axes, it has {x.ndim}.")
        return x.with_shape((*x.shape[:-2], self.length(x.shape)))

    def length(self, shape: Shape) -> Size:
        """Give the number of elements of a diagonal."""
        below, right = max(-self.offset, 0), max(self.offset, 0)
        return maximum(minimum(shape[-2] - below, shape[-1] - right), 0)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return xp.diagonal(arrays[0], self.offset, -2, -1).copy()

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        (x,) = xs
        if not has_gradient(x.dtype):
            return (None,)
        rows, columns = x.shape[-2:]
        before = minimum(max(-self.offset, 0), rows)
        after = rows - before - self.length(x.shape)
        widths = [*((0, 0) for _ in x.shape[:-2]), (before, after)]
        column = F.expand_dims(F.pad(g, widths), -1)
        return (F.where(F.eye(rows, columns, k=self.offset, dtype="bool"), column, 0.0),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x = xs[0].tensor
        out = axes((*x.shape[:-2], self.length(x.shape)))
        row = out[-1] + max(-self.offset, 0)
        column = out[-1] + max(self.offset, 0)
        return Compute(out, load(0, x.dtype, *out[:-1], row, column))

    samples = (
        sample(lambda x: F.diagonal(x), arg(("B", 3))),
        sample(lambda x: F.diagonal(x, 1, -1, 0), arg((4, 2, "B"))),
        sample(lambda x: F.diagonal(x, -2), arg(("B", 17)), sizes={"B": 33}),
        sample(lambda x: F.diagonal(x, 3), arg((2, 3), "int32")),
        sample(lambda x: F.diagonal(x, -1), arg((1, 0), "bool")),
        sample(lambda x: F.diagonal(x, 1), arg(("B", 3), "complex64"), label="complex"),
    )
    bad = (
        bad(
            lambda x: F.diagonal(x), arg((3,)), error=ArgumentError, match="diagonal: axis 1"
        ),
        bad(
            lambda x: F.diagonal(x, 0, 1, -1), arg((3, 3)), error=ArgumentError,
            match="diagonal: the two axes",
        ),
        bad(
            lambda x: F.diagonal(x, 0.5), arg((3, 3)), error=ArgumentTypeError,
            match="diagonal: offset",
        ),
    )  # fmt: skip


@function_of
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """Take the diagonal of two axes, which vanish: y[..., i] = x[i, i + offset].

    Raises `ArgumentError` for a wrong axis, or when both are one.

    >>> import symgraph as sg
    >>> sg.F.diagonal(sg.constant([[1, 2], [3, 4]])).eval().tolist()
    [1, 4]
    """
    value = as_value(x)
    rows = normal_axis("diagonal", axis1, value.ndim)
    columns = normal_axis("diagonal", axis2, value.ndim)
    if rows == columns:
        raise ArgumentError("diagonal: the two axes must differ.", fix="axis1=0, axis2=1")
    moved = F.moveaxis(value, (rows, columns), (-2, -1))
    return make(Diagonal(plain_int("diagonal", "offset", offset)), moved)


@composite(
    samples=[
        sample(lambda x: F.trace(x), arg(("B", 3)), label="plain"),
        sample(lambda x: F.trace(x, 1, 1, 2), arg((2, "B", 4)), label="stack"),
        sample(lambda x: F.trace(x, dtype="int32"), arg((3, 3), "int8"), label="whole"),
    ],
    bad=[bad(lambda x: F.trace(x), arg((3,)), error=ArgumentError, match="trace: .*axis 1")],
)
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, *, dtype: Any = None) -> Value:
    """Add up the diagonal of two axes: sum over i of x[i, i + offset].

    Integers are added in 64 bits, unless `dtype` says otherwise. Raises as `diagonal` does.
    """
    found = F.sum(F.diagonal(x, offset, axis1, axis2), axis=-1)
    return found if dtype is None else cast_to(found, dtype_name(dtype))


@composite(
    samples=[
        sample(lambda x: F.diag(x), arg(("B",)), label="matrix"),
        sample(lambda x: F.diag(x, 2), arg((3,), "int32"), label="above"),
        sample(lambda x: F.diag(x, -1), arg(("B", 3)), label="vector"),
    ],
    bad=[bad(lambda x: F.diag(x), arg(()), match="diag: .* one axis or two")],
)
def diag(x: Any, k: int = 0) -> Value:
    """Make a vector the diagonal of a matrix of zeros, or take the diagonal of a matrix.

    Raises `ShapeError` unless `x` has one axis or two.
    """
    value = as_value(x)
    offset = plain_int("diag", "k", k)
    if value.ndim == 2:
        return F.diagonal(value, offset)
    if value.ndim != 1:
        raise ShapeError(
            f"diag: `{value.label}` must have one axis or two, it has {value.ndim}.",
            details=[value.describe()],
            fix="use diagonal for stacks of matrices",
        )
    size = value.shape[0] + abs(offset)
    column = F.expand_dims(F.pad(value, (max(-offset, 0), max(offset, 0))), 1)
    zero = F.zeros((), value.dtype)
    return F.where(F.eye(size, k=offset, dtype="bool"), column, zero)


@composite(
    samples=[
        sample(lambda x: F.tril(x), arg(("B", 4)), label="plain"),
        sample(lambda x: F.tril(x, k=-1), arg((2, 4, "B"), "int32"), label="below"),
    ],
    bad=[bad(lambda x: F.tril(x), arg((3,)), match="tril: .* at least 2 axes")],
)
def tril(x: Any, k: int = 0) -> Value:
    """Keep the lower triangle of matrices: x[..., i, j] where j <= i + k, else 0.

    Raises `ShapeError` for fewer than two axes.
    """
    return _triangle("tril", x, k)


@composite(
    samples=[
        sample(lambda x: F.triu(x), arg(("B", 4)), label="plain"),
        sample(lambda x: F.triu(x, k=2), arg((2, 4, "B"), "bool"), label="above"),
    ],
    bad=[bad(lambda x: F.triu(x), arg((3,)), match="triu: .* at least 2 axes")],
)
def triu(x: Any, k: int = 0) -> Value:
    """Keep the upper triangle of matrices: x[..., i, j] where j >= i + k, else 0.

    Raises `ShapeError` for fewer than two axes.
    """
    return _triangle("triu", x, k)


def _triangle(name: str, x: Any, k: int) -> Value:
    value = as_value(x)
    offset = plain_int(name, "k", k)
    if value.ndim < 2:
        raise ShapeError(
            f"{name}: `{value.label}` must have at least 2 axes, it has {value.ndim}.",
            details=[value.describe()],
            fix="add an axis with expand_dims",
        )
    row = F.expand_dims(F.arange(value.shape[-2]), 1) + offset
    column = F.arange(value.shape[-1])
    keeps = column <= row if name == "tril" else column >= row
    return F.where(keeps, value, F.zeros((), value.dtype))


@composite(
    samples=[
        sample(lambda x, y: F.kron(x, y), arg(("B", 2)), arg((3, "C")), label="matrices"),
        sample(lambda x, y: F.kron(x, y), arg(("B",)), arg((2, 2)), label="mixed"),
        sample(lambda x, y: F.kron(x, y), arg(()), arg((2,), "int32"), gradient=(0,), label="one"),
    ],
    bad=[
        bad(
            lambda x: F.kron(x, x), arg((2,), "bool"), error=DTypeError,
            match="kron: .* takes numbers",
        ),
    ],
)  # fmt: skip
def kron(x: Any, y: Any) -> Value:
    """Put every multiple of `y` in the place of an element of `x` (Kronecker product).

    z[i*p + k, j*q + l] = x[i, j] y[k, l] for y of shape (p, q); axes that one lacks are added in
    front. Raises `DTypeError` for bools.
    """
    first, second = common("kron", x, y)
    count = max(first.ndim, second.ndim)
    own, others = ((1,) * (count - v.ndim) + tuple(v.shape) for v in (first, second))
    left = F.reshape(first, [size for n in own for size in (n, 1)])
    right = F.reshape(second, [size for n in others for size in (1, n)])
    return F.reshape(left * right, [a * b for a, b in zip(own, others)])


@composite(
    samples=[
        sample(lambda x, y: F.cross(x, y), arg(("B", 3)), arg((3,)), label="last"),
        sample(lambda x, y: F.cross(x, y, axis=0), arg((3, "B")), arg((3, "B")), label="first"),
        sample(lambda x, y: F.cross(x, y), arg((3,), "int32"), arg((3,), "int32"), label="whole"),
    ],
    bad=[
        bad(
            lambda x, y: F.cross(x, y), arg((2, 3)), arg((2, 4)),
            match="cross: axis -1 of `x1` must have size 3, it has 4",
        ),
        bad(
            lambda x: F.cross(x, x, axis=1), arg((3,)), error=ArgumentError, match="cross: axis 1"
        ),
    ],
)  # fmt: skip
def cross(x: Any, y: Any, *, axis: int = -1) -> Value:
    """Give the cross products of vectors of 3 elements along an axis; other axes are broadcast.

    Raises `ShapeError` unless the axis has size 3 in both.

    >>> import symgraph as sg
    >>> sg.F.cross([1, 0, 0], [0, 1, 0]).eval().tolist()
    [0, 0, 1]
    """
    both = common("cross", x, y)
    for value in both:
        size = value.shape[normal_axis("cross", axis, value.ndim)]
        if equal(size, 3) is not True:
            raise ShapeError(
                f"cross: axis {axis} of `{value.label}` must have size 3, it has {size}.",
                details=operand_lines(both),
                fix="name the axis of the three components: axis=0",
            )
    a, b = (F.moveaxis(value, axis, -1) for value in both)
    parts = [a[..., i] * b[..., j] - a[..., j] * b[..., i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return F.moveaxis(F.stack(parts, -1), -1, axis)
