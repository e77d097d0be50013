"""What users call for pooling: arguments in one form, then one operation."""

from __future__ import annotations

from typing import Any

from symgraph.dims import less
from symgraph.errors import ArgumentError, DTypeError, ShapeError
from symgraph.graph.leaves import common
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.registry import F, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.sliding import pads_argument, steps_argument
from symgraph.ops.avg_pool import AvgPool
from symgraph.ops.pool import Attributes, MaxPool


def _arguments(
    name: str, value: Value, rank: int, kernel: Any, stride: Any, padding: Any, ceil_mode: bool
) -> Attributes:
    if value.ndim != rank + 2:
        raise ShapeError(
            f"{name}: `{value.label}` must have {rank + 2} axes, it has {value.ndim}.",
            details=operand_lines([value]),
            fix=f"axes are (batch, channels, {rank} sizes)",
        )
    taps = steps_argument(name, "kernel", kernel, rank)
    steps = taps if stride is None else steps_argument(name, "stride", stride, rank)
    pads = pads_argument(name, padding, value.shape[2:], taps, steps, (1,) * rank)
    if not isinstance(padding, str):
        for tap, pair in zip(taps, pads):
            if any(less(one, tap) is not True for one in pair):
                raise ArgumentError(
                    f"{name}: padding must be smaller than the window: {pair} for {tap}.",
                    fix="a window that sees only padding has no elements",
                )
    return taps, steps, pads, bool(ceil_mode)


def _max_pool(
    name: str, rank: int, x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool
) -> Value:
    (value,) = common(name, x)
    if value.dtype == "bool":
        raise DTypeError(
            f"{name}: `{value.label}` must hold numbers, not bool.",
            details=operand_lines([value]),
            fix='.cast("int8")',
        )
    return make(MaxPool(*_arguments(name, value, rank, kernel, stride, padding, ceil_mode)), value)


def _avg_pool(
    name: str, rank: int, x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool,
) -> Value:  # fmt: skip
    (value,) = common(name, x, floating=True)
    shared = _arguments(name, value, rank, kernel, stride, padding, ceil_mode)
    return make(AvgPool(*shared, bool(count_include_pad)), value)


@function_of
def max_pool1d(
    x: Any, kernel: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False
) -> Value:
    """Give the largest element under windows over (batch, channels, length); see `max_pool2d`."""
    return _max_pool("max_pool1d", 1, x, kernel, stride, padding, ceil_mode)


@function_of
def max_pool2d(
    x: Any, kernel: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False
) -> Value:
    """Give the largest element under windows over (batch, channels, height, width).

    y[n, c, p] = max over k of x[n, c, p * stride - low + k]; padding never wins, a NaN always
    does. `kernel` and `stride` (default: the kernel) are an int or one for each axis; padding is as
    in `conv2d` and smaller than the window; with `ceil_mode` the last window may hang over the
    end. The gradient goes to the first largest element in row-major order.
    Raises `ShapeError` when no window fits, `ArgumentError` for the other arguments.

    >>> max_pool2d([[[[1.0, 2.0], [4.0, 3.0]]]], 2).eval().tolist()
    [[[[4.0]]]]
    """
    return _max_pool("max_pool2d", 2, x, kernel, stride, padding, ceil_mode)


@function_of
def max_pool3d(
    x: Any, kernel: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False
) -> Value:
    """Give the largest element under windows over volumes; see `max_pool2d`."""
    return _max_pool("max_pool3d", 3, x, kernel, stride, padding, ceil_mode)


