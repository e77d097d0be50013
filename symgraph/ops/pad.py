"""Padding with a fixed number, and reversing axes."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from symgraph.dims import Dim, Size, require_less_equal
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.graph.arguments import distinct_axes, plain_size
from symgraph.graph.dtypes import has_gradient, numpy_dtype, weak_dtype
from symgraph.graph.index import Compute, axes, inside, load
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, Type

Widths = tuple[tuple[Size, Size], ...]


@op
class Pad(Op):
    """The operand with `value` around it: `widths` has (before, after) for each axis."""

    takes_complex = True

    widths: Widths
    value: float

    def infer(self, x: TensorType) -> Type:
        for d, width in enumerate(self.widths):
            for size in width:
                require_less_equal(0, size, f"the padding of axis {d} of {{x}} must be >= 0")
        return x.with_shape(
            before + size + after for size, (before, after) in zip(x.shape, self.widths)
        )

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        shape = [before + size + after for size, (before, after) in zip(x.shape, self.widths)]
        padded = xp.full(shape, self.value, x.dtype)
        padded[self.middle(x.shape)] = x
        return padded

    def middle(self, shape: Sequence[int]) -> tuple[slice, ...]:
        """Give where in the result the operand stands."""
        return tuple(slice(w[0], w[0] + size) for size, w in zip(shape, self.widths))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        if not has_gradient(xs[0].dtype):
            return (None,)
        return (F.slice_at(g, [before for before, _ in self.widths], xs[0].shape),)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        x = xs[0].tensor
        out = axes(self.infer(x).shape)  # type: ignore[union-attr]
        index: list[Any] = []
        guard = None
        for place, size, (before, after) in zip(out, x.shape, self.widths):
            index.append(place if _is_zero(before) else place - before)
            if not (_is_zero(before) and _is_zero(after)):
                here = inside(index[-1], size)
                guard = here if guard is None else guard & here
        return Compute(out, load(0, x.dtype, *index, guard=guard, fill=self.value))

    samples = (
        sample(lambda x: F.pad(x, 1), arg(("B", 3))),
        sample(lambda x: F.pad(x, 1), arg(("B", 3), "complex64")),
        sample(lambda x: F.pad(x, ((0, 0), (1, 2))), arg(("B", 3))),
        sample(lambda x: F.pad(x, (2, x.shape[0]), value=-1.5), arg(("B",))),
        sample(lambda x: F.pad(x, ((1, 0), 2), value=1e3), arg((2, 0))),
        sample(lambda x: F.pad(x, 1, value=7), arg((2, 17), "uint8", low=0, high=255)),
        sample(lambda x: F.pad(x, 1, value=True), arg((3,), "bool")),
        sample(lambda x: F.pad(x, 1, value=0.5), arg((33,), "bfloat16")),
    )
    bad = (
        bad(lambda x: F.pad(x, -1), arg((2,)), match="padding of axis 0 of .* must be >= 0"),
        bad(lambda x: F.pad(x, ((1, 1),) * 3), arg((2, 3)), error=ArgumentError, match="2 axes"),
        bad(lambda x: F.pad(x, 1, mode="mirror"), arg((2,)), error=ArgumentError, match="constant"),
        bad(lambda x: F.pad(x, 1.5), arg((2,)), error=ArgumentTypeError, match="an int"),
        bad(lambda x: F.pad(x, 1, value=x), arg((2,)), error=ArgumentTypeError, match="a number"),
        bad(lambda x: F.pad(x, 1, value=0.5), arg((2,), "int32"), error=ArgumentError, match="0.5"),
    )


@function_of
def pad(x: Any, widths: Any, value: float = 0, mode: str = "constant") -> Value:
    """Put `value` around the elements of `x`.

    `widths` is one number for all sides, (before, after) for all axes, or one of these for each
    axis; sizes may be symbolic. The only mode is "constant". Raises `ShapeError` for a negative
    width, `ArgumentError` for widths of another number of axes or a value that `x` cannot hold.

    >>> import symgraph as sg
    >>> sg.F.pad(sg.constant([1, 2]), (1, 0)).eval().tolist()
    [0, 1, 2]
    """
    inner = as_value(x)
    if mode != "constant":
        raise ArgumentError(f'pad: mode must be "constant", got {mode!r}.', fix='mode="constant"')
    per_axis = _normal_widths(widths, inner)
    filling = _filling(value, inner)
    if all(_is_zero(before) and _is_zero(after) for before, after in per_axis):
        return inner
    return make(Pad(per_axis, filling), inner)


def _normal_widths(widths: Any, x: Value) -> Widths:
    if not isinstance(widths, Sequence):
        size = plain_size("pad", "a width", widths)
        return ((size, size),) * x.ndim
    if len(widths) == 2 and not any(isinstance(part, Sequence) for part in widths):
        before, after = (plain_size("pad", "a width", part) for part in widths)
        return ((before, after),) * x.ndim
    if len(widths) != x.ndim or any(isinstance(w, Sequence) and len(w) != 2 for w in widths):
        raise ArgumentError(
            f"pad: widths must be a number, a pair, or one of these for each of the {x.ndim} axes "
            f"of `{x.label}`; got {widths!r}.",
            details=[x.describe()],
            fix=f"give (before, after) {x.ndim} times",
        )
    pairs = [part if isinstance(part, Sequence) else (part, part) for part in widths]
    return tuple(
        (plain_size("pad", "a width", before), plain_size("pad", "a width", after))
        for before, after in pairs
    )


def _filling(value: Any, x: Value) -> float:
    if not isinstance(value, bool | int | float):
        raise ArgumentTypeError(
            f"pad: value must be a number, got {type(value).__name__}.",
            fix="pad with a plain number, or use concat",
        )
    if weak_dtype(value, x.dtype) != x.dtype and x.dtype != "bool":
        raise ArgumentError(
            f"pad: {value} does not fit into {x.dtype}.",
            details=[x.describe()],
            fix='cast first, e.g. x.cast("float32")',
        )
    real = has_gradient(x.dtype)
    return float(value) if real else numpy_dtype(x.dtype).type(value).item()


def _is_zero(size: Size) -> bool:
    return not isinstance(size, Dim) and size == 0


@composite(
    samples=[
        sample(lambda x: F.flip(x), arg(("B", 3)), label="all"),
        sample(lambda x: F.flip(x, 0), arg(("B", 3)), label="rows"),
        sample(lambda x: F.flip(x, (0, -1)), arg((2, "B", 17)), label="outer"),
        sample(lambda x: F.flip(x), arg((0, 1)), label="empty"),
    ],
    bad=[bad(lambda x: F.flip(x, 2), arg((2, 3)), error=ArgumentError, match="flip: axis 2")],
)
def flip(x: Any, axis: int | Sequence[int] | None = None) -> Value:
    """Reverse the order of elements along axes (all of them by default).

    Raises `ArgumentError` for a wrong axis.
    """
    value = as_value(x)
    turned = range(value.ndim) if axis is None else distinct_axes("flip", axis, value.ndim)
    key = tuple(slice(None, None, -1 if d in turned else 1) for d in range(value.ndim))
    return F.index(value, key)
