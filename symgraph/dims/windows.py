"""Size rules of sliding windows: convolution and pooling."""

from __future__ import annotations

from symgraph.dims.arithmetic import ceil_div
from symgraph.dims.core import Size, as_size
from symgraph.dims.decide import less_equal
from symgraph.dims.extrema import maximum, minimum
from symgraph.dims.guards import for_every, require_less_equal
from symgraph.errors import DimError


def window(
    size: Size,
    kernel: Size,
    stride: Size = 1,
    pad_low: Size = 0,
    pad_high: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Size:
    """The number of positions of a window on an axis.

    `(size + pad_low + pad_high - dilation*(kernel - 1) - 1)//stride + 1`; with `ceil_mode` the
    last window may hang over the end, but must start inside the input or the padding before it.
    Raises DimError when no window fits; records a guard when that depends on the size.

    >>> window(227, 11, stride=4), window(224, 7, 2, 3, 3), window(6, 3, 2, ceil_mode=True)
    (55, 112, 3)
    """
    _check_at_least_one(kernel, stride, dilation)
    padded = as_size(size) + pad_low + pad_high
    extent = dilation * (kernel - 1) + 1
    if not ceil_mode:
        _check_fits(extent, padded, size, kernel)
        return (padded - extent) // stride + 1
    last = minimum(ceil_div(padded - extent, stride), (size + pad_low - 1) // stride)
    if less_equal(0, last) is False:
        raise DimError(f"no window of {kernel} fits into the size {size}{for_every(last)}.")
    require_less_equal(0, last, f"a window of {kernel} must fit into the size {size}")
    return last + 1


def _check_at_least_one(kernel: Size, stride: Size, dilation: Size) -> None:
    for name, value in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        if type(value) is int and value >= 1:
            continue
        if less_equal(1, as_size(value, f"the {name} of a window")) is not True:
            raise DimError(f"the {name} of a window must be >= 1, not {value}.")


def _check_fits(extent: Size, padded: Size, size: Size, kernel: Size) -> None:
    if type(extent) is int and type(padded) is int and extent <= padded:
        return
    if less_equal(extent, padded) is False:
        raise DimError(
            f"a window of {kernel} (extent {extent}) does not fit into the size {size} "
            f"(padded {padded}){for_every(extent, padded)}.",
            fix="use a larger input, more padding or a smaller kernel",
        )
    require_less_equal(extent, padded, f"a window of {kernel} must fit into the size {size}")


def same_padding(
    size: Size, kernel: Size, stride: Size = 1, dilation: Size = 1
) -> tuple[Size, Size]:
    """(low, high) padding for which the output has `ceil(size/stride)` positions.

    As in TensorFlow and ONNX SAME_UPPER: the odd one goes to the end. With stride 1 the result
    does not depend on the size.

    >>> same_padding(5, 3), same_padding(6, 3, stride=2)
    ((1, 1), (0, 1))
    """
    _check_at_least_one(kernel, stride, dilation)
    extent = dilation * (kernel - 1) + 1
    total = maximum((ceil_div(size, stride) - 1) * stride + extent - size, 0)
    low = total // 2
    return low, total - low
