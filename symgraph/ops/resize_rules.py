"""Which places of an axis a place of the resized axis sees, and how much each counts.

An axis of `size` places becomes one of `out` places. All is exact arithmetic of whole numbers on
sizes and places, written once for arrays, for scalars (which become code) and for plain ints; one
division at the end gives a weight. `Rule.first` and `taps` bound the places that a result sees;
`back_first` and `back_taps` bound the results that see a place, for the transpose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from symgraph.dims import Size, ceil_div, maximum
from symgraph.frozen import frozen

Number = Any  # an int, an int64 array or scalar, or a size


@frozen
class Rule:
    """One way to resize an axis; every function takes `m` (max, min, abs) where it needs it.

    The weight of place q for result p is `weight(m, p, q, size, out)`: a pair of whole numbers,
    numerator and denominator, where the numerator is <= 0 for places that are not seen.
    """

    first: Callable[[Any, Number, Number, Number], Number]
    taps: Callable[[Size, Size], Size]
    back_first: Callable[[Any, Number, Number, Number], Number]
    back_taps: Callable[[Size, Size], Size]
    weight: Callable[[Any, Number, Number, Number, Number], tuple[Number, Number]]


def _is(m: Any, first: Number, second: Number) -> Number:
    """Give 1 where two whole numbers are equal, else something <= 0."""
    return 1 - m.abs(first - second)


def _nearest_weight(m: Any, p: Number, q: Number, size: Number, out: Number) -> Any:
    return _is(m, p * size // out, q), None


def _exact_weight(m: Any, p: Number, q: Number, size: Number, out: Number) -> Any:
    return _is(m, (2 * p + 1) * size // (2 * out), q), None


def _half(m: Any, p: Number, size: Number, out: Number) -> Number:
    """Give 2 * out times the place of the middle of p, within the middles of the first and last."""
    return m.min(m.max((2 * p + 1) * size - out, 0), 2 * out * (size - 1))


def _linear_weight(m: Any, p: Number, q: Number, size: Number, out: Number) -> Any:
    return 2 * out - m.abs(_half(m, p, size, out) - 2 * out * q), 2 * out


def _corners_weight(m: Any, p: Number, q: Number, size: Number, out: Number) -> Any:
    steps = m.max(out - 1, 1)
    return steps - m.abs(p * (size - 1) - steps * q), steps


def _ceil(number: Size, divisor: Size) -> Size:
    """Give their quotient, rounded up. What is no window has a size of 0, and is never computed."""
    return ceil_div(number, maximum(divisor, 1))


def _area(p: Number, size: Number, out: Number) -> tuple[Number, Number]:
    """Give where the window of p starts and ends: from floor(p size / out) to below its ceiling."""
    return p * size // out, ((p + 1) * size + (out - 1)) // out


def _area_weight(m: Any, p: Number, q: Number, size: Number, out: Number) -> Any:
    start, end = _area(p, size, out)
    return m.min(1, m.min(q - start + 1, end - q)), end - start


RULES: dict[str, Rule] = {
    # y[p] = x[floor(p size / out)]
    "nearest": Rule(
        lambda m, p, size, out: p * size // out,
        lambda size, out: 1,
        lambda m, q, size, out: (q * out + (size - 1)) // size,
        lambda size, out: _ceil(out, size),
        _nearest_weight,
    ),
    # y[p] = x[floor((p + 1/2) size / out)]
    "nearest-exact": Rule(
        lambda m, p, size, out: (2 * p + 1) * size // (2 * out),
        lambda size, out: 1,
        lambda m, q, size, out: (2 * q * out + (size - 1)) // (2 * size),
        lambda size, out: _ceil(out, size) + 1,
        _exact_weight,
    ),
    # between the two middles next to (p + 1/2) size / out - 1/2
    "linear": Rule(
        lambda m, p, size, out: _half(m, p, size, out) // (2 * out),
        lambda size, out: 2,
        lambda m, q, size, out: m.max((2 * out * q - out - size) // (2 * size) + 1, 0),
        lambda size, out: _ceil(2 * out, size) + 1,
        _linear_weight,
    ),
    # between the two places next to p (size - 1) / (out - 1): the ends stay the ends
    "corners": Rule(
        lambda m, p, size, out: p * (size - 1) // m.max(out - 1, 1),
        lambda size, out: 2,
        lambda m, q, size, out: m.max(
            (q - 1) * m.max(out - 1, 1) // m.max(size - 1, 1) + 1, 0
        ),
        lambda size, out: 2 * maximum(out - 1, 1) // maximum(size - 1, 1) + 2,
        _corners_weight,
    ),
    # the average from floor(p size / out) to ceil((p + 1) size / out)
    "area": Rule(
        lambda m, p, size, out: p * size // out,
        lambda size, out: _ceil(size, out) + 1,
        lambda m, q, size, out: q * out // size,
        lambda size, out: _ceil(out, size) + 1,
        _area_weight,
    ),
}  # fmt: skip
