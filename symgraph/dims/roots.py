"""Integer roots of integer polynomials, exactly."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def integer_roots(coefficients: Sequence[int]) -> list[int]:
    """All integers t with `c[0] + c[1]*t + c[2]*t**2 + ... == 0`, ascending.

    >>> integer_roots((-6, 1, 1))
    [-3, 2]
    """
    trimmed = list(coefficients)
    while trimmed and trimmed[-1] == 0:
        trimmed.pop()
    if len(trimmed) < 2:
        return []
    reach = 1 + max(abs(c) for c in trimmed[:-1]) // abs(trimmed[-1]) + 1  # Cauchy's bound
    return [t for t in _turns(trimmed, -reach, reach) if _value(trimmed, t) == 0]


def _value(coefficients: Sequence[int], t: int) -> int:
    result = 0
    for coefficient in reversed(coefficients):
        result = result * t + coefficient
    return result


def _turns(coefficients: list[int], low: int, high: int) -> list[int]:
    """Integers in low..high that hold every root, and both neighbours of every sign change."""
    if len(coefficients) == 1:
        return [low, high]
    slopes = [power * c for power, c in enumerate(coefficients)][1:]
    marks = sorted({low, high, *_turns(slopes, low, high)})
    found = set(marks)
    # Between neighbouring marks the slope keeps its sign: at most one sign change, found by halves.
    for left, right in itertools.pairwise(marks):
        below = _value(coefficients, left) > 0
        if below == (_value(coefficients, right) > 0):
            continue
        while right - left > 1:
            middle = (left + right) // 2
            if (_value(coefficients, middle) > 0) == below:
                left = middle
            else:
                right = middle
        found.update((left, right))
    return sorted(found)
