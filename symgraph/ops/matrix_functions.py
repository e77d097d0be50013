"""Functions of square matrices: the exponential and whole powers."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from symgraph.dims import Size, equal
from symgraph.errors import ArgumentTypeError, DTypeError, ShapeError
from symgraph.graph.arguments import plain_int
from symgraph.graph.leaves import as_value, cast_to
from symgraph.graph.matrices import OfSquare, adjoint, work
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import Array, Cotangent, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import compute_dtype
from symgraph.ops import factor_ref

TURNING = (0.0, 9.0, -9.0, 0.0, 0.1, 0.2, 0.0, 0.3)


@op
class Expm(OfSquare):
    """The exponential of square matrices."""

    samples = (
        sample(lambda x: F.expm(x), arg(("B", 3, 3)), label="stack"),
        sample(lambda x: F.expm(x), arg((2, 2, 2), values=TURNING), label="scaled"),
        sample(lambda x: F.expm(x), arg(("N", "N")), sizes={"N": 0}, label="empty"),
        sample(lambda x: F.expm(x), arg((1, 1)), label="single"),
    )
    bad = (
        bad(lambda x: F.expm(x), arg((2, 3)), match="expm: .*square.* 2 != 3"),
        bad(lambda x: F.expm(x), arg((3,)), match="at least 2 axes"),
        bad(lambda x: F.expm(x), arg((2, 2), "int32"), error=DTypeError, match="takes floats"),
    )

    def compute(self, xp: ModuleType, *arrays: Array) -> Any:
        return factor_ref.expm(xp, arrays[0])

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        n = types[0].shape[-1]
        return work(types[0], n, n, n, times=16)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        # the derivative in a direction is a block of the exponential of twice the size
        x = adjoint(xs[0])
        size = x.shape[-1]
        top = F.concat([x, g], axis=-1)
        bottom = F.concat([F.zeros_like(x), x], axis=-1)
        return (F.expm(F.concat([top, bottom], axis=-2))[..., :size, size:],)


@function_of
def expm(x: Any) -> Value:
    """Give the exponential of square matrices: 1 + x + x @ x / 2 + ...

    Raises `ShapeError` unless matrices are square, `DTypeError` for integers. Source: Higham 2005,
    "The scaling and squaring method for the matrix exponential revisited"; the gradient: Mathias
    1996, "A chain rule for matrix functions".
    """
    return make(Expm(), as_value(x))


@composite(
    samples=[
        sample(lambda x: F.matrix_power(x, 0), arg(("B", 2, 2)), gradient=(), label="zero"),
        sample(lambda x: F.matrix_power(x, 1), arg((2, 2)), label="one"),
        sample(lambda x: F.matrix_power(x, 5), arg(("B", 3, 3), low=-1, high=1), label="five"),
        sample(
            lambda x: F.matrix_power(x + 5 * F.eye(2, dtype=x.dtype), -3),
            arg((2, 2)),
            label="inverse",
        ),
        sample(lambda x: F.matrix_power(x, 2), arg((2, 2), "int32"), label="integers"),
    ],
    bad=[
        bad(lambda x: F.matrix_power(x, 2), arg((2, 3)), match="matrix_power: .*square.* 2 != 3"),
        bad(lambda x: F.matrix_power(x, 2), arg((3,)), match="matrix_power: .*at least 2 axes"),
        bad(lambda x: F.matrix_power(x, 0.5), arg((2, 2)), error=ArgumentTypeError, match="an int"),
    ],
)
def matrix_power(x: Any, n: int) -> Value:
    """Multiply square matrices n times with themselves, by squaring; below 0 the inverse.

    Raises `ShapeError` unless matrices are square, `ArgumentTypeError` unless n is an int.

    >>> matrix_power([[1, 1], [0, 1]], 5).eval().tolist()
    [[1, 5], [0, 1]]
    """
    value, count = as_value(x), plain_int("matrix_power", "n", n)
    if value.ndim < 2 or equal(*value.shape[-2:]) is False:
        raise ShapeError(
            "matrix_power: needs square matrices, of at least 2 axes."
            if value.ndim < 2
            else f"matrix_power: needs square matrices: {value.shape[-2]} != {value.shape[-1]}.",
            details=operand_lines([value]),
        )
    wide = compute_dtype(value.dtype)
    base = cast_to(value, wide)
    if count < 0:
        base, count = F.inv(base), -count
    found: Value | None = None
    while count:
        if count & 1:
            found = base if found is None else F.matmul(found, base)
        count >>= 1
        if count:
            base = F.matmul(base, base)
    if found is None:
        found = F.broadcast_to(F.eye(value.shape[-1], dtype=wide), value.shape)
    return cast_to(found, value.dtype)
