"""The size rule of Python slices."""

from __future__ import annotations

from symgraph.dims.arithmetic import ceil_div
from symgraph.dims.core import Size, as_size
from symgraph.dims.decide import less, less_equal
from symgraph.dims.extrema import maximum, minimum
from symgraph.dims.guards import require_less_equal
from symgraph.errors import DimError


def slice_length(
    size: Size, start: Size | None, stop: Size | None, step: Size | None = None
) -> tuple[Size, Size]:
    """(first index, number of elements) of `x[start:stop:step]` on an axis of `size`.

    Exactly Python's meaning: a negative bound counts from the end, bounds beyond the ends are cut
    off. A symbolic bound is taken to be >= 0, with a guard unless that is proven.

    >>> from symgraph.dims import dim
    >>> slice_length(dim("B"), 1, None), slice_length(dim("B"), None, -1)
    ((1, B - 1), (0, B - 1))
    """
    size = as_size(size)
    stride = 1 if step is None else as_size(step, "the step of a slice")
    if type(stride) is not int:
        raise DimError(f"the step of a slice must be a number, not the size `{stride}`.")
    if stride == 0:
        raise DimError("the step of a slice must not be 0.")
    first, last = _bound(start, "start"), _bound(stop, "stop")
    if stride > 0:
        return _forward(size, first, last, stride)
    return _backward(size, first, last, -stride)


def _bound(value: Size | None, what: str) -> Size | None:
    if value is None:
        return None
    bound = as_size(value, f"the {what} of a slice")
    if type(bound) is int or less(bound, 0):
        return bound
    if not less_equal(0, bound):
        require_less_equal(0, bound, f"the {what} of a slice is counted from the front")
    return bound


def _is_from_end(bound: Size) -> bool:
    return bound < 0 if type(bound) is int else less(bound, 0) is True


def _forward(size: Size, start: Size | None, stop: Size | None, step: int) -> tuple[Size, Size]:
    # The upper end of `start` and the lower end of `stop` need no cut for the length: beyond
    # them the length is negative and becomes 0 anyway.
    if start is None:
        start = 0
    elif _is_from_end(start):
        start = maximum(start + size, 0)
    if stop is None:
        stop = size
    elif _is_from_end(stop):
        stop = stop + size
    else:
        stop = minimum(stop, size)
    return minimum(start, size), maximum(ceil_div(stop - start, step), 0)


def _backward(size: Size, start: Size | None, stop: Size | None, step: int) -> tuple[Size, Size]:
    if start is None:
        start = size - 1
    elif _is_from_end(start):
        start = start + size
    else:
        start = minimum(start, size - 1)
    if stop is None:
        stop = -1
    elif _is_from_end(stop):
        stop = maximum(stop + size, -1)
    return maximum(start, -1), maximum(ceil_div(start - stop, step), 0)
