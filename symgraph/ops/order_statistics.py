"""Medians and quantiles, read off sorted axes, and membership."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.dims import product
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from symgraph.graph.arguments import normal_axes
from symgraph.graph.dtypes import default_float, is_float
from symgraph.graph.leaves import Constant, as_value, cast_to, common
from symgraph.graph.node import Value
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import compute_dtype

Axis = int | Sequence[int] | None
METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


@composite(
    samples=[
        sample(lambda x: F.quantile(x, 0.3), arg(("B", 3), distinct=True), label="all"),
        sample(
            lambda x: F.quantile(x, [0, 0.25, 1], axis=1), arg((2, "B"), distinct=True),
            sizes={"B": 17}, label="several",
        ),
        sample(
            lambda x: F.quantile(x, 0.4, axis=0, keepdims=True, method="nearest"),
            arg((6, "B"), distinct=True), label="nearest",
        ),
        sample(
            lambda x: F.quantile(x, 0.4, axis=0, method="lower"), arg((6,), "int32"), label="lower"
        ),
        sample(
            lambda x, q: F.quantile(x, q, axis=(0, -1), method="midpoint"),
            arg((2, "B", 2), distinct=True), arg((), low=0.1, high=0.15), gradient=(0,),
            label="midpoint",
        ),
        sample(
            lambda x: F.quantile(x, 0.5, axis=1),
            arg((2, 3), values=(1, float("nan"), 2, 0, 1, 2)), gradient=(), label="nan",
        ),
        sample(
            lambda x, q: F.quantile(x, q), arg((5,), distinct=True), arg((2,), low=0.3, high=0.45),
            label="where",
        ),
    ],
    bad=[
        bad(lambda x: F.quantile(x, 1.5), arg((3,)), error=ArgumentError, match="from 0 to 1"),
        bad(
            lambda x: F.quantile(x, 0.5, method="best"), arg((3,)), error=ArgumentError,
            match="quantile: method",
        ),
        bad(lambda x: F.quantile(x, 0.5), arg((0,)), match="quantile: .* empty"),
        bad(lambda x, q: F.quantile(x, q), arg((3,)), arg((), "int32"), error=DTypeError,
            match="quantile: q must be floats"),
        bad(lambda x: F.quantile(x, 0.5, 2), arg((3,)), error=ArgumentError, match="axis 2"),
    ],
)  # fmt: skip
def quantile(
    x: Any, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False
) -> Value:
    """Give the values below which shares `q`, from 0 to 1, of the elements along axes lie.

    Position q*(n - 1) of the sorted elements; between two of them `method` decides: "linear",
    "lower", "higher", "midpoint" or "nearest". The axes of `q` stand in front. A NaN among the
    elements gives NaN; integers become floats. Raises `ArgumentError` for shares outside of
    0 to 1, `ShapeError` for an empty axis.

    >>> import symgraph as sg
    >>> sg.F.quantile(sg.constant([1.0, 3.0, 2.0]), 0.75).eval().tolist()
    2.5
    """
    value = as_value(x)
    shares = _shares(q)
    if method not in METHODS:
        raise ArgumentError(
            f"quantile: method must be one of {', '.join(METHODS)}, got {method!r}.",
            fix='method="linear"',
        )
    dtype = value.dtype if is_float(value.dtype) else default_float()
    wide = compute_dtype(dtype)
    rows, kept = _rows("quantile", cast_to(value, wide), normal_axes("quantile", axis, value.ndim))
    count = rows.shape[-1]
    order = F.sort(rows)
    place = cast_to(shares, "float64") * (F.size_of(count, "float64") - 1.0)
    if method == "nearest":
        place = F.round(place)
    low, high = F.floor(place), F.ceil(place)

    def at(position: Value) -> Value:
        found = F.take(order, cast_to(position, "int64"), axis=-1)
        ahead = range(found.ndim - shares.ndim, found.ndim)
        return F.moveaxis(found, tuple(ahead), tuple(range(shares.ndim)))

    below, above = at(low), at(high)
    if method in ("lower", "higher"):
        found = below if method == "lower" else above
    else:
        part = cast_to(place - low, wide) if method != "midpoint" else F.where(low < high, 0.5, 0.0)
        part = F.reshape(cast_to(part, wide), (*shares.shape, *(1,) * (rows.ndim - 1)))
        # infinities of one sign have no difference
        found = F.where(F.equal(below, above), below, below + (above - below) * part)
    found = F.where(F.isnan(order[..., -1]), np.nan, found)
    if keepdims:
        found = F.reshape(found, (*shares.shape, *kept))
    return cast_to(found, dtype)


def _shares(q: Any) -> Value:
    value = q if isinstance(q, Value) else F.constant(q, "float64")
    if isinstance(value.op, Constant):
        numbers = value.op.array
        if not np.all((numbers >= 0) & (numbers <= 1)):
            raise ArgumentError(
                f"quantile: q must be shares from 0 to 1, got {numbers.tolist()}.",
                fix="divide percents by 100",
            )
    if not is_float(value.dtype):
        raise DTypeError(
            f"quantile: q must be floats, not {value.dtype}.",
            details=[value.describe()],
            fix='cast first: q.cast("float32")',
        )
    return value


def _rows(name: str, x: Value, over: tuple[int, ...]) -> tuple[Value, tuple[Any, ...]]:
    """Give a value with the axes to reduce joined into the last, and its shape with them as 1."""
    rest = [d for d in range(x.ndim) if d not in over]
    count = product(x.shape[d] for d in over)
    if not isinstance(count, int) or count:
        moved = F.permute_dims(x, (*rest, *over))
        kept = tuple(1 if d in over else size for d, size in enumerate(x.shape))
        return F.reshape(moved, (*(x.shape[d] for d in rest), count)), kept
    raise ShapeError(
        f"{name}: `{x.label}` is empty along the axes {over}.", details=[x.describe()],
        fix="there must be an element",
    )  # fmt: skip


@composite(
    samples=[
        sample(lambda x: F.median(x), arg(("B", 3), distinct=True), label="all"),
        sample(lambda x: F.median(x, axis=0), arg((6, "B"), distinct=True), label="even"),
        sample(
            lambda x: F.median(x, axis=1, keepdims=True), arg((2, 5), "int32"), label="whole"
        ),
    ],
    bad=[bad(lambda x: F.median(x, 2), arg((3,)), error=ArgumentError, match="median: .*axis 2")],
)  # fmt: skip
def median(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Value:
    """Give the middle of the sorted elements along axes, or the mean of both middle ones.

    NaN, dtypes and errors as for `quantile`.
    """
    return F.quantile(x, 0.5, axis, keepdims=keepdims)


@composite(
    samples=[
        sample(
            lambda x, y: F.isin(x, y), arg(("B", 2), "int32", low=0, high=5),
            arg((2, "C"), "int64", low=0, high=5), label="plain",
        ),
        sample(lambda x: F.isin(x, [1.5, 2.0], invert=True), arg((4,), values=(1.5, 2, 3)),
               label="inverted"),
        sample(lambda x, y: F.isin(x, y), arg((3,), "int8"), arg((0,), "int8"), label="none"),
    ],
    bad=[
        bad(
            lambda x, y: F.isin(x, y), arg((2,), "uint64"), arg((2,), "int8"), error=DTypeError,
            match="isin: .* no dtype",
        ),
    ],
)  # fmt: skip
def isin(x: Any, values: Any, *, invert: bool = False) -> Value:
    """Tell of each element whether it is among `values`; with `invert` whether it is not.

    Raises `DTypeError` where no dtype holds both.
    """
    first, second = common("isin", x, values)
    flat = F.reshape(second, (-1,))
    found = F.any(F.equal(F.expand_dims(first, -1), flat), axis=-1)
    return F.logical_not(found) if invert else found
