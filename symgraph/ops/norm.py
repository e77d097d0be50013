"""Normalisation by the mean and variance of the data: batch, layer and root-mean-square.

Variances are computed in two passes (mean first), divided by the count; half precisions compute in
float32 and are rounded once. Local response normalisation is in lrn.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from symgraph.dims import Size, equal, product, require_equal
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from symgraph.frozen import frozen
from symgraph.graph.arguments import normal_axes
from symgraph.graph.index import SUM, Compute, axes, m, position, reduce
from symgraph.graph.index import axis as loop
from symgraph.graph.leaves import cast_to, common, items
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import ZERO, Array, Cotangent, Op, op
from symgraph.graph.precision import check_same_dtype, wide, wide_load
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import Scalar, compute_dtype, widen
from symgraph.graph.types import Shape, TensorType, TupleType

IMAGES = ("B", 3, 4, 2)


def _check_parameter(name: str, parameter: TensorType, x: TensorType, along: Sequence[int]) -> None:
    """Raise `ShapeError` unless a scale or shift has the sizes of `x` along some axes."""
    if parameter.ndim != len(along):
        sizes = ", ".join(str(x.shape[d]) for d in along)
        raise ShapeError(
            f"{{{name}}} must have the sizes of {{x}} along the axes {tuple(along)}: it has "
            f"{parameter.ndim} axes, not {len(along)}.",
            fix=f"give it the shape ({sizes}{',' if len(along) == 1 else ''})",
        )
    for d, place in enumerate(along):
        why = f"size {d} of {{{name}}} must equal size {place} of {{x}}"
        require_equal(parameter.shape[d], x.shape[place], why)


def _spread(shape: Sequence[Size], along: Sequence[int]) -> Shape:
    """Give the shape with which a parameter along some axes broadcasts over all."""
    return tuple(size if d in along else 1 for d, size in enumerate(shape))


def _count(shape: Sequence[Any], along: Sequence[int]) -> Any:
    return product(shape[d] for d in along)


def _mean(xp: ModuleType, x: Array, along: tuple[int, ...]) -> Array:
    """Average, keeping axes; of nothing it is NaN."""
    with np.errstate(invalid="ignore"):
        total = xp.sum(x, axis=along, keepdims=True)
        return total / xp.asarray(_count(x.shape, along), x.dtype)


@op
class BatchNorm(Op):
    """Normalise over `axes`, with statistics of this batch: gives (y, mean, variance).

    y = (x - mean) / sqrt(variance + epsilon) * scale + shift. The statistics of half precisions
    are float32.
    """

    axes: tuple[int, ...]
    epsilon: float
    samples = (
        sample(lambda x, a, b: F.batch_norm(x, a, b), arg(IMAGES), arg((3,), low=0.5), arg((3,))),
        sample(
            lambda x, a, b: F.batch_norm(x, a, b, axis=0, epsilon=0.1),
            arg(("B", 1, "C")), arg((1, "C")), arg((1, "C")),
        ),
        sample(
            lambda x, a, b: F.batch_norm(x, a, b, axis=(-1, 0)),
            arg((2, "C", 3)), arg(("C",)), arg(("C",)), sizes={"C": 1},
        ),
    )  # fmt: skip
    bad = (
        bad(
            lambda x, a, b: F.batch_norm(x, a, b), arg((2, 3, 4, 4)), arg((4,)), arg((3,)),
            match="size 0 of `x1` must equal size 1 of `x0`: 4 != 3",
        ),
        bad(
            lambda x, a, b: F.batch_norm(x, a, b), arg((2, 3, 4, 4)), arg((3,)), arg((1, 3)),
            match="must have the sizes of `x0` along the axes",
        ),
        bad(
            lambda x, a, b: F.batch_norm(x, a, b, axis=4), arg((2, 3)), arg((3,)), arg((3,)),
            error=ArgumentError, match="axis 4",
        ),
        bad(
            lambda x, a, b: F.batch_norm(x, a, b, epsilon=0.0), arg(IMAGES), arg((3,)), arg((3,)),
            error=ArgumentError, match="epsilon must be > 0",
        ),
        bad(
            lambda x, a, b: make(BatchNorm((0,), 1e-5), x, a, b),
            arg((2, 3)), arg((3,), "float64"), arg((3,)),
            error=DTypeError, match="must have the dtype of",
        ),
    )  # fmt: skip

    def kept(self, ndim: int) -> tuple[int, ...]:
        """Give the axes of the statistics."""
        return tuple(d for d in range(ndim) if d not in self.axes)

    def infer(self, x: TensorType, scale: TensorType, shift: TensorType) -> TupleType:
        check_same_dtype({"x": x, "scale": scale, "shift": shift})
        kept = self.kept(x.ndim)
        _check_parameter("scale", scale, x, kept)
        _check_parameter("shift", shift, x, kept)
        of = TensorType(compute_dtype(x.dtype), tuple(x.shape[d] for d in kept))
        return TupleType((x, of, of))

    def ref(self, xp: ModuleType, *arrays: Array) -> tuple[Array, Array, Array]:
        x, scale, shift = (widen(array) for array in arrays)
        spread = _spread(x.shape, self.kept(x.ndim))
        mean = _mean(xp, x, self.axes)
        y = x - mean
        variance = _mean(xp, y * y, self.axes)
        y *= scale.reshape(spread) / xp.sqrt(variance + xp.asarray(self.epsilon, x.dtype))
        y += shift.reshape(spread)
        flat = [xp.squeeze(each, axis=self.axes) for each in (mean, variance)]
        return y.astype(arrays[0].dtype, copy=False), flat[0], flat[1]

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        x, scale, shift = xs
        spread = _spread(x.shape, self.kept(x.ndim))
        mean, variance = (F.reshape(each, spread) for each in y[1:])
        count = F.size_of(_count(x.shape, self.axes), mean.dtype)
        centred = wide(x) - mean
        parts: list[Value] = []
        to_parameters: tuple[Cotangent, Cotangent] = (ZERO, ZERO)
        if g[0] is not None:
            inverse = F.rsqrt(variance + self.epsilon)
            normal, cotangent = centred * inverse, wide(g[0])
            to_shift = F.sum(cotangent, axis=self.axes, keepdims=True)
            to_scale = F.sum(cotangent * normal, axis=self.axes, keepdims=True)
            inner = cotangent - to_shift / count - normal * (to_scale / count)
            parts.append(F.reshape(wide(scale), spread) * inverse * inner)
            to_parameters = (
                cast_to(F.reshape(to_scale, tuple(scale.shape)), scale.dtype),
                cast_to(F.reshape(to_shift, tuple(shift.shape)), shift.dtype),
            )
        if g[1] is not None:
            parts.append(F.broadcast_to(F.reshape(g[1], spread) / count, tuple(x.shape)))
        if g[2] is not None:
            parts.append(centred * (F.reshape(g[2], spread) * (2.0 / count)))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return cast_to(total, x.dtype), *to_parameters

    def expand(self, F: Functions, *xs: Value) -> tuple[Value, Value, Value]:
        x, scale, shift = (wide(value) for value in xs)
        kept = self.kept(x.ndim)
        spread = _spread(x.shape, kept)
        mean = F.mean(x, axis=self.axes, keepdims=True)
        centred = x - mean
        variance = F.mean(centred * centred, axis=self.axes, keepdims=True)
        factor = F.reshape(scale, spread) / F.sqrt(variance + self.epsilon)
        y = cast_to(centred * factor + F.reshape(shift, spread), xs[0].dtype)
        sizes = tuple(x.shape[d] for d in kept)
        return y, F.reshape(mean, sizes), F.reshape(variance, sizes)


@frozen(eq=False, repr=False)
class RowNorm(Op):
    """What layer and root-mean-square normalisation share: statistics of each row alone.

    `axes` are those of a row; scale and shift, where given, have the sizes of a row.
    """

    axes: tuple[int, ...]
    epsilon: float

    centred: ClassVar[bool]

    def infer(
        self, x: TensorType, scale: TensorType | None = None, shift: TensorType | None = None
    ) -> TensorType:
        given = {"x": x, "scale": scale, "shift": shift}
        types = {name: type for name, type in given.items() if type is not None}
        check_same_dtype(types)
        for name in types.keys() - {"x"}:
            _check_parameter(name, types[name], x, self.axes)
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        x, *parameters = (widen(array) for array in arrays)
        spread = _spread(x.shape, self.axes)
        y = x - _mean(xp, x, self.axes) if self.centred else x
        square = _mean(xp, y * y, self.axes) + xp.asarray(self.epsilon, x.dtype)
        y = y / xp.sqrt(square)
        if parameters:
            y *= parameters[0].reshape(spread)
        if len(parameters) > 1:
            y += parameters[1].reshape(spread)
        return y.astype(arrays[0].dtype, copy=False)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        x, *parameters = xs
        spread = _spread(x.shape, self.axes)
        rest = tuple(d for d in range(x.ndim) if d not in self.axes)
        base = wide(x)
        if self.centred:
            base = base - F.mean(base, axis=self.axes, keepdims=True)
        square = F.mean(base * base, axis=self.axes, keepdims=True)
        inverse = F.rsqrt(square + self.epsilon)
        normal, cotangent = base * inverse, wide(g)
        inner = cotangent
        if parameters:
            inner = cotangent * F.reshape(wide(parameters[0]), spread)
        d_x = inner - normal * F.mean(inner * normal, axis=self.axes, keepdims=True)
        if self.centred:
            d_x = d_x - F.mean(inner, axis=self.axes, keepdims=True)
        pulled = [cast_to(d_x * inverse, x.dtype)]
        for parameter, each in zip(parameters, (cotangent * normal, cotangent)):
            pulled.append(cast_to(F.sum(each, axis=rest), parameter.dtype))
        return tuple(pulled)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x, *parameters = xs
        out = axes(x.shape)
        count = m.cast(position(_count(x.shape, self.axes)), compute_dtype(x.dtype))

        def average(centre: Scalar | None) -> Scalar:
            inner = {d: loop(x.shape[d], f"r{d}") for d in self.axes}
            one = wide_load(0, x, *(inner.get(d, place) for d, place in enumerate(out)))
            if centre is not None:
                one = (one - centre) * (one - centre)
            elif not self.centred:
                one = one * one
            return reduce(SUM, list(inner.values()), one) / count

        value = wide_load(0, x, *out)
        square = average(None)
        if self.centred:
            mean = square
            value, square = value - mean, average(mean)
        value = value / m.sqrt(square + self.epsilon)
        row = [out[d] for d in self.axes]
        if parameters:
            value = value * wide_load(1, parameters[0], *row)
        if len(parameters) > 1:
            value = value + wide_load(2, parameters[1], *row)
        return Compute(out, m.cast(value, x.dtype))


@op
class LayerNorm(RowNorm):
    """y = (x - mean) / sqrt(variance + epsilon) * scale + shift, over the axes of a row."""

    centred = True
    samples = (
        sample(lambda x: F.layer_norm(x), arg(("B", 5))),
        sample(lambda x, a, b: F.layer_norm(x, a, b), arg(("B", 5)), arg((5,)), arg((5,))),
        sample(
            lambda x, a, b: F.layer_norm(x, a, b, axis=(-2, -1), epsilon=0.1),
            arg((2, "C", 3)), arg(("C", 3)), arg(("C", 3)), sizes={"C": 4},
        ),
        sample(lambda x, a: F.layer_norm(x, a, axis=0), arg((4, "B")), arg((4,))),
        sample(lambda x: F.layer_norm(x, axis=0), arg(("B", 3)), sizes={"B": 1}),
        sample(lambda x: F.layer_norm(x), arg(("B", 3)), sizes={"B": 0}),
    )  # fmt: skip
    bad = (
        bad(
            lambda x, a, b: F.layer_norm(x, a, b), arg((2, 3)), arg((2,)), arg((3,)),
            match="2 != 3",
        ),
        bad(
            lambda x, b: F.layer_norm(x, None, b), arg((2, 3)), arg((3,)),
            error=ArgumentError, match="shift without a scale",
        ),
        bad(
            lambda x: F.layer_norm(x, axis=()), arg((2, 3)),
            error=ArgumentError, match="at least one axis",
        ),
    )  # fmt: skip


@op
class RmsNorm(RowNorm):
    """y = x / sqrt(mean(x**2) + epsilon) * scale, over the axes of a row."""

    centred = False
    samples = (
        sample(lambda x: F.rms_norm(x), arg(("B", 5))),
        sample(lambda x, a: F.rms_norm(x, a), arg(("B", 5)), arg((5,))),
        sample(
            lambda x, a: F.rms_norm(x, a, axis=(0, -1), epsilon=0.1), arg((2, "C", 3)), arg((2, 3)),
        ),
    )  # fmt: skip
    bad = (
        bad(lambda x, a: F.rms_norm(x, a), arg((2, 3)), arg((2, 3)), match="it has 2 axes, not 1"),
    )


def _checked(
    name: str, axis: Any, epsilon: float, x: Value, *others: Any
) -> tuple[tuple[int, ...], tuple[Value, ...]]:
    """Give the axes and the operands in one dtype, or raise `ArgumentError`."""
    along = normal_axes(name, axis, x.ndim)
    if not along:
        raise ArgumentError(
            f"{name}: needs at least one axis to normalise over.",
            details=operand_lines([x]),
            fix="e.g. axis=-1",
        )
    if not epsilon > 0:
        raise ArgumentError(
            f"{name}: epsilon must be > 0, got {epsilon}.",
            details=operand_lines([x]),
            fix="epsilon=1e-5",
        )
    return along, common(name, x, *others, floating=True)


@function_of
def batch_norm(
    x: Any, scale: Any, shift: Any, axis: Any = None, epsilon: float = 1e-5
) -> tuple[Value, Value, Value]:
    """Normalise over the batch and give (y, mean, variance), for training.

    y = (x - mean) / sqrt(variance + epsilon) * scale + shift, with mean and variance over `axis`,
    all but axis 1 unless told otherwise, and everything else of the shape of the remaining axes.
    The variance is divided by the count; over no elements the statistics are NaN.
    Raises `ShapeError`, and `ArgumentError` for an axis that does not exist.
    Ioffe, Szegedy: "Batch normalization", 2015, algorithm 1.
    """
    (value,) = common("batch_norm", x, floating=True)
    over = _batch_axes(value.ndim) if axis is None else axis
    along, operands = _checked("batch_norm", over, epsilon, value, scale, shift)
    y, mean, variance = items(make(BatchNorm(along, float(epsilon)), *operands))
    return y, mean, variance


def _inference_sample(x: Value, scale: Value, shift: Value, mean: Value, var: Value) -> Value:
    return F.batch_norm_inference(x, scale, shift, mean, var)


_CHANNELS = (arg((3,)), arg((3,)), arg((3,)), arg((3,), low=0.1))


@composite(
    samples=[
        sample(_inference_sample, arg(IMAGES), *_CHANNELS, label="images"),
        sample(
            lambda x, a, b, mean, variance: F.batch_norm_inference(
                x, a, b, mean, variance, axis=0, epsilon=0.1
            ),
            arg(("B", 3)), *_CHANNELS, label="rows",
        ),
    ],
    bad=[
        bad(
            _inference_sample, arg((2, 3, 4, 4)), *_CHANNELS[:3], arg((4,)),
            match="batch_norm_inference: variance",
        )
    ],
)  # fmt: skip
def batch_norm_inference(
    x: Any,
    scale: Any,
    shift: Any,
    mean: Any,
    variance: Any,
    axis: Any = None,
    epsilon: float = 1e-5,
) -> Value:
    """Give (x - mean) / sqrt(variance + epsilon) * scale + shift with given statistics.

    `axis` are the axes over which the statistics were taken, all but axis 1 unless told otherwise;
    the parameters have the shape of the others. Raises `ShapeError` when one has another shape.
    """
    name = "batch_norm_inference"
    (value,) = common(name, x, floating=True)
    over = _batch_axes(value.ndim) if axis is None else axis
    along, operands = _checked(name, over, epsilon, value, scale, shift, mean, variance)
    kept = tuple(d for d in range(value.ndim) if d not in along)
    wanted = tuple(value.shape[d] for d in kept)
    for what, operand in zip(("scale", "shift", "mean", "variance"), operands[1:]):
        pairs = zip(operand.shape, wanted)
        if operand.ndim != len(kept) or any(equal(a, b) is False for a, b in pairs):
            raise ShapeError(
                f"{name}: {what} must have the shape of x without the axes {along}.",
                details=operand_lines([value, operand]),
                fix=f"give it the shape ({', '.join(map(str, wanted))})",
            )
    spread = _spread(value.shape, kept)
    values, a, b, mu, var = (wide(operand) for operand in operands)
    factor = a * F.rsqrt(var + epsilon)
    y = (values - F.reshape(mu, spread)) * F.reshape(factor, spread) + F.reshape(b, spread)
    return cast_to(y, operands[0].dtype)


def _batch_axes(ndim: int) -> tuple[int, ...]:
    """Give all axes but that of the channels."""
    return tuple(d for d in range(ndim) if d != 1)


@function_of
def layer_norm(
    x: Any, scale: Any = None, shift: Any = None, axis: Any = -1, epsilon: float = 1e-5
) -> Value:
    """Normalise each row: (x - mean) / sqrt(variance + epsilon) * scale + shift.

    Mean and variance (divided by the count) are over `axis`; scale and shift, both optional, have
    the sizes of these axes. Raises `ShapeError`, or `ArgumentError` for a shift without a scale.
    Ba, Kiros, Hinton: "Layer normalization", 2016.
    """
    (value,) = common("layer_norm", x, floating=True)
    if scale is None and shift is not None:
        raise ArgumentError(
            "layer_norm: a shift without a scale is not possible.",
            details=operand_lines([value]),
            fix="add the shift yourself: layer_norm(x) + shift",
        )
    given = [each for each in (scale, shift) if each is not None]
    along, operands = _checked("layer_norm", axis, epsilon, value, *given)
    return make(LayerNorm(along, float(epsilon)), *operands)


@function_of
def rms_norm(x: Any, scale: Any = None, axis: Any = -1, epsilon: float = 1e-6) -> Value:
    """Divide each row by its root mean square: x / sqrt(mean(x**2) + epsilon) * scale.

    `scale` is optional and has the sizes of `axis`. Raises `ShapeError`.
    Zhang, Sennrich: "Root mean square layer normalization", 2019.
    """
    (value,) = common("rms_norm", x, floating=True)
    given = [] if scale is None else [scale]
    along, operands = _checked("rms_norm", axis, epsilon, value, *given)
    return make(RmsNorm(along, float(epsilon)), *operands)
