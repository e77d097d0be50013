"""Windows that slide over axes, for convolution and pooling: their arguments and their indices.

At position p of its result a window sees, through tap k, the place p * stride - low + k * dilation,
where `low` is the padding before the axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.dims import Size, less, same_padding
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.graph.arguments import plain_int, plain_size
from symgraph.graph.index import Axis, inside, position
from symgraph.graph.scalar import Scalar

Pads = tuple[tuple[Size, Size], ...]


def steps_argument(name: str, what: str, value: Any, rank: int) -> tuple[int, ...]:
    """Give one int >= 1 for each spatial axis, from one for all or a sequence of them.

    Raises `ArgumentError` for a wrong length or an int below 1, `ArgumentTypeError` otherwise.

    >>> steps_argument("conv2d", "stride", 2, 2)
    (2, 2)
    """
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else None
    found = tuple(plain_int(name, what, one) for one in (several or (value,)))
    if several is None:
        found *= rank
    if len(found) != rank or any(one < 1 for one in found):
        raise ArgumentError(
            f"{name}: {what} must be an int >= 1, or {rank} of them, got {value!r}.",
            fix=f"e.g. {what}=1 or {what}={(1,) * rank}",
        )
    return found


def pads_argument(
    name: str,
    value: Any,
    sizes: Sequence[Size],
    kernel: Sequence[Size],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Pads:
    """Give (before, after) for each spatial axis.

    `value` is one size for all sides, a sequence with a size or a pair for each axis, "valid"
    (none) or "same" (the result has ceil(size / stride) positions; the odd one goes to the end).
    Raises `ArgumentError` or `ArgumentTypeError` for anything else.
    """
    if isinstance(value, str):
        if value == "valid":
            return ((0, 0),) * len(sizes)
        if value == "same":
            return tuple(map(same_padding, sizes, kernel, stride, dilation))
        raise ArgumentError(
            f'{name}: padding must be "same", "valid" or numbers, got {value!r}.',
            fix='padding=1, padding=(1, 2), padding=((1, 2), (0, 1)) or padding="same"',
        )
    each = value if isinstance(value, Sequence) else (value,) * len(sizes)
    if len(each) != len(sizes):
        raise ArgumentError(
            f"{name}: padding must have one entry for each of {len(sizes)} axes, got {value!r}.",
            fix="each entry is a number or a pair (before, after)",
        )
    return tuple(_pair(name, one) for one in each)


def _pair(name: str, value: Any) -> tuple[Size, Size]:
    both = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(both) != 2 or isinstance(value, str):
        raise ArgumentTypeError(
            f"{name}: the padding of an axis must be a number or a pair, got {value!r}.",
            fix="a pair is (before, after)",
        )
    low, high = (plain_size(name, "a padding", one) for one in both)
    for one in (low, high):
        if less(one, 0) is not False:
            raise ArgumentError(f"{name}: padding must be >= 0, got {one}.", fix="cut with x[...]")
    return low, high


def is_zero(size: Size) -> bool:
    """Tell whether a size is the number 0."""
    return isinstance(size, int) and size == 0


def places_seen(
    positions: Sequence[Axis],
    taps: Sequence[Axis],
    sizes: Sequence[Size],
    stride: Sequence[int],
    padding: Pads,
    dilation: Sequence[int],
    overhang: bool = False,
) -> tuple[list[Scalar], Scalar | None]:
    """Give the places that windows see, and whether they lie inside (None: they always do).

    With `overhang` the last window may hang over the end without padding there.
    """
    places: list[Scalar] = []
    guard: Scalar | None = None
    for p, k, size, step, (low, high), gap in zip(
        positions, taps, sizes, stride, padding, dilation
    ):
        place = _times(p, step) + _times(k, gap)
        if not is_zero(low):
            place = place - position(low)
        places.append(place)
        if overhang or not (is_zero(low) and is_zero(high)):
            guard = both(guard, inside(place, size))
    return places, guard


def windows_over(
    places: Sequence[Axis],
    taps: Sequence[Axis],
    counts: Sequence[Size],
    stride: Sequence[int],
    padding: Pads,
    dilation: Sequence[int],
) -> tuple[list[Scalar], Scalar]:
    """Give the positions whose windows see places through taps, and whether there is such one."""
    found: list[Scalar] = []
    guard: Scalar | None = None
    for q, k, count, step, (low, _), gap in zip(places, taps, counts, stride, padding, dilation):
        start = q - _times(k, gap)
        if not is_zero(low):
            start = start + position(low)
        if step != 1:
            guard = both(guard, (start % step) == position(0))
            start = start // step
        found.append(start)
        guard = both(guard, inside(start, count))
    return found, guard if guard is not None else position(0) == position(0)


def both(first: Scalar | None, second: Scalar) -> Scalar:
    """Give the conjunction of two conditions, of which the first may be missing."""
    return second if first is None else first & second


def _times(place: Axis, factor: int) -> Scalar:
    return place.scalar() if factor == 1 else place * factor
