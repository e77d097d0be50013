"""More values out of nothing or out of arrays: linspace, empty, asarray, astype, from_dlpack."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.dims import Dim, Size
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.graph.arguments import no_device, shape_argument
from symgraph.graph.dtypes import dtype_name, is_float
from symgraph.graph.leaves import as_value, cast_to, common
from symgraph.graph.node import Value
from symgraph.graph.registry import F, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import compute_dtype


@composite(
    samples=[
        sample(lambda x: F.linspace(-1, 2, 7), arg((1,)), gradient=(), label="numbers"),
        sample(lambda x: F.linspace(0, 1, x.shape[0]), arg(("B",)), gradient=(), sizes={"B": 17},
               label="size"),
        sample(lambda x: F.linspace(0, 1, x.shape[0]), arg(("B",)), gradient=(), sizes={"B": 1},
               label="one"),
        sample(lambda x, y: F.linspace(x, y, 4, endpoint=False), arg(()), arg(()), label="values"),
        sample(lambda x: F.linspace(0, 10, 5, dtype="int32"), arg((1,)), gradient=(),
               label="whole"),
        sample(lambda x: F.linspace(1, 2, 0), arg((1,)), gradient=(), label="none"),
    ],
    bad=[
        bad(lambda: F.linspace(0, 1, -1), match="linspace: -1 .* negative"),
        bad(lambda x: F.linspace(x, 1, 3), arg((2,)), match="linspace: .* must be a scalar"),
        bad(lambda: F.linspace(0, 1, 2.5), error=ArgumentTypeError, match="linspace: .* an int"),
    ],
)  # fmt: skip
def linspace(
    start: Any,
    stop: Any,
    num: Size,
    *,
    dtype: Any = None,
    endpoint: bool = True,
    device: Any = None,
) -> Value:
    """Give `num` numbers at equal distances from `start` to `stop`, which is the last one.

    y[i] = start + i * (stop - start) / (num - 1); without `endpoint` the divisor is `num`, and
    `stop` is not reached. The ends may be scalar values of the graph and `num` a size. The dtype is
    that of the ends, as a float, unless given. Raises `ShapeError` for a negative number or ends
    that are no scalars.

    >>> import symgraph as sg
    >>> sg.linspace(0, 1, 5).eval().tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    no_device("linspace", device)
    (count,) = shape_argument("linspace", (num,))
    first, last = common("linspace", start, stop, floating=True)
    for end in (first, last):
        if end.ndim:
            raise ShapeError(
                f"linspace: the end `{end.label}` must be a scalar, it is {end.type}.",
                details=[end.describe()],
                fix="scale a linspace from 0 to 1: x + (y - x) * t",
            )
    name = first.dtype if dtype is None else dtype_name(dtype)
    wide = compute_dtype(first.dtype) if is_float(name) else "float64"
    first, last = cast_to(first, wide), cast_to(last, wide)
    place = cast_to(F.arange(count), wide)
    parts = F.maximum(F.size_of(count, wide) - (1.0 if endpoint else 0.0), 1.0)
    found = first + place * ((last - first) / parts)
    if endpoint:  # rounding must not move it
        found = F.where(F.equal(place, parts), last, found)
    return cast_to(F.floor(found) if not is_float(name) else found, name)


@composite(
    samples=[sample(lambda x: F.empty((x.shape[0], 2)), arg(("B",)), gradient=())],
    bad=[bad(lambda: F.empty((-1,)), match="empty: .*-1 .* negative")],
)
def empty(shape: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """Make an array without meaning; in a graph, where nothing is written later, it is zeros."""
    no_device("empty", device)
    return F.zeros(shape, dtype)


@composite(
    samples=[sample(lambda x: F.empty_like(x, "int8"), arg(("B", 2)), gradient=())],
    bad=[
        bad(lambda x: F.empty_like(x, "text"), arg((2,)), error=DTypeError, match="empty_like"),
    ],
)  # fmt: skip
def empty_like(x: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """Make zeros of the shape and, unless given, the dtype of `x`: `empty` of them."""
    no_device("empty_like", device)
    return F.zeros_like(x, dtype)


@composite(
    samples=[
        sample(lambda x: F.asarray(x, "float64"), arg(("B", 2)), label="value"),
        sample(lambda x: F.asarray([[1, 2]], "int8"), arg((1,)), gradient=(), label="list"),
    ],
    bad=[
        bad(lambda: F.asarray("text"), error=ArgumentTypeError, match="asarray: str holds"),
        bad(lambda: F.asarray([1], copy=False), error=ArgumentError, match="asarray: .* copied"),
    ],
)
def asarray(x: Any, dtype: Any = None, *, copy: bool | None = None, device: Any = None) -> Value:
    """Make a number, a list or an array a constant; a value of the graph stays, or is cast.

    Raises `ArgumentError` for `copy=False` where numbers have to be copied, `ArgumentTypeError` for
    what holds no numbers.
    """
    no_device("asarray", device)
    if isinstance(x, Value):
        return x if dtype is None else F.cast(x, dtype)
    if copy is False:
        raise ArgumentError(
            "asarray: numbers are copied, a value of the graph never changes.", fix="copy=None"
        )
    if isinstance(x, Dim):
        return F.size_of(x, dtype or "int64")
    if not isinstance(x, bool | int | float | list | tuple | np.ndarray | np.generic):
        raise ArgumentTypeError(
            f"asarray: {type(x).__name__} holds no numbers.", fix="give a list or an array"
        )
    return F.constant(x, dtype)


@composite(
    samples=[
        sample(lambda x: F.astype(x, "float64"), arg(("B", 2)), label="float"),
        sample(lambda x: F.astype(x, "int8"), arg((3,)), label="whole"),
    ],
    bad=[
        bad(lambda x: F.astype(x, "text"), arg((2,)), error=DTypeError, match="astype: .*text"),
    ],
)  # fmt: skip
def astype(x: Any, dtype: Any, *, copy: bool = True, device: Any = None) -> Value:
    """Convert to another dtype (the array API's name for `cast`)."""
    no_device("astype", device)
    return F.cast(as_value(x), dtype)


@function_of
def from_dlpack(x: Any, *, device: Any = None, copy: bool | None = None) -> Value:
    """Make a constant of an array of another library, which says what it is by DLPack.

    >>> import numpy as np
    >>> from_dlpack(np.array([1.5])).eval().tolist()
    [1.5]
    """
    no_device("from_dlpack", device)
    if copy is False:
        raise ArgumentError("from_dlpack: numbers are copied into the graph.", fix="copy=None")
    return F.constant(np.array(np.from_dlpack(x)))