@function_of
def avg_pool1d(
    x: Any, kernel: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Value:  # fmt: skip
    """Average the elements under windows over (batch, channels, length); see `avg_pool2d`."""
    name = "avg_pool1d"
    return _avg_pool(name, 1, x, kernel, stride, padding, ceil_mode, count_include_pad)


@function_of
def avg_pool2d(
    x: Any, kernel: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Value:  # fmt: skip
    """Average the elements under windows over (batch, channels, height, width).

    y[n, c, p] = sum over k of x[n, c, p * stride - low + k], divided by the number of elements;
    with `count_include_pad` the padding counts as zeros, but not what hangs over its end.
    Arguments and errors are those of `max_pool2d`; integers become `config.float_dtype`.

    >>> avg_pool2d([[[[1.0, 2.0], [4.0, 3.0]]]], 2).eval().tolist()
    [[[[2.5]]]]
    """
    name = "avg_pool2d"
    return _avg_pool(name, 2, x, kernel, stride, padding, ceil_mode, count_include_pad)


@function_of
def avg_pool3d(
    x: Any, kernel: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Value:  # fmt: skip
    """Average the elements under windows over volumes; see `avg_pool2d`."""
    name = "avg_pool3d"
    return _avg_pool(name, 3, x, kernel, stride, padding, ceil_mode, count_include_pad)


_AXES = {1: "length", 2: "height, width", 3: "depth, height, width"}


@composite(
    samples=[sample(lambda x: F.global_avg_pool1d(x), arg(("B", 2, "W")))],
    bad=[bad(lambda x: F.global_avg_pool1d(x), arg((2, 3, 4, 5)), match="must have 3 axes")],
)
def global_avg_pool1d(x: Any, *, keepdims: bool = False) -> Value:
    """Average whole signals: (batch, channels, length) to (batch, channels).

    Keywords and errors are those of `global_avg_pool2d`.
    """
    return F.mean(_spatial("global_avg_pool1d", 1, x), axis=2, keepdims=keepdims)


@composite(
    samples=[sample(lambda x: F.global_avg_pool2d(x), arg(("B", 2, "H", "W")))],
    bad=[bad(lambda x: F.global_avg_pool2d(x), arg((2, 3, 4)), match="must have 4 axes")],
)
def global_avg_pool2d(x: Any, *, keepdims: bool = False) -> Value:
    """Average whole images: (batch, channels, height, width) to (batch, channels).

    With `keepdims` the result is (batch, channels, 1, 1). Raises `ShapeError` unless there are 4
    axes.

    >>> global_avg_pool2d([[[[1.0, 2.0], [4.0, 3.0]]]]).eval().tolist()
    [[2.5]]
    """
    return F.mean(_spatial("global_avg_pool2d", 2, x), axis=(2, 3), keepdims=keepdims)


@composite(
    samples=[sample(lambda x: F.global_avg_pool3d(x, keepdims=True), arg(("B", 2, 1, "H", "W")))],
    bad=[bad(lambda x: F.global_avg_pool3d(x), arg((2, 3, 4)), match="must have 5 axes")],
)
def global_avg_pool3d(x: Any, *, keepdims: bool = False) -> Value:
    """Average whole volumes: (batch, channels, depth, height, width) to (batch, channels)."""
    return F.mean(_spatial("global_avg_pool3d", 3, x), axis=(2, 3, 4), keepdims=keepdims)


@composite(
    samples=[sample(lambda x: F.global_max_pool1d(x), arg(("B", 2, "W"), distinct=True))],
    bad=[bad(lambda x: F.global_max_pool1d(x), arg((2, 3)), match="must have 3 axes")],
)
def global_max_pool1d(x: Any, *, keepdims: bool = False) -> Value:
    """Give the largest element of whole signals; as `global_avg_pool1d` otherwise."""
    return F.max(_spatial("global_max_pool1d", 1, x), axis=2, keepdims=keepdims)


@composite(
    samples=[sample(lambda x: F.global_max_pool2d(x), arg(("B", 2, "H", "W"), distinct=True))],
    bad=[bad(lambda x: F.global_max_pool2d(x), arg((2, 3, 4)), match="must have 4 axes")],
)
def global_max_pool2d(x: Any, *, keepdims: bool = False) -> Value:
    """Give the largest element of whole images; as `global_avg_pool2d` otherwise."""
    return F.max(_spatial("global_max_pool2d", 2, x), axis=(2, 3), keepdims=keepdims)


@composite(
    samples=[
        sample(lambda x: F.global_max_pool3d(x), arg(("B", 2, 2, "H", "W"), distinct=True)),
    ],
    bad=[bad(lambda x: F.global_max_pool3d(x), arg((2, 3, 4)), match="must have 5 axes")],
)
def global_max_pool3d(x: Any, *, keepdims: bool = False) -> Value:
    """Give the largest element of whole volumes; as `global_avg_pool3d` otherwise."""
    return F.max(_spatial("global_max_pool3d", 3, x), axis=(2, 3, 4), keepdims=keepdims)


def _spatial(name: str, rank: int, x: Any) -> Value:
    (value,) = common(name, x)
    if value.ndim != rank + 2:
        raise ShapeError(
            f"{name}: `{value.label}` must have {rank + 2} axes, it has {value.ndim}.",
            details=operand_lines([value]),
            fix=f"axes are (batch, channels, {_AXES[rank]})",
        )
    return value
