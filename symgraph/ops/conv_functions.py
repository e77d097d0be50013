"""What users call for convolutions: arguments in one form, then one operation of `conv`."""

from __future__ import annotations

from typing import Any

from symgraph.errors import ArgumentError, ShapeError
from symgraph.graph.arguments import plain_int
from symgraph.graph.leaves import common
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.registry import function_of
from symgraph.graph.sliding import pads_argument, steps_argument
from symgraph.ops.conv import Conv, ConvInput


def _operands(name: str, rank: int, x: Any, w: Any, groups: Any) -> tuple[Value, Value, int]:
    """Give both operands in one float dtype, checked as far as `infer` cannot name the fault."""
    images, filters = common(name, x, w, floating=True)
    for value in (images, filters):
        if value.ndim != rank + 2:
            raise ShapeError(
                f"{name}: `{value.label}` must have {rank + 2} axes, it has {value.ndim}.",
                details=operand_lines([images, filters]),
                fix=f"images are (batch, channels, {rank} sizes), filters (filters, channels / "
                f"groups, {rank} sizes)",
            )
    count = plain_int(name, "groups", groups)
    if count < 1:
        raise ArgumentError(f"{name}: groups must be >= 1, got {count}.", fix="groups=1")
    return images, filters, count


def _conv(
    name: str, rank: int, x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Value:
    images, filters, count = _operands(name, rank, x, w, groups)
    steps = steps_argument(name, "stride", stride, rank)
    gaps = steps_argument(name, "dilation", dilation, rank)
    pads = pads_argument(name, padding, images.shape[2:], filters.shape[2:], steps, gaps)
    return make(Conv(steps, pads, gaps, count), images, filters)


def _conv_transpose(
    name: str, rank: int, x: Any, w: Any, stride: Any, padding: Any, output_padding: Any,
    dilation: Any, groups: Any,
) -> Value:  # fmt: skip
    images, filters, count = _operands(name, rank, x, w, groups)
    steps = steps_argument(name, "stride", stride, rank)
    gaps = steps_argument(name, "dilation", dilation, rank)
    if isinstance(padding, str):
        raise ArgumentError(
            f"{name}: padding must be numbers, got {padding!r}.",
            fix="padding and output_padding together choose the size of the result",
        )
    kernel = filters.shape[2:]
    pads = pads_argument(name, padding, images.shape[2:], kernel, steps, gaps)
    extra = [high for _, high in pads_argument(name, output_padding, kernel, kernel, steps, gaps)]
    sizes = tuple(
        (size - 1) * s + d * (k - 1) + 1 - low - high + e
        for size, k, s, d, (low, high), e in zip(images.shape[2:], kernel, steps, gaps, pads, extra)
    )
    return make(ConvInput(steps, pads, gaps, count, sizes), images, filters)


@function_of
def conv1d(
    x: Any, w: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Value:
    """Convolve sequences (batch, channels, length) with filters; see `conv2d`."""
    return _conv("conv1d", 1, x, w, stride, padding, dilation, groups)


@function_of
def conv2d(
    x: Any, w: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Value:
    """Convolve images (batch, channels, height, width) with filters, which are not reversed.

    y[n, o, p] = sum over c, k of x[n, c, p * stride - low + k * dilation] w[o, c, k], 0 outside of
    x. Filters are (filters, channels / groups, height, width); the filters of each group see the
    channels of that group. Stride and dilation are an int or one for each axis. Padding is a size,
    one for each axis, ((top, bottom), (left, right)), "valid" (none), or "same" (ceil(size /
    stride) positions, the odd one at the end).
    Raises `ShapeError` when the operands do not fit, `ArgumentError` for the other arguments.

    >>> import symgraph as sg
    >>> sg.conv2d(sg.zeros((8, 3, 227, 227)), sg.zeros((96, 3, 11, 11)), stride=4).shape
    (8, 96, 55, 55)
    """
    return _conv("conv2d", 2, x, w, stride, padding, dilation, groups)


@function_of
def conv3d(
    x: Any, w: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Value:
    """Convolve volumes (batch, channels, depth, height, width) with filters; see `conv2d`."""
    return _conv("conv3d", 3, x, w, stride, padding, dilation, groups)


@function_of
def conv_transpose1d(
    x: Any, w: Any, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Value:  # fmt: skip
    """Convolve sequences the other way round; see `conv_transpose2d`."""
    name = "conv_transpose1d"
    return _conv_transpose(name, 1, x, w, stride, padding, output_padding, dilation, groups)


@function_of
def conv_transpose2d(
    x: Any, w: Any, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Value:  # fmt: skip
    """Give the gradient of `conv2d` by its input, as an operation of its own.

    `x` is (batch, filters, height, width), `w` (filters, channels / groups, height, width), the
    result has (size - 1) * stride + dilation * (kernel - 1) + 1 - padding + output_padding places
    along an axis. Raises as `conv2d` does; padding is given in numbers.
    """
    name = "conv_transpose2d"
    return _conv_transpose(name, 2, x, w, stride, padding, output_padding, dilation, groups)


@function_of
def conv_transpose3d(
    x: Any, w: Any, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Value:  # fmt: skip
    """Convolve volumes the other way round; see `conv_transpose2d`."""
    name = "conv_transpose3d"
    return _conv_transpose(name, 3, x, w, stride, padding, output_padding, dilation, groups)
