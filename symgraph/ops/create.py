"""Values made of nothing: zeros, ones, fills, ranges and identities; sizes may be symbolic."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Dim, Size, ceil_div, dim, maximum, require_less_equal
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.graph.arguments import no_device, plain_int, shape_argument
from symgraph.graph.dtypes import DType, default_float, dtype_name, numpy_dtype
from symgraph.graph.index import Compute, m, position
from symgraph.graph.index import axis as loop
from symgraph.graph.leaves import as_value, cast_to, constant
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, Type


@op
class Arange(Op):
    """The numbers 0, 1, 2, ... below `size`."""

    size: Size
    dtype: DType

    def infer(self) -> Type:
        if self.dtype == "bool":
            raise DTypeError("makes numbers, not bool.", fix='use dtype="int64"')
        require_less_equal(0, self.size, "the number of elements must be >= 0")
        return TensorType(self.dtype, (self.size,))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return xp.arange(self.size).astype(numpy_dtype(self.dtype))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return ()

    def below_size(self) -> Size | None:
        return self.size if self.dtype == "int64" else None  # others may wrap round

    def expand(self, F: Functions, *xs: Value) -> Compute:
        place = loop(self.size, "i")
        return Compute((place,), m.cast(position(place), self.dtype))

    samples = (
        sample(lambda x: F.arange(x.shape[0]), arg(("B",)), gradient=()),
        sample(lambda x: F.arange(17, dtype="float32"), arg((1,)), gradient=()),
        sample(lambda x: F.arange(0), arg((1,)), gradient=()),
        sample(lambda x: F.arange(33, dtype="uint8"), arg((1,)), gradient=()),
        sample(lambda x: F.arange(x.shape[0], dtype="bfloat16"), arg(("B",)), gradient=()),
    )
    bad = (
        bad(lambda: F.arange(3, dtype="bool"), error=DTypeError, match="not bool"),
        bad(lambda: F.arange(0, 3, 0), error=ArgumentError, match="must not be 0"),
        bad(lambda: F.arange(0, math.inf), error=ArgumentError, match="finite"),
        bad(lambda: F.arange(0, 9, dim("B")), error=ArgumentTypeError, match="step must be an int"),
        bad(lambda: F.arange(0.5, dim("B")), error=ArgumentTypeError, match="int steps"),
        bad(lambda x: F.arange(x), arg((1,)), error=ArgumentTypeError, match="x.shape"),
    )


@function_of
def arange(
    start: Any, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None
) -> Value:
    """Count: start + i * step for i = 0, 1, ... while below `stop`; one argument is the stop.

    Ints and symbolic sizes give int64, floats `config.float_dtype`, unless `dtype` says otherwise.
    Raises `ArgumentError` for a step of 0 or bounds that are not finite.

    >>> import symgraph as sg
    >>> str(sg.F.arange(sg.dim("B")).type), sg.F.arange(1, 6, 2).eval().tolist()
    ('int64[B]', [1, 3, 5])
    """
    no_device("arange", device)
    first, last = (0, start) if stop is None else (start, stop)
    numbers = (first, last, step)
    for number in numbers:
        _check_bound(number)
    if isinstance(step, Dim):
        plain_int("arange", "step", step)
    if step == 0:
        raise ArgumentError("arange: the step must not be 0.", fix="use a step of 1 or -1")
    floating = any(isinstance(number, float) for number in numbers)
    name = dtype_name(dtype) if dtype is not None else default_float() if floating else "int64"
    if floating:
        if isinstance(first, Dim) or isinstance(last, Dim):
            raise ArgumentTypeError(
                "arange: symbolic sizes go with int steps and bounds only.",
                fix="scale afterwards: 0.5 * F.arange(B)",
            )
        return constant(np.arange(float(first), float(last), float(step)), name)
    count = maximum(ceil_div(last - first, step) if step > 0 else ceil_div(first - last, -step), 0)
    if not isinstance(first, Dim) and first == 0 and step == 1:
        return make(Arange(count, name))
    # counted in int64, so that no step in between leaves the range of a small dtype
    return cast_to(as_value(first, "int64") + make(Arange(count, "int64")) * step, name)


def _check_bound(number: Any) -> None:
    if isinstance(number, Dim):
        return
    if isinstance(number, bool) or not isinstance(number, int | float | np.integer | np.floating):
        raise ArgumentTypeError(
            f"arange: bounds and step must be numbers or sizes, got {type(number).__name__}.",
            fix="a size of x is x.shape[0]",
        )
    if not math.isfinite(number):
        raise ArgumentError(f"arange: bounds and step must be finite, got {number}.")


@composite(
    samples=[
        sample(lambda x: F.full((x.shape[0], 2), 1.5), arg(("B",)), gradient=(), label="number"),
        sample(lambda x: F.full((2, 3), x), arg(()), label="value"),
        sample(lambda x: F.full(3, 7, "int8"), arg((1,)), gradient=(), label="small"),
        sample(lambda x: F.full((), True), arg((1,)), gradient=(), label="bool"),
        sample(lambda x: F.full((0, 3), 2), arg((1,)), gradient=(), label="empty"),
    ],
    bad=[
        bad(lambda: F.full((-1,), 0.0), error=ShapeError, match="-1 .* negative"),
        bad(lambda x: F.full((3,), x), arg((2,)), error=ShapeError, match="must be a scalar"),
        bad(lambda: F.full((3,), 300, "int8"), error=DTypeError, match="300"),
    ],
)
def full(shape: Any, fill_value: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """Fill a shape with one number, or with a scalar value of the graph.

    The dtype is the value's unless given. Raises `ShapeError` for a value that is no scalar.
    """
    no_device("full", device)
    return _full("full", shape, fill_value, dtype)


def _full(name: str, shape: Any, value: Any, dtype: Any) -> Value:
    target = shape_argument(name, shape)
    kind = None if dtype is None else dtype_name(dtype)
    try:
        one = as_value(value, kind)
    except DTypeError as problem:
        raise DTypeError(f"{name}: {problem.message}", fix=problem.fix) from None
    if one.ndim:
        raise ShapeError(
            f"{name}: the value `{one.label}` must be a scalar, it is {one.type}.",
            details=[one.describe()],
            fix="use broadcast_to for other shapes",
        )
    return F.broadcast_to(one if kind is None else cast_to(one, kind), target)


@composite(
    samples=[
        sample(lambda x: F.zeros((x.shape[0], 3)), arg(("B",)), gradient=(), label="floats"),
        sample(lambda x: F.zeros(17, "int32"), arg((1,)), gradient=(), label="integers"),
    ],
    bad=[bad(lambda: F.zeros((2, -3)), match="zeros: -3 .* is negative")],
)
def zeros(shape: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """Make zeros of a shape; `config.float_dtype` unless `dtype` says otherwise.

    Raises `ShapeError` for a negative size.
    """
    no_device("zeros", device)
    return _filled("zeros", shape, 0, dtype)


@composite(
    samples=[
        sample(lambda x: F.ones((x.shape[0], 3)), arg(("B",)), gradient=(), label="floats"),
        sample(lambda x: F.ones((), "bool"), arg((1,)), gradient=(), label="bool"),
    ],
    bad=[bad(lambda: F.ones((2, -3)), match="ones: -3 .* is negative")],
)
def ones(shape: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """Make ones of a shape; dtype and errors as for `zeros`."""
    no_device("ones", device)
    return _filled("ones", shape, 1, dtype)


def _filled(name: str, shape: Any, number: int, dtype: Any) -> Value:
    kind = default_float() if dtype is None else dtype_name(dtype)
    one = constant(np.asarray(number, numpy_dtype(kind)))
    return F.broadcast_to(one, shape_argument(name, shape))


@composite(
    samples=[
        sample(lambda x: F.zeros_like(x), arg(("B", 3)), gradient=(), label="same"),
        sample(lambda x: F.zeros_like(x, "int8"), arg(("B",)), gradient=(), label="other"),
    ],
)
def zeros_like(x: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """Make zeros of the shape and, unless given, the dtype of `x`."""
    no_device("zeros_like", device)
    value = as_value(x)
    return _filled("zeros_like", value.shape, 0, dtype or value.dtype)


@composite(
    samples=[
        sample(lambda x: F.ones_like(x), arg(("B", 3)), gradient=(), label="same"),
        sample(lambda x: F.ones_like(x, "bool"), arg(("B",)), gradient=(), label="other"),
    ],
)
def ones_like(x: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """Make ones of the shape and, unless given, the dtype of `x`."""
    no_device("ones_like", device)
    value = as_value(x)
    return _filled("ones_like", value.shape, 1, dtype or value.dtype)


@composite(
    samples=[
        sample(lambda x: F.full_like(x, 2), arg(("B", 3)), gradient=(), label="same"),
        sample(lambda x: F.full_like(x, 2, "int8"), arg(("B",)), gradient=(), label="other"),
    ],
    bad=[
        bad(
            lambda x: F.full_like(x, x), arg((2,)), match="full_like: the value .* must be a scalar"
        )
    ],
)
def full_like(x: Any, fill_value: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """Fill the shape of `x` with one number, of the dtype of `x` unless given."""
    no_device("full_like", device)
    model = as_value(x)
    return _full("full_like", model.shape, fill_value, dtype or model.dtype)


@composite(
    samples=[
        sample(lambda x: F.eye(3), arg((1,)), gradient=(), label="square"),
        sample(lambda x: F.eye(x.shape[0], 4, k=1), arg(("B",)), gradient=(), label="above"),
        sample(lambda x: F.eye(4, 2, k=-2, dtype="int8"), arg((1,)), gradient=(), label="below"),
        sample(lambda x: F.eye(x.shape[0], dtype="bool"), arg(("B",)), gradient=(), label="bool"),
    ],
    bad=[bad(lambda: F.eye(3, k=0.5), error=ArgumentTypeError, match="eye: k must")],
)
def eye(
    rows: Size, columns: Size | None = None, *, k: int = 0, dtype: Any = None, device: Any = None
) -> Value:
    """Make ones on the diagonal j = i + k and zeros elsewhere; square unless `columns` is given.

    The dtype is `config.float_dtype` unless given. Raises `ArgumentTypeError` for a `k` that is no
    int, `ShapeError` for negative sizes.
    """
    no_device("eye", device)
    kind = default_float() if dtype is None else dtype_name(dtype)
    offset = plain_int("eye", "k", k)
    height, width = shape_argument("eye", (rows, rows if columns is None else columns))
    row = F.reshape(make(Arange(height, "int64")), (height, 1)) + offset
    found = F.equal(row, make(Arange(width, "int64")))
    return cast_to(found, kind)
