"""Local response normalisation across channels, its gradient, and the window sum both are made of.

Krizhevsky, Sutskever, Hinton: "ImageNet classification with deep convolutional neural networks",
section 3.3. Half precisions compute in float32 and are rounded once.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import require_equal
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from symgraph.graph.arguments import normal_axis, plain_int
from symgraph.graph.index import SUM, Axis, Compute, axes, axis, inside, m, reduce
from symgraph.graph.leaves import cast_to, common
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.precision import check_float, check_same_dtype, wide, wide_load
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, widen
from symgraph.graph.types import TensorType

BLOCK = 1 << 18  # elements that the reference works on at a time, so that they stay in the cache


def window_total(
    xp: ModuleType, x: Array, along: int, size: int, before: int, *, out: Array | None = None
) -> Array:
    """Sum windows of neighbours along an axis by shifted additions; outside of it there are zeros.

    `out` may not be `x`.
    """
    total = xp.zeros_like(x) if out is None else out
    if out is not None:
        total[...] = 0
    count = x.shape[along]
    for shift in range(-before, size - before):
        low, high = max(0, -shift), min(count, count - shift)
        if low < high:
            total[_cut(along, low, high)] += x[_cut(along, low + shift, high + shift)]
    return total


def _cut(along: int, low: int, high: int) -> tuple[slice, ...]:
    return (*(slice(None) for _ in range(along)), slice(low, high))


def _blocks(xp: ModuleType, x: Array, along: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array over its first axis into pieces that fit the cache (NumPy only)."""
    if along == 0 or xp is not np or x.size <= BLOCK:
        yield (slice(None),) if x.ndim else ()
        return
    rows = max(1, BLOCK // (x.size // x.shape[0]))
    for start in range(0, x.shape[0], rows):
        yield (slice(start, start + rows),)


@op
class WindowSum(Op):
    """y[c] = sum over 0 <= d < size of x[c - before + d] along one axis, zeros outside of it."""

    size: int
    before: int
    axis: int
    samples = (
        sample(lambda x: F.window_sum(x, 5, axis=1), arg((2, "C", 3)), sizes={"C": 7}),
        sample(lambda x: F.window_sum(x, 4, axis=-1), arg(("B", 6))),
        sample(lambda x: F.window_sum(x, 3, axis=0, before=0), arg(("C",)), sizes={"C": 2}),
        sample(lambda x: F.window_sum(x, 2, axis=0, before=1), arg(("C", 2)), sizes={"C": 0}),
        sample(lambda x: F.window_sum(x, 1, axis=0), arg(("C",)), sizes={"C": 1}),
    )
    bad = (
        bad(lambda x: F.window_sum(x, 0, axis=0), arg((3,)), error=ArgumentError, match=">= 1"),
        bad(
            lambda x: F.window_sum(x, 3, axis=0, before=3), arg((3,)),
            error=ArgumentError, match="`before` must be",
        ),
        bad(
            lambda x: F.window_sum(x, 3, axis=0), arg((3,), "int32"),
            error=DTypeError, match="must hold floats",
        ),
    )  # fmt: skip

    def infer(self, x: TensorType) -> TensorType:
        check_float(x, "x")
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        total = window_total(xp, widen(x), self.axis, self.size, self.before)
        return total.astype(x.dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (make(WindowSum(self.size, self.size - 1 - self.before, self.axis), g),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out = axes(xs[0].shape)
        window = axis(self.size, "d")
        here = _Channel(xs[0], self.axis, out)
        one = here.read(0, xs[0], out[self.axis] + window - self.before)
        return Compute(out, m.cast(reduce(SUM, [window], one), xs[0].dtype))


class _Channel:
    """Reads operands at the result's place with another channel; 0 where there is none."""

    def __init__(self, x: Value, along: int, out: tuple[Axis, ...]) -> None:
        self._along, self._out, self._count = along, out, x.shape[along]

    def read(self, operand: int, x: Value, channel: Scalar) -> Scalar:
        index = [channel if d == self._along else a for d, a in enumerate(self._out)]
        return wide_load(operand, x, *index, guard=inside(channel, self._count))


@op
class LocalResponseNorm(Op):
    """y[c] = x[c] / (k + alpha * sum over the window around c of x**2) ** beta.

    The window of `size` channels starts `size // 2` before c.
    """

    size: int
    alpha: float
    beta: float
    k: float
    axis: int
    samples = (
        sample(lambda x: F.local_response_norm(x, alpha=0.3), arg((2, "C", 3, 2)), sizes={"C": 7}),
        sample(
            lambda x: F.local_response_norm(x, 3, 0.5, 0.5, 1.0, form="caffe"),
            arg(("B", 4, "H")),
        ),
        sample(lambda x: F.local_response_norm(x, 4, 0.2, 1.5, axis=-1), arg((2, 6))),
        sample(lambda x: F.local_response_norm(x, 3, 0.2, axis=0), arg(("C", 2)), sizes={"C": 1}),
        sample(lambda x: F.local_response_norm(x), arg((2, "C", 3)), sizes={"C": 0}),
    )
    bad = (
        bad(
            lambda x: F.local_response_norm(x, axis=4), arg((2, 3, 4, 4)),
            error=ArgumentError, match="axis 4",
        ),
        bad(
            lambda x: F.local_response_norm(x, k=0.0), arg((2, 3)),
            error=ArgumentError, match="k must be > 0",
        ),
        bad(
            lambda x: F.local_response_norm(x, form="torch"), arg((2, 3)),
            error=ArgumentError, match="form must be",
        ),
    )  # fmt: skip

    def infer(self, x: TensorType) -> TensorType:
        check_float(x, "x")
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        y = xp.empty_like(x)
        for block in _blocks(xp, x, self.axis):
            part = widen(x[block])
            power = self.scale(xp, part)
            xp.power(power, -self.beta, out=power)
            y[block] = xp.multiply(power, part, out=power)
        return y

    def scale(self, xp: ModuleType, x: Array) -> Array:
        """Give k + alpha * (the window's sum of squares), as a fresh array."""
        total = window_total(xp, x * x, self.axis, self.size, self.size // 2)
        total *= self.alpha
        total += self.k
        return total

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        own = (self.size, self.alpha, self.beta, self.k, self.axis)
        return (make(LocalResponseNormGrad(*own), g, *xs),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        (x,) = xs
        out = axes(x.shape)
        here = _Channel(x, self.axis, out)
        total = _scale(self, here, 0, x, out[self.axis].scalar())
        value = wide_load(0, x, *out) * m.pow(total, m.like(-self.beta, total))
        return Compute(out, m.cast(value, x.dtype))


def _scale(
    op: LocalResponseNorm | LocalResponseNormGrad,
    here: _Channel,
    operand: int,
    x: Value,
    channel: Scalar,
) -> Scalar:
    window = axis(op.size, "d")
    one = here.read(operand, x, window + channel - op.size // 2)
    return reduce(SUM, [window], one * one) * op.alpha + op.k


@op
class LocalResponseNormGrad(Op):
    """The gradient of `local_response_norm`: with s the scale of each channel and W' the sum over
    all windows that contain a channel, dx = g s**-beta - 2 alpha beta x W'(g x s**(-beta - 1)).
    """

    size: int
    alpha: float
    beta: float
    k: float
    axis: int
    samples = (
        sample(
            lambda g, x: make(LocalResponseNormGrad(5, 0.3, 0.75, 2.0, 1), g, x),
            arg((2, "C", 3)), arg((2, "C", 3)), sizes={"C": 7},
        ),
        sample(
            lambda g, x: make(LocalResponseNormGrad(4, 0.2, 1.5, 1.0, 0), g, x),
            arg(("C",)), arg(("C",)), sizes={"C": 5},
        ),
    )  # fmt: skip
    bad = (
        bad(
            lambda g, x: make(LocalResponseNormGrad(5, 0.3, 0.75, 2.0, 1), g, x),
            arg((2, 3)), arg((2, 4)), match="size 1 of",
        ),
    )  # fmt: skip

    def infer(self, g: TensorType, x: TensorType) -> TensorType:
        check_same_dtype({"x": x, "g": g})
        if g.ndim != x.ndim:
            raise ShapeError("{g} must have the shape of {x}.")
        for d, (a, b) in enumerate(zip(g.shape, x.shape)):
            require_equal(a, b, f"size {d} of {{g}} must equal size {d} of {{x}}")
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        g, x = arrays
        forward = LocalResponseNorm(self.size, self.alpha, self.beta, self.k, self.axis)
        dx = xp.empty_like(x)
        for block in _blocks(xp, x, self.axis):
            part, cotangent = widen(x[block]), widen(g[block])
            scale = forward.scale(xp, part)
            direct = xp.power(scale, -self.beta)
            direct *= cotangent
            inner = direct * part
            inner /= scale
            spread = window_total(xp, inner, self.axis, self.size, (self.size - 1) // 2, out=scale)
            spread *= part
            spread *= -2 * self.alpha * self.beta
            spread += direct
            dx[block] = spread
        return dx

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        """Differentiate once more.

        With p = s**-beta, q = p / s, r = q / s, W the window sum, W' its transpose, v = W(u x):
        dg = u p - 2 alpha beta x q v, and
        dx = -2 alpha beta [x W'(u g q) + u W'(g x q) + v g q - 2 alpha (beta+1) x W'(v g x r)].
        """
        weight, x, u = wide(xs[0]), wide(xs[1]), wide(g)
        before = self.size // 2

        def window(value: Value) -> Value:
            return make(WindowSum(self.size, before, self.axis), value)

        def spread(value: Value) -> Value:
            return make(WindowSum(self.size, self.size - 1 - before, self.axis), value)

        scale = window(x * x) * self.alpha + self.k
        p = F.pow(scale, -self.beta)
        q = p / scale
        v, gq = window(u * x), weight * q
        factor = 2 * self.alpha * self.beta
        d_weight = u * p - factor * (x * q * v)
        again = (2 * self.alpha * (self.beta + 1)) * (x * spread(v * x * gq / scale))
        d_x = -factor * (x * spread(u * gq) + u * spread(x * gq) + v * gq - again)
        return cast_to(d_weight, xs[0].dtype), cast_to(d_x, xs[1].dtype)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        g, x = xs
        out = axes(x.shape)
        here = _Channel(x, self.axis, out)
        own = _scale(self, here, 1, x, out[self.axis].scalar())
        around = axis(self.size, "e")
        channel = out[self.axis] + around - (self.size - 1) // 2
        scale = _scale(self, here, 1, x, channel)
        one = here.read(0, g, channel) * here.read(1, x, channel)
        one = one * m.pow(scale, m.like(-self.beta, scale)) / scale
        direct = wide_load(0, g, *out) * m.pow(own, m.like(-self.beta, own))
        through = wide_load(1, x, *out) * reduce(SUM, [around], one)
        value = direct - (2 * self.alpha * self.beta) * through
        return Compute(out, m.cast(value, x.dtype))


@function_of
def window_sum(x: Any, size: int, axis: int, before: int | None = None) -> Value:
    """Sum `size` neighbours along an axis, from `before` (size // 2) places before each element.

    y[c] = x[c - before] + ... + x[c - before + size - 1], zeros outside. Raises `ArgumentError`
    unless size >= 1 and 0 <= before < size.

    >>> window_sum([1.0, 2.0, 3.0], 3, axis=0).eval().tolist()
    [3.0, 6.0, 5.0]
    """
    (value,) = common("window_sum", x)
    count = _window("window_sum", size)
    start = count // 2 if before is None else plain_int("window_sum", "before", before)
    if not 0 <= start < count:
        raise ArgumentError(
            f"window_sum: `before` must be from 0 to size - 1 = {count - 1}, got {start}.",
            fix=f"before={count // 2} centres the window",
        )
    return make(WindowSum(count, start, normal_axis("window_sum", axis, value.ndim)), value)


def _window(name: str, size: Any) -> int:
    count = plain_int(name, "size", size)
    if count < 1:
        raise ArgumentError(f"{name}: size must be >= 1, got {count}.", fix="e.g. size=5")
    return count


@function_of
def local_response_norm(
    x: Any,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    *,
    form: str = "pylearn2",
    axis: int = 1,
) -> Value:
    """Divide each element by a power of the squares in the channels around it.

    y[c] = x[c] / (k + alpha * sum of x**2 over `size` channels around c) ** beta. With
    form="caffe", as in Caffe and PyTorch, alpha is divided by `size`; the default is that of
    pylearn2 and the AlexNet paper. Raises `ArgumentError` for an unknown form or numbers out of
    range: size >= 1, alpha >= 0, k > 0.
    """
    name = "local_response_norm"
    (value,) = common(name, x, floating=True)
    count, along = _window(name, size), normal_axis(name, axis, value.ndim)
    if form not in ("pylearn2", "caffe"):
        raise ArgumentError(
            f'{name}: form must be "pylearn2" or "caffe", got {form!r}.',
            fix="pylearn2 takes alpha as it is, caffe divides it by the size",
        )
    if not (alpha >= 0 and k > 0):
        raise ArgumentError(
            f"{name}: alpha must be >= 0 and k must be > 0, got alpha={alpha}, k={k}.",
            fix="the published numbers are alpha=1e-4, k=2",
        )
    each = float(alpha) / count if form == "caffe" else float(alpha)
    return make(LocalResponseNorm(count, each, float(beta), float(k), along), value)
