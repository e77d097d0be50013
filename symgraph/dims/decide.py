"""Three-valued questions about sizes: True, False, or None when it depends on the sizes."""

from __future__ import annotations

from math import gcd
from typing import Literal

from symgraph.dims.arithmetic import cached, modulo, subtract
from symgraph.dims.bounds import bounds
from symgraph.dims.core import Size, as_size, operations, terms_of
from symgraph.dims.periodic import range_of_one_symbol
from symgraph.dims.polynomial import exact_quotient
from symgraph.errors import UndecidedError

Relation = Literal["==", "!=", "<", "<="]


class Undecided:
    """The answer to a comparison that is true for some sizes and false for others.

    `bool()` of it raises UndecidedError naming both sides.
    """

    __slots__ = ("left", "relation", "right")

    def __init__(self, relation: Relation, left: Size, right: Size) -> None:
        self.relation = relation
        self.left = left
        self.right = right

    def __bool__(self) -> bool:
        raise UndecidedError(
            f"`{self.left} {self.relation} {self.right}` is true for some sizes and false for "
            "others.",
            fix="bind the sizes to numbers first, or use sg.dims.equal, less, less_equal or "
            "divides, which answer True, False or None",
        )

    def __repr__(self) -> str:
        return f"Undecided({self.left} {self.relation} {self.right})"


def equal(left: Size, right: Size) -> bool | None:
    """Whether `left == right` for all admissible sizes: True, for none: False, else None.

    >>> from symgraph.dims import dim
    >>> B = dim("B")
    >>> equal(B + 1, 1 + B), equal(2 * B, 3), equal(B, 3)
    (True, False, None)
    """
    if left is right:
        return True
    if type(left) is int and type(right) is int:
        return left == right
    return _is_zero(subtract(as_size(left), as_size(right)))


def less(left: Size, right: Size) -> bool | None:
    """Whether `left < right` for all admissible sizes: True, for none: False, else None."""
    if type(left) is int and type(right) is int:
        return left < right
    return _is_positive(subtract(as_size(right), as_size(left)))


def less_equal(left: Size, right: Size) -> bool | None:
    """Whether `left <= right` for all admissible sizes: True, for none: False, else None."""
    if type(left) is int and type(right) is int:
        return left <= right
    greater = _is_positive(subtract(as_size(left), as_size(right)))
    return None if greater is None else not greater


def divides(divisor: Size, size: Size) -> bool | None:
    """Whether `size` is a multiple of `divisor`, for all admissible sizes, for none, or None.

    0 divides only 0.

    >>> from symgraph.dims import dims
    >>> B, C = dims("B C")
    >>> divides(B, B * C), divides(2, 2 * B + 1), divides(2, B)
    (True, False, None)
    """
    divisor, size = as_size(divisor), as_size(size)
    if type(divisor) is int:
        if divisor == 0:
            return equal(size, 0)
        if type(size) is int:
            return size % divisor == 0
        return _is_zero(modulo(size, divisor))
    if type(size) is int and size == 0:
        return True
    if exact_quotient(terms_of(size), terms_of(divisor)) is not None:
        return True
    low, high = bounds(divisor)
    if (low is not None and low >= 1) or (high is not None and high <= -1):
        return _is_zero(modulo(size, divisor))
    return None


@cached
def _is_zero(difference: Size) -> bool | None:
    if type(difference) is int:
        return difference == 0
    low, high = bounds(difference)
    if low is not None and low == high:
        return low == 0
    if (low is not None and low > 0) or (high is not None and high < 0):
        return False
    terms = terms_of(difference)
    constant = terms.get((), 0)
    if constant and constant % gcd(*(value for mono, value in terms.items() if mono)):
        return False
    exact = range_of_one_symbol(difference)
    if exact is None:
        return None
    if not exact.hits_zero:
        return False
    return True if exact.low == exact.high == 0 else None


@cached
def _is_positive(difference: Size) -> bool | None:
    if type(difference) is int:
        return difference > 0
    low, high = bounds(difference)
    if low is not None and low > 0:
        return True
    if high is not None and high <= 0:
        return False
    exact = range_of_one_symbol(difference)
    if exact is None:
        return None
    if exact.low is not None and exact.low > 0:
        return True
    return False if exact.high is not None and exact.high <= 0 else None


_MIRROR: dict[str, Relation] = {"==": "==", "!=": "!=", "<": "<", "<=": "<="}


def compare(relation: str, left: Size, right: Size) -> bool | Undecided:
    """`left relation right`, decided for all admissible sizes, else an `Undecided`."""
    if relation == "==":
        answer = equal(left, right)
    elif relation == "!=":
        same = equal(left, right)
        answer = None if same is None else not same
    elif relation == "<":
        answer = less(left, right)
    else:
        answer = less_equal(left, right)
    return Undecided(_MIRROR[relation], left, right) if answer is None else answer


operations.compare = compare
